"""The commands that tests send, and what they leave in the journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from snapshotd.api.v1.executor_pb2 import PRODUCTION_ONLY, Before, HostAnswer, HostCommand, StopAction
from snapshotd.simulator.hypervisor import Hypervisor
from snapshotd.simulator.journal import JournalEntry, read_journal
from snapshotd.simulator.reporting import report_vm
from tests.host_script.conversation import INSTALLATION, Conversation
from tests.host_script.recording_host import WEB


def effect(
    kind: HostCommand.Kind.ValueType, host: Hypervisor, journal_id: str, token: int, step: int = 1, vm: str = WEB
) -> HostCommand:
    """Write an effect that depends on what is there now. The action has to be filled in, but for START."""
    report = report_vm(host, host.journal_directory, vm, ())
    command = observe(token, step=step, vm=vm)
    command.kind = kind
    command.journal_id = journal_id
    command.before.CopyFrom(
        Before(
            power=report.power,
            checkpoint_ids=[checkpoint.checkpoint_id for checkpoint in report.checkpoints],
            current_checkpoint_id=report.current_checkpoint_id,
            leaf_paths=[disk.chain[0] for disk in report.disks],
            chain_files=[
                path
                for disk in [*report.disks, *(d for c in report.checkpoints for d in c.disks)]
                for path in disk.chain
            ],
        )
    )
    return command


def observe(token: int, *, step: int = 1, vm: str = WEB) -> HostCommand:
    """Write an observation."""
    command = HostCommand(
        protocol=1,
        kind=HostCommand.OBSERVE,
        installation_id=INSTALLATION,
        vm_id=vm,
        operation="operations/web.1",
        step=step,
        token=token,
    )
    command.deadline.FromDatetime(datetime.now(UTC) + timedelta(minutes=30))
    return command


def look(kind: HostCommand.Kind.ValueType = HostCommand.REPORT, vm: str = WEB) -> HostCommand:
    """Write a REPORT or POLL."""
    return HostCommand(protocol=1, kind=kind, vm_id=vm)


def entry(host: Hypervisor, vm: str = WEB) -> JournalEntry:
    found = read_journal(host.journal_directory, vm)
    assert found is not None
    return found


def known_journal(script: Conversation, token: int = 1, vm: str = WEB) -> str:
    """Make the VM's journal known, as a first observation does."""
    answer = script.ask(observe(token, vm=vm))
    assert answer.verdict == HostAnswer.OBSERVED, answer
    return answer.vms[0].journal.journal_id


def create(host: Hypervisor, journal_id: str, token: int, *, step: int = 1, name: str = "nightly #1") -> HostCommand:
    command = effect(HostCommand.CREATE, host, journal_id, token, step)
    command.create.checkpoint_name, command.create.kind = name, PRODUCTION_ONLY
    return command


def any_effect(kind: HostCommand.Kind.ValueType, host: Hypervisor, journal_id: str, token: int) -> HostCommand:
    """Write an effect of any kind; the VM has a checkpoint for those that need one."""
    command = effect(kind, host, journal_id, token)
    vm = host.vm(WEB)
    checkpoints = vm.checkpoints if vm else ()
    match kind:
        case HostCommand.STOP:
            command.stop.mode = StopAction.TURN_OFF
        case HostCommand.CREATE:
            command.create.checkpoint_name, command.create.kind = "nightly #1", PRODUCTION_ONLY
        case HostCommand.RESTORE:
            command.restore.checkpoint_id = checkpoints[0].checkpoint_id
        case HostCommand.REMOVE:
            command.remove.checkpoint_id = checkpoints[0].checkpoint_id
        case HostCommand.RENAME:
            command.rename.checkpoint_id, command.rename.checkpoint_name = checkpoints[0].checkpoint_id, "new name"
        case _:
            pass
    return command
