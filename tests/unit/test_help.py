"""The command line of `snapshotd`: what its help says, and what `config check` takes."""

from __future__ import annotations

import re

import pytest

from snapshotd.__main__ import main
from snapshotd.setting_values import duration_text
from snapshotd.settings import KEYS


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Ask for help; return it without its line breaks."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_each_settings_flag_says_what_is_written_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "config", "check")
    assert "VALUE" not in text
    for key in KEYS:
        assert f"{key.flag} {key.form} {key.meaning.split()[0]}" in text, key
    assert "(default: true)" in text
    assert "A DURATION is a number with its unit: 500 ms" in text
    for flag in (
        "--server-listen HOST:PORT",
        "--storage-directory PATH",
        "--retries-first DURATION",
        "--snapshots-max-per-vm N",
    ):
        assert flag in text


def test_config_check_and_simulate_host_say_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Check the settings, and show the source of each." in shown(capsys, "config", "check")
    assert "check the settings" in shown(capsys, "config")
    assert "Run a simulated Hyper-V host" in shown(capsys, "simulate-host")


def test_the_exit_codes_are_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 check: a view cannot take in an event; doctor: something is wrong; any command: a defect" in shown(capsys)


def test_config_check_shows_what_flags_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--server-listen", "127.0.0.1:1", "--retries-first", "2 s", "--no-executor", "--host", "hv01"]
    assert main(["config", "check", *flags]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["server.listen"].split()[1:] == ["127.0.0.1:1", "--server-listen"]
    assert lines["retries.first"].split()[1:] == ["2", "s", "--retries-first"]
    assert lines["executor.in_process"].split()[1:] == ["false", "--executor-in-process"]
    assert lines["executor.hosts"].split()[1:] == ["hv01", "--executor-hosts"]
    assert lines["storage.directory"].split()[-1] == "default"


def test_config_check_says_of_each_setting_without_a_value_that_it_is_not_set(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "check"]) == 0
    said = capsys.readouterr().out
    for name in ("server.listen_mtls", "volume_snapshots.directory", "server.user_ca"):
        assert re.search(rf"^{name} +\(not set\) +default$", said, re.MULTILINE), name
    for folders in ("/copies", "hv01=/a,hv02=/b"):
        assert main(["config", "check", "--volume-snapshots-directory", folders]) == 0
        assert re.search(rf"^volume_snapshots.directory +{folders} ", capsys.readouterr().out, re.MULTILINE)


def test_config_check_writes_durations_as_people_do_so_that_they_can_be_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "check"]) == 0
    shown = dict(re.split("  +", line)[:2] for line in capsys.readouterr().out.splitlines())
    durations = {key.name: str(key.default) for key in KEYS if key.form.startswith("DURATION")}
    assert len(durations) > 10
    assert {name: shown[name] for name in durations} == durations


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2_592_000.0, "30 d"),
        (86_400.0, "1 d"),
        (90_000.0, "25 h"),
        (90.0, "90 s"),
        (5400.0, "90 min"),
        (0.2, "200 ms"),
        (2.5, "2500 ms"),
        (0.0, "0"),
        (0.0001, "0.0001 s"),
    ],
)
def test_a_duration_has_the_unit_that_makes_it_a_whole_number(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize("command", [["serve"], ["config", "check"], ["executor"]])
def test_an_unknown_option_shows_the_usage_of_its_command(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--frob"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"usage: snapshotd {' '.join(command)} ")
    assert "unrecognized arguments: --frob" in said
