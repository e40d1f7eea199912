"""Settings: the file, then the environment, then flags; each value from where the later one says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snapshotd.__main__ import main
from snapshotd.domain.policy import Policy
from snapshotd.from_settings import policy_of
from snapshotd.settings import KEYS, Key, Settings, SettingsInvalid, load
from snapshotd.transport_settings import ALLOW_LIST


def test_the_defaults_are_the_policys_own() -> None:
    assert policy_of(load(None, {}, {})) == Policy()


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "snapshotd.toml"
    file.write_text('[snapshots]\nmax_per_vm = 3\n[retries]\nfirst = "3 s"\nlongest = "3 min"\n', encoding="utf-8")
    environ = {"SNAPSHOTD_SNAPSHOTS_MAX_PER_VM": "4", "SNAPSHOTD_RETRIES_FIRST": "4 s", "SNAPSHOTD_OTHER": "x"}
    settings = load(file, environ, {"snapshots.max_per_vm": "5"})
    assert settings.count("snapshots.max_per_vm") == 5
    assert settings.seconds("retries.first") == 4.0
    assert settings.seconds("retries.longest") == 180.0
    assert [settings.sources[f"retries.{k}"] for k in ("first", "longest", "max_attempts")] == [
        "$SNAPSHOTD_RETRIES_FIRST",
        str(file),
        "default",
    ]


def test_a_file_that_is_nested_without_end_is_refused_like_any_that_is_not_toml(tmp_path: Path) -> None:
    (file := tmp_path / "snapshotd.toml").write_text(f"a = {'[' * 5000}", encoding="utf-8")
    with pytest.raises(SettingsInvalid, match="it is not TOML: maximum recursion"):
        load(file, {}, {})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_was_saved_on_windows_is_read_without_its_mark(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "snapshotd.toml"
    file.write_bytes("[snapshots]\r\nmax_per_vm = 3\r\n".encode(encoding))
    assert load(file, {}, {}).count("snapshots.max_per_vm") == 3


@pytest.mark.parametrize("key", KEYS, ids=lambda k: k.name)
def test_each_default_is_written_as_the_file_would_have_it(key: Key) -> None:
    assert (key.default is None) == (load(None, {}, {}).values[key.name] is None)


@pytest.mark.parametrize(("text", "seconds"), [("90 s", 90.0), ("1.5h", 5400.0), ("500 ms", 0.5), (" 2 min ", 120.0)])
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert load(None, {}, {"snapshots.create_wait": text}).seconds("snapshots.create_wait") == seconds


def test_zero_turns_the_interval_of_comparisons_off(tmp_path: Path) -> None:
    file = tmp_path / "snapshotd.toml"
    file.write_text("[hosts]\nsync_interval = 0\n", encoding="utf-8")
    assert load(file, {}, {}).seconds("hosts.sync_interval") == 0
    assert load(None, {}, {"hosts.sync_interval": "0"}).seconds("hosts.sync_interval") == 0
    assert load(None, {}, {}).seconds("hosts.sync_interval") == 300


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:0", "127.5.5.5:7443", "[::1]:7443", "localhost:7443", "unix:/run/s.sock", "unix:///run/s.sock"],
)
def test_what_only_this_machine_reaches_may_be_served_on_and_attached_to(address: str) -> None:
    settings = load(None, {}, {"server.listen": address, "executor.server": address})
    assert [settings.text("server.listen"), settings.text("executor.server")] == [address, address]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("retries.first", "90"),
        ("retries.first", "0 s"),
        ("retries.first", "-1 s"),
        ("retries.first", "1 w"),
        ("hosts.sync_interval", "-1 s"),
        ("hosts.sync_interval", "never"),
        ("snapshots.max_per_vm", "1.5"),
        ("server.listen", "7443"),
        ("server.listen", "127.0.0.1:99999"),
        ("server.listen", "10.0.0.1:7443"),
        ("server.listen_mtls", "unix:/run/s.sock"),
        ("auth.mode", "none"),
        ("server.listen", "127.evil.com:7443"),
        ("server.listen", "127.5.5.5.5:0"),
        ("server.listen", "localhost.evil.com:7443"),
        ("server.listen", "unix:"),
        ("server.listen", "unix:/"),
        ("server.listen", "unix:run/snapshotd.sock"),
        ("executor.server", "127.evil.com:7443"),
        ("executor.server", "[::2]:7443"),
        ("executor.in_process", "yes"),
        ("executor.hosts", ","),
        ("executor.hosts", "HV 01"),
        ("executor.hosts", "*,hv01"),
        ("executor.shell_idle", "9 s"),
        ("snapshots.max_per_vm", "51"),
        ("snapshots.create_wait", "721 h"),
        ("executor.credentials", "~nobody-of-that-name/credentials"),
        ("storage.directory", ""),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_its_name_and_itself(name: str, text: str) -> None:
    with pytest.raises(SettingsInvalid, match=re.escape(f"{name} = {text!r}")):
        load(None, {}, {name: text})


FILES = {"server.certificate": "/c.pem", "server.key": "/c.key"}
REQUIRED = {**FILES, "auth.mode": "required"}
KEY = {"executor.key": "/k"}
ALLOWED = [line.strip() for line in ALLOW_LIST.splitlines()]


@pytest.mark.parametrize(
    "flags",
    [
        {"server.listen": "0.0.0.0:7443", **REQUIRED},
        {"server.listen": "[::]:7443", **REQUIRED},
        {"server.listen": "hv.example.com:7443", **REQUIRED},
        {"server.listen_mtls": "0.0.0.0:7444", "server.executor_ca": "/e.pem", **REQUIRED},
        {"server.listen_mtls": "127.0.0.1:7444", "server.user_ca": "/u.pem", **FILES},
        {"server.listen": "127.0.0.1:7443", **FILES},
        {"executor.server": "hv.example.com:7444", "executor.ca": "/s.pem", "executor.allow": "/a.toml"},
        {"executor.ca": "/s.pem", "executor.certificate": "/e.pem", "executor.key": "/e.key"},
    ],
)
def test_what_others_reach_may_be_used_with_tls_and_authentication(flags: dict[str, str]) -> None:
    settings = load(None, {}, flags)
    assert {str(settings.values[name]) for name in flags} == set(flags.values())


@pytest.mark.parametrize(
    ("flags", "name", "lines"),
    [
        (
            {"server.listen": "0.0.0.0:7443"},
            "server.listen = '0.0.0.0:7443'",
            [
                *("[server]", 'certificate = "/etc/snapshotd/server.pem"', 'key = "/etc/snapshotd/server.key"'),
                *("[auth]", 'mode = "required"'),
            ],
        ),
        ({"server.listen": "hv.example.com:1", **FILES}, "server.listen = 'hv.", ["[auth]", 'mode = "required"']),
        ({"server.listen": "[::]:1", **FILES, "auth.mode": "trust"}, "server.listen", ["[auth]", 'mode = "required"']),
        (
            {"server.listen_mtls": "10.0.0.1:1", "server.user_ca": "/u", **FILES},
            "server.listen_mtls",
            ["[auth]", 'mode = "required"'],
        ),
        ({"server.certificate": "/c.pem"}, "server.certificate", ["[server]", 'key = "/etc/snapshotd/server.key"']),
        ({"executor.key": "/c.key"}, "executor.key", ["[executor]", 'certificate = "/etc/snapshotd/executor.pem"']),
        (
            {"server.listen_mtls": "127.0.0.1:1", **FILES},
            "server.listen_mtls",
            ["[server]", 'executor_ca = "/etc/snapshotd/executors-ca.pem"'],
        ),
        ({"server.user_ca": "/u.pem", **FILES}, "server.user_ca", ["[server]", 'listen_mtls = "0.0.0.0:7444"']),
        (
            {"executor.server": "10.0.0.1:7444"},
            "executor.server = '10.0.0.1:7444'",
            [
                *("[executor]", 'ca = "/etc/snapshotd/servers-ca.pem"'),
                *('certificate = "/etc/snapshotd/executor.pem"', 'key = "/etc/snapshotd/executor.key"'),
                *('allow = "/etc/snapshotd/allow.toml"', *ALLOWED),
            ],
        ),
        (
            {
                "executor.server": "10.0.0.1:7444",
                "executor.ca": "/c",
                "executor.certificate": "/e",
                "executor.key": "/k",
            },
            "executor.server = '10.0.0.1:7444'",
            ["[executor]", 'allow = "/etc/snapshotd/allow.toml"', *ALLOWED],
        ),
        (
            {"executor.certificate": "/e.pem", "executor.key": "/e.key"},
            "executor.certificate",
            ["[executor]", 'ca = "/etc/snapshotd/servers-ca.pem"'],
        ),
    ],
)
def test_what_lacks_tls_or_authentication_is_refused_with_the_lines_to_write(
    flags: dict[str, str], name: str, lines: list[str]
) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(None, {}, flags)
    first, *written = str(refused.value).splitlines()
    assert first.startswith(f"Cannot use {name}")
    assert [line.strip() for line in written] == lines


def test_a_first_back_off_above_the_longest_is_refused_with_both() -> None:
    with pytest.raises(
        SettingsInvalid,
        match=re.escape("Cannot use retries.first = 90 s from --retries-first: it is above retries.longest"),
    ):
        load(None, {}, {"retries.first": "90 s"})
    assert load(None, {}, {"retries.first": "90 s", "retries.longest": "90 s"}).seconds("retries.first") == 90.0


def test_what_is_at_its_limit_is_taken() -> None:
    settings = load(
        None, {}, {"snapshots.max_per_vm": "50", "executor.shell_idle": "10 s", "snapshots.merge_stall": "720 h"}
    )
    assert (settings.count("snapshots.max_per_vm"), settings.seconds("executor.shell_idle")) == (50, 10.0)


def test_a_tilde_in_a_path_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/operator")
    settings = load(None, {}, {"storage.directory": "~/storage", "executor.credentials": "~/credentials"})
    assert settings.path("storage.directory") == Path("/home/operator/storage")
    assert settings.path("executor.credentials") == Path("/home/operator/credentials")


def test_hosts_that_either_flag_names_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, ...]] = []

    def note(settings: Settings) -> int:
        told.append(settings.names("executor.hosts"))
        return 0

    monkeypatch.setattr("snapshotd.executor_bootstrap.run", note)
    assert main(["executor", "--executor-hosts", "hv01", "--host", "hv02", "--host", "hv03"]) == 0
    assert told == [("hv01", "hv02", "hv03")]
