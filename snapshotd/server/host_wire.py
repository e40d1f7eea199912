"""Translates orders and answers between the core and the wire (docs/host-protocol.md). Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import (
    PROTOCOL,
    Checkpoint,
    Disk,
    DiskFile,
    HostAnswer,
    HostJob,
    JobState,
    Journal,
    JournalState,
    Unread,
    Verdict,
    VmDescription,
    VmReport,
    file_key,
)
from snapshotd.domain.ids import CheckpointId, is_guid
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.offering import Offering
from snapshotd.domain.recorded import JsonObject
from snapshotd.server.wire_limits import bound
from snapshotd.server.wire_values import power_of, timestamp

_KINDS: Final = dict(pb.HostCommand.Kind.items())
_JOURNALS: Final = {
    pb.JournalReport.PRESENT: JournalState.PRESENT,
    pb.JournalReport.MISSING: JournalState.MISSING,
    pb.JournalReport.UNREADABLE: JournalState.UNREADABLE,
}
_JOBS: Final = {
    pb.JobReport.RUNNING: JobState.RUNNING,
    pb.JobReport.DONE: JobState.DONE,
    pb.JobReport.FAILED: JobState.FAILED,
    pb.JobReport.GONE: JobState.GONE,
}


_DIGEST_BYTES: Final = 16
_RELEASE: Final = version("snapshotd").encode()[:64]
"""This release; blake2b takes no longer key."""
_CHECKPOINT: Final = "checkpoint_id"
"""The field of an output that has an id of Hyper-V's own: compared, so kept in lower case."""


class ProtocolViolation(ValueError):
    """An answer that the host protocol does not allow."""


_BROKEN: Final = (KeyError, ValueError, OverflowError)
"""What reading an answer raises that breaks the protocol."""


class ListedVm:
    """One VM in a report of many, as it came: all that is known of it is checked when it is read, but for its id.

    It keeps the whole message of the report in memory.
    """

    __slots__ = ("_message", "vm_id")

    def __init__(self, message: pb.VmReport) -> None:
        """Take a VM as it came. Raises ProtocolViolation if its id is none."""
        self.vm_id = _guid(message.vm_id)
        self._message = message

    @property
    def readable(self) -> bool:
        """Whether its host could read it."""
        return not self._message.HasField("error")

    @property
    def holds_vm(self) -> bool:
        """Whether the host has the VM, and not merely a replica of it."""
        return self._message.present and not self._message.is_replica and self.readable

    @property
    def digest(self) -> str:
        """Of all that is compared with the record; empty if its host could not read it."""
        return _digest(self._message) if self.readable else ""

    def read(self) -> VmReport:
        """Return the whole of it. Raises ProtocolViolation."""
        try:
            return _from_vm(self._message)
        except _BROKEN as error:
            raise ProtocolViolation(str(error)) from error


def to_command(order: Order, installation_id: str, journal_directory: str) -> pb.HostCommand:
    """Return the HostCommand of an order. A step's recorded values have the wire's field names.

    Args:
        order: what the core wants sent.
        installation_id: who we are, to the journals on the host.
        journal_directory: where the host keeps them; empty: its default.
    """
    # A message takes another one as a dict, and an enum's value by its name, as they are recorded.
    recorded: dict[str, Any] = {} if order.action is None else {order.action: dict(order.input)}
    if order.kind is OrderKind.EFFECT:
        recorded["before"] = dict(order.before)
    return pb.HostCommand(
        protocol=PROTOCOL,
        kind=_KINDS[order.kind.name],
        installation_id=installation_id,
        journal_directory=journal_directory,
        vm_id=order.vm_id or "",
        operation=order.operation or "",
        step=order.step,
        token=order.token,
        deadline=timestamp(order.deadline),
        journal_id=order.journal_id,
        watched_files=order.watched_files,
        watched_jobs=order.watched_jobs,
        after_vm_id=order.after_vm_id,
        ends_script=order.ends_script,
        asked=order.asked,
        former_installation_id=order.former_installation_id,
        **recorded,
    )


def from_outcome(outcome: pb.CommandOutcome) -> HostAnswer:
    """Return the outcome of a command in the core's terms. An answer that breaks the protocol counts as none."""
    if outcome.WhichOneof("outcome") == "answer":
        try:
            bound(outcome.answer, later="vms")
            return _from_answer(outcome.answer)
        except _BROKEN as error:
            return no_answer("MALFORMED_ANSWER", f"The host's answer breaks the protocol: {error}")
    bound(outcome.no_answer)
    reason = outcome.no_answer.reason
    # A newer executor may give a reason that is not known here: then no more is known than that no answer came.
    known = reason in pb.NoAnswer.Reason.values() and reason != pb.NoAnswer.REASON_UNSPECIFIED
    return no_answer(pb.NoAnswer.Reason.Name(reason) if known else "CONNECTION_LOST", outcome.no_answer.detail)


def no_answer(reason: str, detail: str) -> HostAnswer:
    """Build a NO_ANSWER result."""
    return HostAnswer(verdict=Verdict.NO_ANSWER, error_id=reason, error_message=detail)


def _from_answer(answer: pb.HostAnswer) -> HostAnswer:
    if answer.protocol != PROTOCOL:
        raise ProtocolViolation(f"protocol {answer.protocol}, this release speaks {PROTOCOL}")
    verdict = pb.HostAnswer.Verdict.Name(answer.verdict)
    if answer.verdict == pb.HostAnswer.VERDICT_UNSPECIFIED:
        raise ProtocolViolation("no verdict")
    if answer.verdict != pb.HostAnswer.REPORTED and any(vm.HasField("error") for vm in answer.vms):
        raise ProtocolViolation("a VM that could not be read, and yet a verdict on it")
    if answer.more and not answer.vms:
        raise ProtocolViolation("more VMs are to come, and none has")
    many = answer.verdict == pb.HostAnswer.REPORTED and len(answer.vms) > 1
    return HostAnswer(
        verdict=Verdict[verdict],
        vms=() if many else tuple(_from_vm(vm) for vm in answer.vms),
        listed=tuple(ListedVm(vm) for vm in answer.vms) if many else (),
        error_id=answer.error.id,
        error_message=answer.error.message,
        output=_output(answer),
        highest_token=answer.highest_token,
        host_time=_time(answer, "host_time"),
        host_name=answer.host.name,
        os_version=answer.host.os_version,
        powershell=answer.host.powershell,
        installation_id=answer.host.installation_id,
        former_installation_ids=tuple(answer.host.former_installation_ids),
        more=answer.more,
        journal_error_id=answer.journal_error.id,
        journal_error=answer.journal_error.message or answer.journal_error.id,
    )


def _output(answer: pb.HostAnswer) -> JsonObject:
    """Return what came of the action, by field; empty: the action has no output."""
    action = answer.WhichOneof("output")
    if action is None:
        return {}
    message = getattr(answer, action)
    return _as_kept({name: getattr(message, name) for name in _names(message.DESCRIPTOR)})


@cache
def _names(descriptor: Descriptor) -> tuple[str, ...]:
    return tuple(field.name for field in descriptor.fields)


def _journalled(journal: pb.JournalReport) -> JsonObject:
    """Return what the journal has kept of the step, as an answer to the step would tell it."""
    if not journal.HasField("output"):
        return {}
    values: dict[str, object] = json_format.MessageToDict(journal.output)
    return _as_kept({name: _whole(value) if isinstance(value, float) else value for name, value in values.items()})


def _as_kept(output: dict[str, object]) -> JsonObject:
    """Return an output with its checkpoint's id as ids are kept. Raises ProtocolViolation."""
    if _CHECKPOINT in output:
        output[_CHECKPOINT] = _guid(str(output[_CHECKPOINT]))
    return output


def _whole(value: float) -> int:
    """Return a number of a Struct, whose numbers all have a point. An output has whole ones only."""
    if not value.is_integer():
        raise ProtocolViolation(f"{value} where a whole number is due")
    return int(value)


def _from_vm(vm: pb.VmReport) -> VmReport:
    # Of what came, before texts that are only shown are cut: so a VM has one digest, alone or among others.
    digest = _digest(vm)
    bound(vm)
    if vm.HasField("error"):
        unread = Unread(vm.name, vm.error.id, vm.error.message)
        return VmReport(vm_id=_guid(vm.vm_id), power=Power.UNKNOWN, host_state="", description=None, unread=unread)
    return VmReport(
        vm_id=_guid(vm.vm_id),
        power=power_of(vm.power) if vm.present else Power.ABSENT,
        host_state=vm.host_state,
        description=_description(vm) if vm.present else None,
        activities=tuple(vm.activities),
        percent=min(vm.percent, 100),
        journal=_journal(vm.journal),
        existing_files=tuple(vm.existing_files),
        unknown_files=tuple(vm.unknown_files),
        jobs=tuple(_job(job) for job in vm.jobs),
        digest=digest,
    )


def _digest(vm: pb.VmReport) -> str:
    """Return a digest of what is compared with the record: all but the sizes of files, which change by themselves.

    What another release has compared is compared anew: this one may read more of the same message.
    """
    compared = pb.VmReport()
    compared.CopyFrom(vm)
    for file in compared.files:
        file.file_bytes = file.minimum_bytes = 0
    told = compared.SerializeToString(deterministic=True)
    return blake2b(told, digest_size=_DIGEST_BYTES, key=_RELEASE).hexdigest()


def _job(job: pb.JobReport) -> HostJob:
    if not job.id:
        raise ProtocolViolation("a job without an id")
    return HostJob(
        job_id=job.id, state=_JOBS[job.state], job_type=job.type, percent=min(job.percent, 100), error=job.error
    )


def _description(vm: pb.VmReport) -> VmDescription:
    return VmDescription(
        name=vm.name,
        checkpoint_type=vm.checkpoint_type,
        current_checkpoint_id=_checkpoint_id(vm.current_checkpoint_id),
        checkpoints=tuple(sorted((_checkpoint(c) for c in vm.checkpoints), key=_made)),
        disks=_disks(vm.disks),
        files=tuple(sorted((_file(f) for f in vm.files), key=lambda f: file_key(f.path))),
        snapshot_blockers=tuple(sorted(vm.snapshot_blockers)),
        offering=_offering(vm.offering) if vm.HasField("offering") else _plain(vm),
        is_replica=vm.is_replica,
        critical=vm.host_state.endswith("Critical"),
        generation=vm.generation,
    )


def _offering(offering: pb.Offering) -> Offering:
    return Offering(
        cpu_count=offering.cpu_count,
        memory_bytes=offering.memory_bytes,
        dynamic_memory=offering.dynamic_memory,
        minimum_bytes=offering.minimum_bytes,
        maximum_bytes=offering.maximum_bytes,
    )


def _plain(vm: pb.VmReport) -> Offering:
    """Return what an executor of an earlier release tells."""
    return Offering(cpu_count=vm.cpu_count, memory_bytes=vm.memory_bytes)


def _made(checkpoint: Checkpoint) -> tuple[bool, float, str]:
    """Return a key that sorts checkpoints by when they were made."""
    at = checkpoint.created_at
    return at is None, at.timestamp() if at else 0.0, checkpoint.checkpoint_id


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
        offering=_offering(checkpoint.offering) if checkpoint.HasField("offering") else None,
    )


def _disks(disks: Iterable[pb.DiskReport]) -> tuple[Disk, ...]:
    """Return disks by their places, in whatever order the host lists them."""
    return tuple(sorted((Disk(location=d.location, path=d.path) for d in disks), key=lambda d: d.location))


def _file(file: pb.FileReport) -> DiskFile:
    return DiskFile(
        path=file.path,
        parent_path=file.parent_path,
        missing=file.missing,
        file_bytes=file.file_bytes,
        size_bytes=file.size_bytes,
        identifier=file.identifier.lower(),
        minimum_bytes=file.minimum_bytes,
        vhd_type=file.vhd_type,
    )


def _journal(journal: pb.JournalReport) -> Journal:
    return Journal(
        state=_JOURNALS[journal.state],
        journal_id=journal.journal_id,
        highest_token=journal.highest_token,
        operation=journal.operation,
        step=journal.step,
        begun=journal.phase == pb.JournalReport.BEGUN,
        done=journal.phase == pb.JournalReport.DONE,
        begun_token=journal.begun_token,
        output=_journalled(journal),
    )


def _guid(text: str) -> str:
    """Return an id of Hyper-V's as it is kept. Raises ProtocolViolation."""
    if not is_guid(text.lower()):
        raise ProtocolViolation(f"{text[:40]!r} where an id is due")
    return text.lower()


def _checkpoint_id(text: str) -> CheckpointId | None:
    return CheckpointId(_guid(text)) if text else None


def _time(message: pb.HostAnswer | pb.CheckpointReport | pb.JournalReport, field: str) -> datetime | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # the stubs know each message's own names only
        return None
    time: Timestamp = getattr(message, field)
    return time.ToDatetime(tzinfo=UTC)
