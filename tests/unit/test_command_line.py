"""The flags of each command are the settings that it reads: none is without effect, and none is missing."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from snapshotd import bootstrap, executor_from_settings, from_settings, token_commands
from snapshotd.__main__ import READ, main
from snapshotd.monitoring.endpoint import Scrapes
from snapshotd.monitoring.meters import ExecutorMeters
from snapshotd.monitoring.traces import NO_TRACES
from snapshotd.setting_values import Value
from snapshotd.settings import KEYS, Settings, load


class Noted(Mapping[str, Value]):
    """The defaults, but for where things are; notes what is read."""

    def __init__(self, storage: Path) -> None:
        flags = {"storage.directory": str(storage), "server.listen": "127.0.0.1:0"}
        self.settings = load(None, {}, flags)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Value:
        self.read.add(name)
        return self.settings.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings.values)

    def __len__(self) -> int:
        return len(self.settings.values)


BELOW = {"config": ["check"], "token": ["issue"]}
"""Commands below those that have any."""
BY_MAIN = {"log.format"}
"""What `main` reads for each command."""


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    return Noted(tmp_path)


@pytest.fixture
def settings(noted: Noted) -> Settings:
    return Settings(noted, {})


async def test_the_flags_of_serve_are_what_it_reads(noted: Noted, settings: Settings) -> None:
    with bootstrap.open_service(settings) as service:
        await service.make_server().stop(0)
    executor_from_settings.executor_settings(settings, "127.0.0.1:1", "a secret")
    noted.settings = Settings({**noted.settings.values, "auth.mode": "required"}, {})
    from_settings.sign_in_of(settings, "a secret", None)
    assert noted.read | BY_MAIN == set(READ["serve"])


def test_the_flags_of_executor_are_what_it_reads(noted: Noted, settings: Settings) -> None:
    executor_from_settings.executor_settings(settings, settings.text("executor.server"))
    executor_from_settings.open_pool(settings)
    assert executor_from_settings.endpoint_of(settings, Scrapes(ExecutorMeters().registry)) is None
    assert executor_from_settings.open_traces(settings, "snapshotd-executor") is NO_TRACES
    assert noted.read | BY_MAIN == set(READ["executor"])


def test_the_flags_of_check_are_what_it_reads(
    noted: Noted, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with bootstrap.open_service(settings):
        pass
    noted.read.clear()
    assert bootstrap.check(settings) == 0
    assert "0 events" in capsys.readouterr().out
    assert noted.read | BY_MAIN == set(READ["check"])


def test_the_flags_of_token_are_what_it_reads(
    noted: Noted, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert token_commands.run(Namespace(what="list"), settings) == 0
    assert "ISSUED BY" in capsys.readouterr().out
    assert noted.read | BY_MAIN == set(READ["token"])


def test_how_to_revoke_a_token_names_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--storage-directory", str(tmp_path / "a storage")]
    assert main(["token", "issue", "ann", *where]) == 0
    command = capsys.readouterr().err.rpartition("earlier: ")[2]
    assert shlex.split(command)[4:] == where
    assert main(shlex.split(command)[1:]) == 0
    assert "of ann" in capsys.readouterr().out


@pytest.mark.parametrize("command", READ)
def test_help_shows_the_flags_that_have_an_effect_and_no_others(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, *BELOW.get(command, []), "--help"])
    assert ended.value.code == 0
    shown = {word.strip("[],") for word in capsys.readouterr().out.split()}
    assert {key.name for key in KEYS if key.flag in shown} == set(READ[command])


@pytest.mark.parametrize("flags", ["executor --executor-in-process true", "serve --executor-server 127.0.0.1:1"])
def test_a_flag_without_effect_is_refused(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags.split())
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err
