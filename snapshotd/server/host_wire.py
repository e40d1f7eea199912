"""What a host is sent and answers, between the core's words and the wire's (docs/host-protocol.md). Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import (
    PROTOCOL,
    Before,
    Checkpoint,
    Disk,
    HostAnswer,
    Journal,
    JournalState,
    Unread,
    Verdict,
    VmDescription,
    VmReport,
)
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import StepAction, StopMode
from snapshotd.server.wire_values import power_of, timestamp, wire_power

_KINDS: Final = {
    OrderKind.REPORT: pb.HostCommand.REPORT,
    OrderKind.POLL: pb.HostCommand.POLL,
    OrderKind.OBSERVE: pb.HostCommand.OBSERVE,
    OrderKind.EFFECT: pb.HostCommand.EFFECT,
}
_ACTIONS: Final = {
    StepAction.START: "vm_start",
    StepAction.STOP: "vm_stop",
    StepAction.CREATE: "checkpoint_create",
    StepAction.RENAME: "checkpoint_rename",
    StepAction.RESTORE: "checkpoint_restore",
    StepAction.REMOVE: "checkpoint_remove",
}
"""The field of each action that a host carries out."""
_MODES: Final = {
    StopMode.SHUTDOWN: pb.VmStop.SHUTDOWN,
    StopMode.TURN_OFF: pb.VmStop.TURN_OFF,
    StopMode.SAVE: pb.VmStop.SAVE,
    StopMode.PAUSE: pb.VmStop.PAUSE,
}
_JOURNALS: Final = {
    pb.JournalReport.PRESENT: JournalState.PRESENT,
    pb.JournalReport.MISSING: JournalState.MISSING,
    pb.JournalReport.UNREADABLE: JournalState.UNREADABLE,
}


class ProtocolViolation(Exception):
    """An answer that the host protocol does not allow."""


def to_command(order: Order, installation_id: str, journal_directory: str) -> pb.HostCommand:
    """Return the command that carries out an order.

    Args:
        order: what the core means.
        installation_id: who we are, to the journals on the host.
        journal_directory: where the host keeps them; empty: its default.
    """
    command = pb.HostCommand(
        protocol=PROTOCOL,
        kind=_KINDS[order.kind],
        installation_id=installation_id,
        journal_directory=journal_directory,
        vm_id=order.vm_id or "",
        operation=order.operation or "",
        step=order.step,
        token=order.token,
        deadline=timestamp(order.deadline),
        watched_files=order.watched_files,
    )
    if order.kind is OrderKind.OBSERVE and order.action in _ACTIONS:
        getattr(command, _ACTIONS[order.action]).SetInParent()
    if order.kind is OrderKind.EFFECT:
        assert order.action is not None, order
        assert order.before is not None, order
        command.journal_id = order.journal_id
        command.before.CopyFrom(_before(order.before))
        getattr(command, _ACTIONS[order.action]).SetInParent()
        _fill_action(command, order)
    return command


def _before(before: Before) -> pb.Before:
    return pb.Before(
        power=wire_power(before.power) if before.power else pb.POWER_UNSPECIFIED,
        checkpoint_ids=before.checkpoint_ids or (),
        current_checkpoint_id=before.current_checkpoint_id or "",
        leaf_paths=before.leaf_paths or (),
        chain_files=before.chain_files or (),
    )


def _fill_action(command: pb.HostCommand, order: Order) -> None:
    match order.action:
        case StepAction.STOP:
            assert order.stop_mode is not None, order
            command.vm_stop.mode = _MODES[order.stop_mode]
        case StepAction.CREATE:
            command.checkpoint_create.checkpoint_name = order.checkpoint_name
            command.checkpoint_create.with_memory = order.with_memory
            command.checkpoint_create.allow_fallback = order.allow_fallback
        case StepAction.RENAME:
            command.checkpoint_rename.checkpoint_id = order.checkpoint_id or ""
            command.checkpoint_rename.checkpoint_name = order.checkpoint_name
        case StepAction.RESTORE:
            command.checkpoint_restore.checkpoint_id = order.checkpoint_id or ""
        case StepAction.REMOVE:
            command.checkpoint_remove.checkpoint_id = order.checkpoint_id or ""
        case StepAction.START | StepAction.MERGE | None:
            pass


def from_outcome(outcome: pb.CommandOutcome) -> HostAnswer:
    """Return what came of a command in the core's words; an answer that breaks the protocol is none."""
    if outcome.WhichOneof("outcome") == "answer":
        try:
            return _from_answer(outcome.answer)
        except (ProtocolViolation, KeyError, ValueError) as error:
            return no_answer("MALFORMED_ANSWER", f"The host's answer breaks the protocol: {error}")
    reason = outcome.no_answer.reason
    # A newer executor may give a reason that is not known here: then no more is known than that no answer came.
    known = reason in pb.NoAnswer.Reason.values() and reason != pb.NoAnswer.REASON_UNSPECIFIED
    return no_answer(pb.NoAnswer.Reason.Name(reason) if known else "CONNECTION_LOST", outcome.no_answer.detail)


def no_answer(reason: str, detail: str) -> HostAnswer:
    """Build a NO_ANSWER result: no answer came, for that reason."""
    return HostAnswer(verdict=Verdict.NO_ANSWER, error_id=reason, error_message=detail)


def _from_answer(answer: pb.HostAnswer) -> HostAnswer:
    if answer.protocol != PROTOCOL:
        raise ProtocolViolation(f"protocol {answer.protocol}, this release speaks {PROTOCOL}")
    verdict = pb.HostAnswer.Verdict.Name(answer.verdict)
    if answer.verdict == pb.HostAnswer.VERDICT_UNSPECIFIED:
        raise ProtocolViolation("no verdict")
    if answer.verdict != pb.HostAnswer.REPORTED and any(vm.HasField("error") for vm in answer.vms):
        raise ProtocolViolation("a VM that could not be read, and yet a verdict on it")
    return HostAnswer(
        verdict=Verdict[verdict],
        vms=tuple(_from_vm(vm) for vm in answer.vms),
        error_id=answer.error.id,
        error_message=answer.error.message,
        checkpoint_id=_checkpoint_id(answer.checkpoint_create.checkpoint_id),
        highest_token=answer.highest_token,
        host_time=_time(answer, "host_time"),
        host_name=answer.host.name,
        os_version=answer.host.os_version,
        powershell=answer.host.powershell,
        installation_id=answer.host.installation_id,
    )


def _from_vm(vm: pb.VmReport) -> VmReport:
    if not vm.vm_id:
        raise ProtocolViolation("a VM without an id")
    if vm.HasField("error"):
        unread = Unread(vm.name, vm.error.id, vm.error.message)
        return VmReport(vm_id=vm.vm_id.lower(), power=Power.UNKNOWN, host_state="", description=None, unread=unread)
    return VmReport(
        vm_id=vm.vm_id.lower(),
        power=power_of(vm.power) if vm.present else Power.ABSENT,
        host_state=vm.host_state,
        description=_description(vm) if vm.present else None,
        activities=tuple(vm.activities),
        percent=vm.percent,
        journal=_journal(vm.journal),
        existing_files=tuple(vm.existing_files),
    )


def _description(vm: pb.VmReport) -> VmDescription:
    return VmDescription(
        name=vm.name,
        checkpoint_type=vm.checkpoint_type,
        current_checkpoint_id=_checkpoint_id(vm.current_checkpoint_id),
        checkpoints=tuple(_checkpoint(c) for c in vm.checkpoints),
        disks=_disks(vm.disks),
        snapshot_blockers=tuple(vm.snapshot_blockers),
        cpu_count=vm.cpu_count,
        memory_bytes=vm.memory_bytes,
        is_replica=vm.is_replica,
    )


def _checkpoint(checkpoint: pb.CheckpointReport) -> Checkpoint:
    checkpoint_id = _checkpoint_id(checkpoint.checkpoint_id)
    if checkpoint_id is None:
        raise ProtocolViolation("a checkpoint without an id")
    return Checkpoint(
        checkpoint_id=checkpoint_id,
        name=checkpoint.name,
        parent_id=_checkpoint_id(checkpoint.parent_id),
        created_at=_time(checkpoint, "created_at"),
        checkpoint_type=checkpoint.checkpoint_type,
        has_memory=checkpoint.has_memory,
        automatic=checkpoint.automatic,
        system_files_bytes=checkpoint.system_files_bytes,
        disks=_disks(checkpoint.disks),
    )


def _disks(disks: Iterable[pb.DiskReport]) -> tuple[Disk, ...]:
    return tuple(Disk(location=d.location, chain=tuple(d.chain), file_bytes=d.file_bytes) for d in disks)


def _journal(journal: pb.JournalReport) -> Journal:
    return Journal(
        state=_JOURNALS[journal.state],
        journal_id=journal.journal_id,
        highest_token=journal.highest_token,
        operation=journal.operation,
        step=journal.step,
        begun=journal.phase == pb.JournalReport.BEGUN,
        done=journal.phase == pb.JournalReport.DONE,
        begun_at=_time(journal, "begun_at"),
        begun_token=journal.begun_token,
    )


def _checkpoint_id(text: str) -> CheckpointId | None:
    return CheckpointId(text.lower()) if text else None


def _time(message: pb.HostAnswer | pb.CheckpointReport | pb.JournalReport, field: str) -> datetime | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # the stubs know each message's own names only
        return None
    time: Timestamp = getattr(message, field)
    return time.ToDatetime(tzinfo=UTC)
