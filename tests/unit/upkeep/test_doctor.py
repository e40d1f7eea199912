"""Each check of the doctor finds what is well and what is not, and says what to do; it shows no secret."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest

from snapshotd.__main__ import main
from snapshotd.api.v1.admin_pb2 import GetStatusResponse, HostState, OverdueOperation, Problem
from snapshotd.api.v1.operation_pb2 import Wait
from snapshotd.domain.state import replace
from snapshotd.setting_values import Value
from snapshotd.settings import Settings, SettingsInvalid, load
from snapshotd.store.sqlite_log import SqliteEventLog
from snapshotd.upkeep import file_checks, install_checks, service_checks, storage_checks
from snapshotd.upkeep.doctor import CHECKS, as_text, examine
from snapshotd.upkeep.findings import Check, Finding, Ground, Level
from tests.contract.logs import STREAM, new
from tests.integration.test_parts import running
from tests.unit.upkeep.authorities import NOW, Authority

OK, WARNING, ERROR = Level.OK, Level.WARNING, Level.ERROR
SECRET = "canary-5f2c"


def ground(
    tmp_path: Path, files: Mapping[str, Path] | None = None, *, serves: bool = True, deep: bool = False
) -> Ground:
    """Return what is looked at; `files` by settings."""
    plain = load(None, {}, {"storage.directory": str(tmp_path / "storage"), "server.listen": "127.0.0.1:0"})
    settings = Settings({**plain.values, **(files or {})}, plain.sources)
    return Ground(settings=settings, environ={}, now=NOW, serves=serves, deep=deep)


def with_value(settings: Settings, name: str, value: Value, source: str = "snapshotd.toml") -> Settings:
    """Return settings with another value for one of them."""
    return Settings({**settings.values, name: value}, {**settings.sources, name: source})


def told(check: Check, looked_at: Ground) -> list[tuple[Level, str]]:
    """Return what a check finds."""
    return [(one.level, one.text) for one in check(looked_at)]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    path = tmp_path / "storage"
    path.mkdir(mode=0o700)
    return path


def test_the_storage_directory_is_there_and_its_owners_or_can_be_made(tmp_path: Path) -> None:
    ((level, text),) = told(storage_checks.directory, ground(tmp_path))
    assert (level, "the first start makes it" in text) == (OK, True)
    path = tmp_path / "storage"
    path.mkdir(mode=0o700)
    ((level, text),) = told(storage_checks.directory, ground(tmp_path))
    assert (level, "only" in text) == (OK, True)
    path.chmod(0o755)
    ((level, text),) = told(storage_checks.directory, ground(tmp_path))
    assert (level, f"has mode 755: others may look into it. Run chmod 700 {path}" in text) == (WARNING, True)
    path.rmdir()
    path.touch()
    assert told(storage_checks.directory, ground(tmp_path))[0] == (
        ERROR,
        f"{path} is not a directory. Set storage.directory to one.",
    )


def test_a_file_of_another_owner_is_found(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (storage / "events.db").touch()
    monkeypatch.setattr(os, "geteuid", lambda: storage.stat().st_uid + 1)
    *_, (level, text) = told(storage_checks.directory, ground(tmp_path))
    assert (level, "Run this as that" in text) == (ERROR, True)
    monkeypatch.undo()
    if os.geteuid() == 0:
        os.chown(storage / "events.db", 12345, 12345)
        *_, (level, text) = told(storage_checks.directory, ground(tmp_path))
        assert (level, "events.db in" in text, "chown -R" in text) == (ERROR, True, True)


def test_lost_and_found_of_a_volume_is_nobodys_fault(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (storage / "lost+found").mkdir()
    owner, stat = storage.stat().st_uid, Path.stat

    def foreign(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = list(stat(path, follow_symlinks=follow_symlinks))
        return os.stat_result([*found[:4], owner + 1 if path.parent == storage else owner, *found[5:]])

    monkeypatch.setattr(Path, "stat", foreign)
    assert [level for level, _ in told(storage_checks.directory, ground(tmp_path))] == [OK]
    (storage / "events.db").touch()
    *_, (level, text) = told(storage_checks.directory, ground(tmp_path))
    assert (level, text.startswith(f"events.db in {storage} belong")) == (ERROR, True)


@pytest.mark.parametrize(("free", "level"), [(10 << 30, OK), (1 << 29, WARNING), (1 << 20, ERROR)])
def test_a_disk_that_is_nearly_full_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    found, text = told(storage_checks.disk, ground(tmp_path))[0]
    assert (found, f"{free >> 20:,} MiB are free" in text) == (level, True)
    assert ("which is too little: soon nothing can be recorded" in text) is (level is ERROR)


@pytest.mark.parametrize(
    ("kind", "level"), [("nfs4", ERROR), ("fuse.sshfs", ERROR), ("overlay", WARNING), ("tmpfs", WARNING), ("ext4", OK)]
)
def test_a_file_system_that_a_log_is_not_safe_on_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: Level
) -> None:
    monkeypatch.setattr(storage_checks, "file_system", lambda path, mounts: kind)
    found, text = told(storage_checks.disk, ground(tmp_path))[-1]
    assert (found, f"is on {kind}" in text) == (level, True)


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    mounts = (
        "20 1 8:1 / / rw - ext4 /dev/a rw\n21 20 0:9 / /a\\040b rw shared:1 - nfs4 srv:/ rw\n"
        "22 20 0:9 / /c rw - xfs /dev/c rw\n23 22 0:9 / /c rw - tmpfs none rw"
    )
    paths = ("/x", "/a b/x", "/ab", "/c/d")
    assert [storage_checks.file_system(Path(path), mounts) for path in paths] == ["ext4", "nfs4", "ext4", "tmpfs"]
    assert storage_checks.file_system(Path("/x"), "") == ""


async def test_the_log_is_ours_has_an_owner_and_its_views_follow(tmp_path: Path, storage: Path) -> None:
    ((level, text),) = told(storage_checks.log, ground(tmp_path))
    assert (level, "the first start makes it" in text) == (OK, True)
    with SqliteEventLog(storage / "events.db") as log:
        await log.append(STREAM, 0, [new("a")])
        (_, text), (_, views) = told(storage_checks.log, ground(tmp_path))
        assert f"has 1 events; process {os.getpid()} writes it" in text
        assert views == "views.db is made at the next start."
        with closing(sqlite3.connect(storage / "views.db")) as made, made:
            made.execute("CREATE TABLE positions (projection, position)")
            made.execute("INSERT INTO positions VALUES ('tree', 1), ('audit', -20000)")
        assert told(storage_checks.log, ground(tmp_path))[1] == (
            WARNING,
            "The views lack 20001 events. See `snapshotctl status`.",
        )
    (_, text), (level, views) = told(storage_checks.log, ground(tmp_path))
    assert ("nobody writes it now" in text, level) == (True, OK)
    assert told(storage_checks.whole_log, ground(tmp_path)) == []
    ((level, text),) = told(storage_checks.whole_log, ground(tmp_path, deep=True))
    assert (level, "nothing is damaged or missing up to position 1" in text) == (OK, True)


async def test_a_log_that_is_foreign_damaged_or_lost_is_found(tmp_path: Path, storage: Path) -> None:
    (storage / "views.db").touch()
    assert told(storage_checks.log, ground(tmp_path))[0][0] is WARNING
    (storage / "views.db").unlink()
    with SqliteEventLog(storage / "events.db") as log:
        for n in range(3):
            await log.append(STREAM, n, [new(str(n))])
    with closing(sqlite3.connect(storage / "events.db")) as spoilt, spoilt:
        spoilt.execute("DELETE FROM stored_events WHERE position = 2")
    ((level, text),) = told(storage_checks.whole_log, ground(tmp_path, deep=True))
    assert (level, "it lacks version 2" in text) == (ERROR, True)
    with closing(sqlite3.connect(storage / "events.db")) as spoilt, spoilt:
        spoilt.execute("PRAGMA user_version = 77")
    ((level, text),) = told(storage_checks.log, ground(tmp_path))
    assert (level, "its schema is 77" in text) == (ERROR, True)
    (storage / "events.db").write_bytes(b"no log" * 999)
    ((level, text),) = told(storage_checks.log, ground(tmp_path))
    assert (level, "file is not a database" in text) == (ERROR, True)


def test_certificates_and_keys_that_are_well_are_told(tmp_path: Path) -> None:
    users, servers = Authority(tmp_path, "users"), Authority(tmp_path, "servers")
    certificate, key = servers.issue("srv01")
    files = {
        "server.certificate": certificate,
        "server.key": key,
        "server.user_ca": users.path,
        "executor.ca": servers.path,
    }
    found = told(file_checks.certificates, ground(tmp_path, files))
    assert found == [
        (OK, f"{users.path}, of CN=users, is valid until {day(3650)}."),
        (OK, f"{key} is the key of {certificate}."),
        (OK, f"{certificate}, of CN=srv01, is valid until {day(365)}."),
        (OK, f"{certificate} was issued by executor.ca, {servers.path}."),
    ]


def day(days: int) -> str:
    """Return the day that is so many days from now."""
    return f"{NOW + timedelta(days=days):%Y-%m-%d}"


Spoil = Callable[[Authority, Path], dict[str, Path]]


def pair(certificate: Path, key: Path) -> dict[str, Path]:
    """Return the settings of an executor's pair."""
    return {"executor.certificate": certificate, "executor.key": key}


def foreign_key(authority: Authority, at: Path) -> dict[str, Path]:
    """Return a certificate with another one's key."""
    return pair(authority.issue("one")[0], authority.issue("two")[1])


def open_key(authority: Authority, at: Path) -> dict[str, Path]:
    """Return a pair whose key everybody can read."""
    certificate, key = authority.issue("one")
    key.chmod(0o644)
    return pair(certificate, key)


def no_pem(authority: Authority, at: Path) -> dict[str, Path]:
    """Return files that hold something else."""
    certificate, key = authority.issue("one")
    certificate.write_text(SECRET, encoding="utf-8")
    return pair(certificate, key)


def no_key(authority: Authority, at: Path) -> dict[str, Path]:
    """Return a pair whose key is something else."""
    certificate, key = authority.issue("one")
    key.write_text(SECRET, encoding="utf-8")
    return pair(certificate, key)


SPOILT: tuple[tuple[Spoil, Level, str], ...] = (
    (lambda a, at: pair(*a.issue("one", days=-1)), ERROR, f"expired on {day(-1)}"),
    (lambda a, at: pair(*a.issue("one", days=29)), WARNING, f"expires on {day(29)}. Renew it"),
    (lambda a, at: pair(*a.issue("one", begins=NOW + timedelta(days=31))), ERROR, "Check the clock"),
    (foreign_key, ERROR, "two.key: it is not the key of the certificate in"),
    (open_key, ERROR, "one.key: it is open to everybody on this machine. Set its mode"),
    (no_pem, ERROR, "one.crt: it holds no certificate in PEM"),
    (no_key, ERROR, "one.key: it holds no private key in PEM"),
    (lambda a, at: pair(at / "missing", a.issue("one")[1]), ERROR, "missing: no such file"),
    (lambda a, at: {"executor.ca": a.issue("one")[0]}, ERROR, "is no authority's: it may issue nothing"),
    (lambda a, at: {"executor.ca": at / "missing"}, ERROR, "missing: no such file"),
    (
        lambda a, at: pair(*a.issue("one")) | {"server.executor_ca": Authority(at, "others").path},
        ERROR,
        "was issued by CN=executors, not by server.executor_ca",
    ),
)


@pytest.mark.parametrize(("spoil", "level", "said"), SPOILT)
def test_what_is_wrong_with_a_certificate_or_a_key_is_told(
    tmp_path: Path, spoil: Spoil, level: Level, said: str
) -> None:
    files = spoil(Authority(tmp_path, "executors"), tmp_path)
    found = told(file_checks.certificates, ground(tmp_path, files, serves=False))
    assert [text for found_level, text in found if found_level is level and said in text], found
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("granted", "wanted", "level", "said"),
    [
        (("hv01", "hv02"), ("hv01",), OK, "is for hv01, hv02."),
        (("hv01",), ("*",), OK, "is for hv01."),
        (("*",), ("hv01",), OK, "is for *."),
        ((), ("*",), ERROR, "is for no host, so the executor serves none."),
        (("hv01",), ("hv01", "hv03"), ERROR, "is for hv01, not for hv03: the server refuses the executor."),
        ((), ("hv03",), ERROR, "is for no host, not for hv03: the server refuses"),
    ],
)
def test_the_hosts_of_an_executor_are_compared_with_those_of_its_certificate(
    tmp_path: Path, granted: Sequence[str], wanted: tuple[str, ...], level: Level, said: str
) -> None:
    names = [f"snapshotd://{name}" for name in ("executor/ex1", *(f"host/{host}" for host in granted))]
    looked_at = ground(tmp_path, pair(*Authority(tmp_path, "executors").issue("ex1", uris=names)), serves=False)
    looked_at = replace(looked_at, settings=with_value(looked_at.settings, "executor.hosts", wanted))
    assert [found for found, text in told(file_checks.certificates, looked_at) if said in text] == [level]


def test_credentials_are_looked_at_without_being_shown(tmp_path: Path) -> None:
    looked_at = ground(tmp_path)
    ((level, text),) = told(file_checks.credentials, looked_at)
    assert (level, "executor.credentials is not set" in text) == (WARNING, True)
    ((level, text),) = told(file_checks.credentials, ground(tmp_path, serves=False))
    assert (level, "To look at them, run snapshotd doctor executor --executor-credentials" in text) == (WARNING, True)
    assert ("LoadCredential=" in text, "Set it" in text) == (True, False)
    in_environment = replace(looked_at, environ={"SNAPSHOTD_CREDENTIAL_HV": SECRET})
    assert told(file_checks.credentials, in_environment) == [(OK, "They are in the environment.")]
    assert told(file_checks.credentials, replace(looked_at, environ={"CREDENTIALS_DIRECTORY": "/run/x"})) == []
    at = tmp_path / "credentials"
    assert told(file_checks.credentials, ground(tmp_path, {"executor.credentials": at}))[0][0] is ERROR
    at.mkdir(mode=0o700)
    assert told(file_checks.credentials, ground(tmp_path, {"executor.credentials": at}))[0][0] is WARNING
    for name, text, mode in (("good", f"u:{SECRET}", 0o600), ("open", f"u:{SECRET}", 0o644), ("none", SECRET, 0o600)):
        (at / name).write_text(text, encoding="utf-8")
        (at / name).chmod(mode)
    at.chmod(0o777)
    found = told(file_checks.credentials, ground(tmp_path, {"executor.credentials": at}))
    assert [level for level, _ in found] == [ERROR, OK, ERROR, ERROR]
    assert "is open to everybody" in found[3][1]
    assert SECRET not in str(found)


def test_tokens_and_tables_are_looked_at(tmp_path: Path, storage: Path) -> None:
    assert told(file_checks.tokens, ground(tmp_path)) == []
    (storage / "tokens.json").touch(mode=0o600)
    assert told(file_checks.tokens, ground(tmp_path))[0][0] is OK
    (storage / "tokens.json").chmod(0o640)
    assert told(file_checks.tokens, ground(tmp_path))[0][0] is ERROR
    elsewhere = tmp_path / "tokens.json"
    elsewhere.touch(mode=0o600)
    looked_at = ground(tmp_path, {"auth.tokens": elsewhere})
    assert told(file_checks.tokens, looked_at)[0][0] is OK
    if os.geteuid() == 0:
        os.chown(storage, 12345, -1)
        assert told(file_checks.tokens, looked_at)[0][1].endswith(f"Run chown --reference={storage} {elsewhere}.")
    roles = tmp_path / "roles.toml"
    looked_at = ground(tmp_path, {"auth.roles": roles})
    assert "No such file" in told(file_checks.tables, looked_at)[0][1]
    roles.write_text("[[binding]", encoding="utf-8")
    assert "is not TOML" in told(file_checks.tables, looked_at)[0][1]
    roles.write_text('[[binding]]\nrole = "root"\n', encoding="utf-8")
    assert "has the role 'root'; there are admin" in told(file_checks.tables, looked_at)[0][1]
    allowed = ground(tmp_path, {"executor.allow": roles}, serves=False)
    assert "binding" in told(file_checks.tables, allowed)[0][1]
    in_process = ground(tmp_path, {"executor.allow": roles})
    assert "binding" in told(file_checks.tables, in_process)[0][1]
    roles.write_text("", encoding="utf-8")
    assert told(file_checks.tables, looked_at)[0][0] is OK
    roles.chmod(0o666)
    assert told(file_checks.tables, looked_at)[0][0] is ERROR
    assert told(file_checks.tables, ground(tmp_path, {"auth.roles": roles}, serves=False)) == []


def test_missing_libraries_and_extras_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(install_checks.libraries, ground(tmp_path))
    assert found[0][0] is OK
    assert "SQLite" in found[0][1]
    real = metadata.version

    def version(name: str) -> str:
        if name in ("msgspec", "requests-credssp"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(install_checks, "version", version)
    monkeypatch.setattr(
        install_checks, "requires", lambda name: ["msgspec<1", "rich", 'requests-credssp; extra == "c"']
    )
    missing, _, extra = told(install_checks.libraries, ground(tmp_path))
    assert missing == (ERROR, "Missing: msgspec. Install with requirements/runtime.txt.")
    assert extra == (OK, "The extra c is not: pip install 'snapshotd[c]', if you need it.")


def test_an_address_is_free_taken_by_somebody_else_or_not_answered(tmp_path: Path) -> None:
    looked_at = ground(tmp_path)
    assert told(service_checks.service, looked_at)[0] == (OK, "127.0.0.1:0 is free; no service runs there now.")
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        settings = Settings(
            looked_at.settings.values | {"server.listen": f"unix:{path}", "executor.server": f"unix:{path}"},  # type: ignore[operator]
            looked_at.settings.sources,
        )
        one = Ground(settings=settings, environ={}, now=NOW, serves=False)
        ((level, text),) = told(service_checks.service, one)
        assert (level, "Nobody answers at unix:" in text) == (ERROR, True)
        other.listen()
        assert told(service_checks.service, one) == [(OK, f"unix:{path} answers.")]
        serving = Ground(settings=settings, environ={}, now=NOW, serves=True)
        path.unlink()
        path.touch()
        ((level, text),) = told(service_checks.service, serving)
        assert (level, "a file of that name exists" in text) == (ERROR, True)


@pytest.mark.slow
async def test_a_service_that_runs_is_asked(tmp_path: Path) -> None:
    async with running(tmp_path, lambda service: replace(service, run_executor=None)) as served:
        await served.register("hv01")
        plain = load(None, {}, {"server.listen": f"unix:{tmp_path / 's'}", "storage.directory": str(tmp_path)})
        looked_at = Ground(settings=plain, environ={}, now=NOW, serves=True)
        found = await asyncio.to_thread(told, service_checks.service, looked_at)
        (tmp_path / "other").mkdir()
        with SqliteEventLog(tmp_path / "other" / "events.db") as other:
            theirs = load(
                None, {}, {"server.listen": f"unix:{tmp_path / 's'}", "storage.directory": str(tmp_path / "other")}
            )
            looked_at = Ground(settings=theirs, environ={}, now=NOW, serves=True)
            (level, foreign), *_ = await asyncio.to_thread(told, service_checks.service, looked_at)
    assert level == ERROR
    assert f"while the log in {tmp_path / 'other'} is of installation {other.installation_id}. Set another" in foreign
    assert found[0] == (
        OK,
        f"unix:{tmp_path / 's'} is served by snapshotd 0.1.0, installation {served.log.installation_id}.",
    )
    assert (found[1][0], found[1][1].startswith("hv01 is not reached: ")) == (WARNING, True)
    assert found[2] == (OK, "None is overdue.")


def test_what_a_running_service_says_is_told() -> None:
    status = GetStatusResponse(
        problems=[Problem(subject=f"VM {n}", message="It is so.") for n in range(7)],
        hosts=[HostState(host=f"hosts/hv{n}", wait=Wait(message="Away.")) for n in range(7)],
        overdue_operation_count=2,
        overdue_operations=[OverdueOperation(operation="operations/x", message="It waits.")],
    )
    found = [(one.level, one.text) for one in service_checks.troubles(status)]
    assert {level for level, _ in found} == {WARNING}
    texts = [text for _, text in found]
    assert texts[0] == "VM 0: It is so."
    assert "2 more problems. See `snapshotctl status`." in texts
    assert "hv0 is not reached: Away." in texts
    assert "2 more hosts not reached. See `snapshotctl status`." in texts
    assert texts[-1] == "2 operations overdue; the oldest, operations/x: It waits."
    good = GetStatusResponse(hosts=[HostState(host="hosts/hv01", reachable=True)])
    assert [one.level for one in service_checks.troubles(good)] == [OK, OK]


def refused(looked_at: Ground) -> Finding:
    """Raise what the system says of a file that may not be read."""
    raise PermissionError(13, "Permission denied", "/secret")


def failing(looked_at: Ground) -> Iterator[Finding]:
    """Look at what may not be read."""
    yield from map(refused, [looked_at])


def test_what_cannot_be_looked_at_and_settings_that_are_wrong_are_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapshotd.upkeep.doctor.CHECKS", (failing,))
    looked_at = ground(tmp_path)
    first, second = examine(lambda: looked_at.settings, lambda _: looked_at)
    assert first.level is OK
    assert as_text(second) == "ERROR    failing: Cannot look: /secret: Permission denied. Run this as root.\n"

    def invalid() -> Settings:
        raise SettingsInvalid("Cannot use retries.first = 0.")

    (only,) = examine(invalid, lambda _: looked_at)
    assert (only.level, only.text) == (ERROR, "Cannot use retries.first = 0.")


def test_lines_to_write_are_shown_as_lines_of_toml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--server-listen", "0.0.0.0:7443"]) == 1
    first, *below = capsys.readouterr().out.splitlines()
    assert first.startswith("ERROR    settings: Cannot use server.listen")
    assert first.endswith("Write into the settings file, e.g.:")
    assert tomllib.loads("\n".join(below)).keys() == {"server", "auth"}
    assert as_text(Finding(WARNING, "hosts", "hv01:\nOK all is well")).splitlines()[1] == "         OK all is well"


def test_the_command_prints_lines_or_json_and_its_code_says_whether_something_is_wrong(
    tmp_path: Path, storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapshotd.upkeep.rights_checks.program", lambda: iter(()))  # of whoever runs the tests
    flags = ["--storage-directory", str(storage), "--server-listen", f"unix:{tmp_path / 's'}"]
    assert main(["doctor", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "OK       settings: They are valid; from --server-listen, --storage-directory."
    assert {line.split()[0] for line in lines} == {"OK", "WARNING"}
    assert len(lines) >= len(CHECKS) - 3
    (storage / "events.db").write_bytes(b"no log" * 999)
    assert main(["doctor", "--json", *flags]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["subject"] for row in rows if row["level"] == "ERROR"] == ["log"]
    assert main(["doctor", "executor", "--executor-server", "127.0.0.1:1"]) == 1
    assert "storage" not in capsys.readouterr().out
    assert main(["doctor", "--retries-first", "soon"]) == 1
    assert capsys.readouterr().out.startswith("ERROR    settings: Cannot use retries.first")
