"""The same commands on both engines, each over a host of its own: the same answers, and the same effects on record."""

from __future__ import annotations

import difflib
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import SAVED, HostAnswer, HostCommand, VmStop
from snapshotd.simulator.journal import journal_path
from snapshotd.simulator.model import SimulatedHyperV
from tests.host_script.conversation import Conversation
from tests.host_script.engines import engine_on
from tests.host_script.host_commands import effect, known_journal, look, observe
from tests.unit.simulator_model.hosts import host_at

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OF_ITS_OWN = {"host_time", "host", "created_at", "begun_at", "percent"}


class Named:
    """Gives what differs from run to run (ids, directories) the same names in the order that they come in."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._names: dict[str, str] = {}

    def plain(self, value: Any) -> Any:  # noqa: ANN401  (JSON values)
        """Return a JSON value with such names."""
        match value:
            case dict():
                return {k: self.plain(v) for k, v in value.items() if k not in _OF_ITS_OWN}
            case list():
                return [self.plain(v) for v in value]
            case str():
                text = value.replace(self._directory, "DIR")
                return _GUID.sub(lambda found: self._name(found[0].lower()), text)
            case _:
                return value

    def _name(self, found: str) -> str:
        return self._names.setdefault(found, f"id-{len(self._names)}")


class Run:
    """A conversation with one engine, and its answers so far.

    Args:
        host: the model.
        script: a kept process on it.
        vm: the VM's id.
        named: for what differs.
    """

    def __init__(self, host: SimulatedHyperV, script: Conversation, vm: str, named: Named) -> None:
        self.host = host
        self.script = script
        self.vm = vm
        self._named = named
        self._token = 0
        self.answers: list[Any] = []

    def ask(self, command: HostCommand) -> HostAnswer:
        """Ask, and keep the answer as it compares."""
        answer = self.script.ask(command)
        self.answers.append(self._named.plain(json_format.MessageToDict(answer, preserving_proto_field_name=True)))
        return answer

    def act(self, action: str, journal: str, **fields: Any) -> HostAnswer:  # noqa: ANN401
        """Ask for an effect on what is there now."""
        return self.ask(self.effect(action, journal, **fields))

    def effect(self, action: str, journal: str, **fields: Any) -> HostCommand:  # noqa: ANN401
        """Write the next effect, with these fields of its action."""
        self._token += 1
        command = effect(action, self.host, journal, 100 + self._token, step=self._token, vm=self.vm)
        for name, value in fields.items():
            setattr(getattr(command, action), name, value)
        return command


@contextmanager
def running(name: str, directory: Path, vm: str) -> Iterator[Run]:
    """Run an engine over a host in a directory."""
    directory.mkdir()
    disks = [{"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}]
    inventory = {
        "host": {"name": "hv01"},
        "vms": [{"id": vm, "name": "it's $(web) `01` “ü”", "state": "Running", "disks": disks}],
    }
    with ExitStack() as stack:
        host = stack.enter_context(host_at(directory, inventory))
        engines = engine_on(name, host, directory / "engine")
        script = Conversation(next(engines))
        stack.callback(script.process.kill)
        yield Run(host, script, vm, Named(directory))
        next(engines, None)


def everything(run: Run) -> None:
    """Have every kind of command carried out, some in vain."""
    run.ask(look(vm=""))
    run.ask(look(HostCommand.POLL, vm=str(uuid.UUID(int=1))))
    journal = known_journal(run.script, vm=run.vm)
    name = "'quoted\" $name` ü"
    first = run.act("checkpoint_create", journal, checkpoint_name=name).checkpoint_create.checkpoint_id
    run.host.write_disk(run.vm, "SCSI:0:0", "1", "after the first")
    made = run.act("checkpoint_create", journal, checkpoint_name="with memory", with_memory=True)
    second = made.checkpoint_create.checkpoint_id
    run.act("checkpoint_rename", journal, checkpoint_id=second, checkpoint_name="renamed")
    run.act("vm_stop", journal, mode=VmStop.TURN_OFF)
    run.act("vm_stop", journal, mode=VmStop.PAUSE)
    run.act("checkpoint_restore", journal, checkpoint_id=second)
    run.act("vm_start", journal)
    run.act("checkpoint_restore", journal, checkpoint_id=first)
    run.act("checkpoint_create", journal, checkpoint_name="branch")
    run.act("checkpoint_remove", journal, checkpoint_id=first)
    run.act("checkpoint_remove", journal, checkpoint_id=str(uuid.UUID(int=2)))
    run.act("vm_start", "another journal")
    saved = run.effect("vm_start", journal)
    saved.before.power = SAVED
    run.ask(saved)
    run.host.fail("Checkpoint-VM", "OperationFailed", "No room.", 1)
    run.act("checkpoint_create", journal, checkpoint_name="refused")
    run.host.fail("Checkpoint-VM", "OperationFailed", "Too late.", 1, after_effect=True)
    run.act("checkpoint_create", journal, checkpoint_name="made all the same")
    run.ask(look(vm=run.vm))


def effects(directory: Path, named: Named) -> list[Any]:
    """Return the effects on record as they compare."""
    lines = [json.loads(line) for line in (directory / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = ("effect", "operation", "step", "by", "power", "disks")
    # Merges go on beside the commands, so where they stand is chance.
    return [named.plain({k: line[k] for k in kept}) for line in lines if line["by"] == "script"]


@pytest.mark.powershell
@pytest.mark.slow
def test_both_engines_give_the_same_answers_and_leave_the_same_effects(tmp_path: Path) -> None:
    vm = f"{os.getpid():08x}-2222-4222-8333-444444444444"
    runs = []
    for name in ("builtin", "pwsh"):
        with running(name, tmp_path / name[0], vm) as run:  # as long a path: it stands in the disk files
            everything(run)
            runs.append(run)
    assert len(runs[0].answers) > 15
    for one, other in zip(runs[0].answers, runs[1].answers, strict=True):
        told, compared = (json.dumps(a, indent=1, sort_keys=True).splitlines() for a in (one, other))
        assert [line for line in difflib.ndiff(told, compared) if line[0] != " "] == []
    builtin, powershell = (effects(tmp_path / n, Named(tmp_path / n)) for n in "bp")
    assert builtin == powershell
    assert {"DONE", "NO_EFFECT", "CHANGED", "WRONG_JOURNAL", "REPORTED", "FAILED"} <= {
        a["verdict"] for a in runs[0].answers
    }


@pytest.mark.powershell
@pytest.mark.slow
@pytest.mark.parametrize(("writer", "reader"), [("builtin", "pwsh"), ("pwsh", "builtin")])
def test_what_one_engine_has_done_the_other_answers_from_its_journal(writer: str, reader: str, tmp_path: Path) -> None:
    vm = f"{os.getpid():08x}-2222-4222-8333-555555555555"
    with running(writer, tmp_path / "host", vm) as run, ExitStack() as stack:
        engines = engine_on(reader, run.host, tmp_path / "reader")
        other = Conversation(next(engines))
        stack.callback(next, engines, None)
        stack.callback(other.process.kill)
        journal = known_journal(run.script, vm=vm)
        for action, fields, output in (
            ("checkpoint_create", {"checkpoint_name": "n"}, rb'"output":{[^}]*"has_memory":false'),
            ("checkpoint_create", {"checkpoint_name": "m", "with_memory": True}, rb'"output":{[^}]*"has_memory":true'),
            ("vm_stop", {"mode": VmStop.SAVE}, rb'"output":{}'),
        ):
            command = run.effect(action, journal, **fields)
            done = run.ask(command)
            assert done.verdict == HostAnswer.DONE
            assert re.search(output, journal_path(run.host.journal_directory, vm).read_bytes())
            again = other.ask(command)
            assert (again.verdict, again.WhichOneof("output")) == (HostAnswer.DONE, done.WhichOneof("output"))
            assert again.checkpoint_create == done.checkpoint_create
            # The other one writes what it has read, and the first one reads that.
            assert other.ask(observe(command.token, vm=vm)).verdict == HostAnswer.OBSERVED
            assert re.search(output, journal_path(run.host.journal_directory, vm).read_bytes())
            assert run.ask(command).checkpoint_create == done.checkpoint_create
