"""snapshotctl that watches a running service: through restarts of the daemon, a frozen one, and until Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.e2e.command_line import Ctl
from tests.e2e.system import System, until


@dataclass
class Watching:
    """A command that goes on, and what it has written by now."""

    system: System
    directory: Path
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Self:
        environ = {"SNAPSHOTD_SERVER": self.system.daemon.address, "SNAPSHOTD_ACTOR": "ann"}
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "out").open("wb") as out, (self.directory / "err").open("wb") as err:
            command = [sys.executable, "-m", "snapshotd.client", *self.arguments]
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env=environ)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def err(self) -> str:
        """What is on standard error."""
        return (self.directory / "err").read_text(encoding="utf-8")

    def lines(self) -> list[str]:
        """Return the whole lines on standard output."""
        return [line[:-1] for line in self.text().splitlines(keepends=True) if line.endswith("\n")]

    def text(self) -> str:
        """Return what is on standard output."""
        return (self.directory / "out").read_text(encoding="utf-8")

    def interrupt(self) -> int:
        """End it by Ctrl-C; return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), ("web01", "db01")) as running:
        yield running


def events(watching: Watching) -> list[dict[str, Any]]:
    """Return the events that were printed."""
    return [json.loads(line) for line in watching.lines()]


@pytest.mark.slow
def test_a_tail_shows_every_event_once_through_restarts_of_the_daemon(system: System, tmp_path: Path) -> None:
    with Watching(system, tmp_path / "tail", ("audit", "tail", "--after", "0", "-o", "json")) as tail:
        for n, end in enumerate((system.daemon.stop, system.daemon.kill), 1):
            system.client.wait(system.client.create(system.ids["web01"], f"before {n}"))
            until(lambda: len(events(tail)) == system.client.events())
            end()
            until(lambda n=n: tail.err.count("Lost the server") == n)  # type: ignore[misc]  # a lambda with a default
            system.daemon.start()
            until(lambda n=n: tail.err.count("is back.") == n)  # type: ignore[misc]  # as above
        system.client.wait(system.client.create(system.ids["web01"], "after"))
        until(lambda: len(events(tail)) == system.client.events())
        assert tail.interrupt() == 130
    shown = events(tail)
    assert [int(event["position"]) for event in shown] == list(range(1, len(shown) + 1))
    assert any("Snapshot 'after' of VM web01 was taken" in event["summary"] for event in shown)
    assert "Traceback" not in tail.err


@pytest.mark.slow
def test_a_tree_and_operations_are_shown_as_they_change(system: System, tmp_path: Path) -> None:
    vm, named = system.ids["db01"], ("operation", "list", "--watch", "--vm", "db01", "--columns", "state,kind")
    with (
        Watching(system, tmp_path / "tree", ("snapshot", "tree", "db01", "--watch", "-o", "json")) as tree,
        Watching(system, tmp_path / "operations", named) as operations,
    ):
        until(lambda: len(tree.lines()) == 1)
        system.client.wait(system.client.create(vm, "one"))
        until(lambda: bool(json.loads(tree.lines()[-1])["nodes"]))
        states = [[n["snapshot"]["state"] for n in json.loads(line)["nodes"]] for line in tree.lines()]
        until(lambda: "SUCCEEDED" in operations.text())
        assert states[0] == []
        assert all(before != after for before, after in zip(tree.lines(), tree.lines()[1:], strict=False))
        until(lambda: json.loads(tree.lines()[-1])["nodes"][0]["snapshot"]["state"] == "READY")
        assert operations.lines()[-1].split() == ["SUCCEEDED", "create", "snapshot"]
        assert tree.interrupt() == operations.interrupt() == 130


@pytest.mark.slow
def test_a_frozen_daemon_is_noticed_and_found_again(system: System, tmp_path: Path) -> None:
    with Watching(system, tmp_path / "tree", ("snapshot", "tree", "web01", "--watch")) as watching:
        until(lambda: bool(watching.lines()))
        os.kill(system.daemon.pid, signal.SIGSTOP)
        try:
            until(lambda: "Lost the server" in watching.err)
        finally:
            os.kill(system.daemon.pid, signal.SIGCONT)
        until(lambda: "is back." in watching.err)


@pytest.mark.slow
def test_a_vm_is_shown_as_it_was_and_what_differs_since(system: System) -> None:
    ctl, vm = Ctl(system), system.ids["db01"]
    system.client.wait(system.client.create(vm, "early"))
    version = system.client.tree(vm).version
    system.client.wait(system.client.create(vm, "late"))
    assert ctl("vm", "stop", "db01", "--turn-off", "--wait").code == 0
    then = json.loads(ctl("snapshot", "tree", "db01", "--at", str(version), "-o", "json").out)
    assert "late" not in [node["snapshot"]["display_name"] for node in then["nodes"]]
    assert "early" in [node["snapshot"]["display_name"] for node in then["nodes"]]
    assert "RUNNING" in ctl("vm", "show", "db01", "--at", str(version)).out
    lines = ctl("audit", "diff", "db01", "--from", str(version)).out.splitlines()
    assert any(line.split() == ["power", "RUNNING", "STOPPED"] for line in lines)
    assert any(line.startswith("snapshot late  -") for line in lines)
    early = ctl("snapshot", "tree", "db01", "--at", "1000d")
    assert (early.code, "It was first registered at" in early.err) == (4, True)
    assert ctl("snapshot", "delete", "db01", "early", "--wait").code == 0
    gone = ctl("snapshot", "show", "db01", "early").err
    assert "REMOVED" in ctl(*_named_in(gone, "snapshot list")).out
    assert "removed" in ctl(*_named_in(gone, "audit list")).out
    assert ctl("vm", "unregister", "db01").code == 0
    left = ctl("vm", "show", "db01").err
    assert "unregistered" in ctl(*_named_in(left, "audit list")).out
    assert "STOPPED" in ctl(*_named_in(left, "vm show")).out
    assert "It was unregistered" in ctl("vm", "show", vm).err
    trail = ctl("audit", "list", "--vm", "db01", "--snapshot", "early", "--type", "SnapshotRemoved", "-o", "jsonl").out
    assert json.loads(trail)["summary"] == "Snapshot 'early' of VM db01 is removed."
    assert "early" in ctl("snapshot", "tree", "db01", "--at", str(version)).out


def _named_in(error: str, command: str) -> list[str]:
    """Return the command of this program that an error leads to."""
    (found,) = re.findall(rf"`snapshotctl ({command} [^`]*)`", error)
    return shlex.split(found)
