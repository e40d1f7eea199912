"""The same commands on both engines, each over a host of its own: the same answers, and the same effects on record."""

from __future__ import annotations

import os
import re
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import SAVED, HostAnswer, HostCommand, VmStop
from snapshotd.simulator.journal import journal_path
from tests.host_script.conversation import Conversation
from tests.host_script.engines import engine_on
from tests.host_script.host_commands import known_journal, look, observe
from tests.host_script.two_engines import Named, Run, assert_same, effects, running


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
        assert_same(one, other)
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
