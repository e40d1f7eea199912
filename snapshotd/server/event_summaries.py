"""What each event means, in a sentence for people. To add an event, add its sentence here; mypy asks for it.

A sentence names what the event itself holds: reasons, old and new values. VMs, snapshots and steps are named as the
views have them now, and by their ids if no view has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import OperationName, SnapshotId, VmId
from snapshotd.domain.operation import Operation
from snapshotd.operations.snapshots import listed
from snapshotd.server.export_summaries import export_summary
from snapshotd.server.host_summaries import of_host
from snapshotd.server.summary_words import because as _because
from snapshotd.server.summary_words import caused as _cause
from snapshotd.server.summary_words import counted as _counted
from snapshotd.server.summary_words import differences as _differences
from snapshotd.server.summary_words import why as _why
from snapshotd.server.volume_snapshot_summaries import of_volume_snapshot
from snapshotd.steps.catalogue import ACTIONS

_LONGEST: Final = 1000
"""The most characters of a sentence; `data` has all of it."""
_GIB: Final = 1 << 30
_Shown: TypeAlias = (
    e.VmDescribed
    | e.DriftDetected
    | e.VmMoved
    | e.VmClaimed
    | e.VmClaimEnded
    | e.JournalIdentified
    | e.LogFoundRolledBack
    | e.LogRollbackDisproved
)
"""What a host shows of a VM by itself."""
_Said: TypeAlias = e.VmDetailsChanged | e.CheckpointIgnored | e.CheckpointNotIgnored
"""What people say of a VM, or of a foreign checkpoint."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the views know of the subjects of some events."""

    vms: Mapping[VmId, str] = field(default_factory=dict)
    snapshots: Mapping[tuple[VmId, SnapshotId], str] = field(default_factory=dict)
    operations: Mapping[OperationName, Operation] = field(default_factory=dict)


def owner_of(envelope: Envelope) -> str:
    """Return the id of the VM or host in whose stream an event is; of a volume's, that of the VM that it names."""
    event = envelope.event
    return event.vm_id if isinstance(event, e.VolumeEvent) else envelope.stream.partition("/")[2]


def summary_of(envelope: Envelope, names: Names) -> str:
    """Return what happened, in a sentence."""
    text = _sentence(envelope.event, _Subject(envelope, names))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


@dataclass(frozen=True, slots=True)
class _Subject:
    """How an event's subjects are called."""

    envelope: Envelope
    names: Names

    @property
    def owner(self) -> str:
        """The id of the VM or host that it is about."""
        return owner_of(self.envelope)

    @property
    def vm(self) -> str:
        return f"VM {self.names.vms.get(VmId(self.owner), self.owner)}"

    def snapshot(self, snapshot_id: SnapshotId | None) -> str:
        """Return how a snapshot is called; "none" for none."""
        if snapshot_id is None:
            return "none"
        return f"'{self.names.snapshots.get((VmId(self.owner), snapshot_id), snapshot_id)}'"

    def operation(self, number: int) -> str:
        """Return how an operation of the VM is called, with what it is for, if that is known."""
        called = f"{number} on {self.vm}"
        known = self.names.operations.get(self.envelope.operation) if self.envelope.operation else None
        return called if known is None or known.number != number else f"{called} ({self.purpose(known)})"

    def purpose(self, asked: Operation | e.OperationRequested) -> str:
        """Return what an operation is for: "delete snapshot 'one'"."""
        kind = _words(asked.kind)
        return f"{kind} {self.snapshot(asked.snapshot_id)}" if asked.snapshot_id else kind

    def step(self, number: int, step: int) -> str:
        """Return how a step is called, with its label, if that is known."""
        known = self.names.operations.get(self.envelope.operation) if self.envelope.operation else None
        plans = [s.plan for s in known.steps if s.plan.number == step] if known else []
        label = f" ({_label(plans[0].action)})" if plans else ""
        return f"Step {step}{label} of operation {self.operation(number)}"


def _words(kind: str) -> str:
    return kind.lower().replace("_", " ")


def _label(action: str) -> str:
    return next((a.label for name, a in ACTIONS.items() if name == action), action)


def _sentence(event: e.Event, of: _Subject) -> str:
    if isinstance(event, e.HostEvent):
        return of_host(event, of.owner)
    if isinstance(event, e.VolumeEvent):
        return _of_volume(event, of)
    if isinstance(event, e.AccessEvent):
        return _of_refusal(event)
    if isinstance(event, e.SnapshotEvent):
        return _of_snapshot(event, of)
    if isinstance(event, e.VolumeSnapshotEvent):
        return of_volume_snapshot(event, of.vm)
    if isinstance(event, e.OperationRequested | e.OperationProgress):
        return _of_operation(event, of)
    if isinstance(event, e.StepEvent):
        return _of_step(event, of)
    if isinstance(event, e.ExportEvent):
        return export_summary(event, of.vm)
    return _of_vm(event, of)


def _of_refusal(event: e.CallRefused) -> str:
    others = f" {event.times - 1} more like it were refused before." if event.times > 1 else ""
    return f"A call from {event.peer} was refused ({event.refusal}): {event.detail}{others}"


def _of_volume(event: e.VolumeEvent, of: _Subject) -> str:
    match event:
        case e.VolumeClaimed(cause=e.ClaimCause.REQUESTED):
            return f"Volume {event.path} belongs to {of.vm}, which asks to have it attached."
        case e.VolumeClaimed(cause=e.ClaimCause.DELETION):
            return f"Volume {event.path} belongs to {of.vm}: it is to be deleted with a volume snapshot of it."
        case e.VolumeClaimed():
            return f"Volume {event.path} belongs to {of.vm}: it was attached to it on its host, not by snapshotd."
        case e.VolumeReleased(cause=e.ReleaseCause.UNREGISTERED):
            return f"Volume {event.path} belongs to no VM any more: {of.vm} is not registered."
        case e.VolumeReleased():
            return f"Volume {event.path} belongs to no VM any more: it is not attached to {of.vm}."
        case _:
            assert_never(event)


def _of_vm(
    event: e.VmRegistered
    | e.VmUnregistered
    | e.VmActivityChanged
    | e.VmPowerChanged
    | e.CurrentMoved
    | e.RequestJoined
    | e.VmTakenOver
    | _Said
    | _Shown,
    of: _Subject,
) -> str:
    if isinstance(event, _Said):
        return _of_what_people_say(event, of)
    match event:
        case e.VmRegistered():
            return f"VM {event.name} was registered on host {event.host_id}, owned by {event.owner}."
        case e.VmUnregistered():
            return f"{of.vm} was unregistered; nothing on its host was touched."
        case e.VmActivityChanged():
            trigger = event.trigger.replace("_", " ")
            return f"{of.vm} went from {event.from_state.name} to {event.to_state.name} ({trigger})."
        case e.VmPowerChanged():
            went = f"went from {event.from_power.name} to {event.to_power.name}"
            return f"The power of {of.vm} {went}, {_cause(event.cause)}."
        case e.CurrentMoved():
            was, now_is = of.snapshot(event.from_snapshot_id), of.snapshot(event.to_snapshot_id)
            return f"The current snapshot of {of.vm} went from {was} to {now_is}, {_cause(event.cause)}."
        case e.RequestJoined():
            return f"A request was answered with operation {of.operation(event.number)}, which was running already."
        case e.VmTakenOver():
            ended = f", and {len(event.ended)} operations that were under way ended" if event.ended else ""
            return (
                f"{of.vm} was taken over, at token {event.journal_token} of its journal{ended}{_because(event.reason)}"
            )
        case _:
            return _of_what_a_host_shows(event, of)


def _of_what_people_say(event: _Said, of: _Subject) -> str:
    match event:
        case e.VmDetailsChanged():
            return f"{of.vm} was changed: {_differences(event.before, event.after)}."
        case e.CheckpointIgnored():
            return f"Checkpoint '{event.name}' of {of.vm}, which is not ours, may stay{_because(event.why)}"
        case e.CheckpointNotIgnored():
            return f"Checkpoint '{event.name}' of {of.vm}, which is not ours, is ignored no longer."
        case _:
            assert_never(event)


def _of_what_a_host_shows(event: _Shown, of: _Subject) -> str:
    match event:
        case e.VmDescribed():
            now = event.description
            return (
                f"The host describes {of.vm} anew: named {now.name}, {_counted(now.cpu_count, 'CPU')}, "
                f"{now.memory_bytes / _GIB:.1f} GiB of memory, {_counted(len(now.disks), 'disk')} and "
                f"{_counted(len(now.checkpoints), 'checkpoint')}."
            )
        case e.DriftDetected():
            about = f" of snapshot {of.snapshot(event.snapshot_id)}" if event.snapshot_id else ""
            values = f" (recorded: {event.recorded or 'nothing'}; on the host: {event.observed or 'nothing'})"
            known = values if event.recorded or event.observed else ""
            return f"The host differs from the record of {of.vm}{about}: {event.kind.name}: {event.detail}{known}"
        case e.VmMoved():
            return f"{of.vm} moved from host {event.from_host_id} to host {event.to_host_id}."
        case e.VmClaimed():
            own = f", and its own cannot be asked ({event.unasked})" if event.unasked else " too"
            return f"Host {event.host_id} has {of.vm}{own}: nothing is done to it until one of them does not have it."
        case e.VmClaimEnded():
            return f"Host {event.host_id} does not have {of.vm} any more."
        case e.JournalIdentified():
            return f"The journal of {of.vm} on its host is {event.journal_id}."
        case e.LogFoundRolledBack():
            return (
                f"The journal of {of.vm} on its host knows token {event.journal_token}, which this log has not issued: "
                "the log is older than the host."
            )
        case e.LogRollbackDisproved():
            return (
                f"The journal of {of.vm} on its host knows token {event.shown_token} and none that this log has not "
                "issued: the log is not older than the host."
            )
        case _:
            assert_never(event)


def _of_snapshot(event: e.SnapshotEvent, of: _Subject) -> str:  # noqa: C901  (one sentence for each event)
    own = f"Snapshot {of.snapshot(event.snapshot_id)} of {of.vm}"
    if isinstance(event, e.SnapshotFact):
        return _of_snapshot_fact(event, own, of)
    match event:
        case e.SnapshotRequested():
            kind = "disks and memory" if event.with_memory else "disks"
            described = f", described as '{event.description}'" if event.description else ""
            return f"Snapshot '{event.name}' of {of.vm} was asked for ({kind}){described}."
        case e.SnapshotCreationStarted():
            return f"{own} is being taken, below {of.snapshot(event.parent_id)}."
        case e.SnapshotCreated():
            kind = "disks and memory" if event.with_memory else "disks"
            below = of.snapshot(event.parent_id)
            return f"{own} was taken ({kind}), below {below}; its checkpoint is {event.checkpoint_id}."
        case e.SnapshotCreationFailed():
            return f"{own} could not be taken{_why(event.failure)}"
        case e.SnapshotRequestCancelled():
            return f"{own} was cancelled before anything was asked of the host."
        case e.SnapshotCreationCancelled():
            return f"{own} was cancelled; the host has no checkpoint of it."
        case e.SnapshotUnwanted():
            unwanted = f"has checkpoint {event.checkpoint_id}, which is not wanted and will be removed"
            return f"{own} {unwanted}{_why(event.failure)}"
        case e.SnapshotRevertStarted():
            return f"{of.vm} is about to be reverted to snapshot {of.snapshot(event.snapshot_id)}."
        case e.SnapshotRevertEnded():
            done = "was reverted" if event.failure is None else "could not be reverted"
            return f"{of.vm} {done} to snapshot {of.snapshot(event.snapshot_id)}{_why(event.failure)}"
        case e.SnapshotExpungeStarted():
            return f"{own} is about to be removed."
        case e.SnapshotRemoved():
            return f"{own} is removed."
        case e.SnapshotExpungeFailed():
            return f"{own} could not be removed, and is {event.to_state.name}{_why(event.failure)}"
        case e.SnapshotGivenUp():
            return f"{own} was given up, and is {event.to_state.name}{_why(event.failure)}"
        case e.SnapshotCheckpointMissing():
            return f"{own} lost its checkpoint{_why(event.failure)}"
        case e.SnapshotAdopted():
            adopter, below = event.adopter, of.snapshot(event.parent_id)
            made = f"Checkpoint {event.checkpoint_id} of {of.vm} was made snapshot '{event.details.name}' by {adopter}"
            return f"{made}, below {below}."
        case e.SnapshotForgotten():
            return f"{own} was taken off the record; nothing on the host was touched."
        case e.SnapshotCheckpointFound():
            return f"{own} has its checkpoint, intact; it went from {event.from_state.name} to {event.to_state.name}."
        case _:
            assert_never(event)


def _of_snapshot_fact(event: e.SnapshotFact, own: str, of: _Subject) -> str:
    match event:
        case e.SnapshotCheckpointIdentified():
            return f"{own} has checkpoint {event.checkpoint_id}, by its marker."
        case e.SnapshotHeld():
            return f"{own} is held, so that nobody deletes it" + (f": {event.why}" if event.why else ".")
        case e.SnapshotReleased():
            return f"{own} is held no longer."
        case e.SnapshotDetailsChanged():
            return f"{own} was changed: {_differences(event.before, event.after)}."
        case e.SnapshotReparented():
            was, now_is = of.snapshot(event.from_parent_id), of.snapshot(event.to_parent_id)
            return f"{own} went from below {was} to below {now_is}, {_cause(event.cause)}."
        case _:
            assert_never(event)


def _of_operation(event: e.OperationRequested | e.OperationProgress, of: _Subject) -> str:
    own = f"Operation {of.operation(event.number)}"
    match event:
        case e.OperationRequested():
            steps = ", ".join(_label(plan.action) for plan in event.steps) or "none"
            after = f", to follow {event.follows}" if event.follows else ""
            others = dict.fromkeys(s.snapshot_id for s in event.steps if s.snapshot_id not in (None, event.snapshot_id))
            besides = f" It is also about {listed([of.snapshot(s) for s in others])}." if others else ""
            asked = f"Operation {event.number} on {of.vm} ({of.purpose(event)}) was accepted{after}"
            return f"{asked}. Its steps: {steps}.{besides}"
        case e.OperationStarted():
            return f"{own} began."
        case e.OperationSucceeded():
            return f"{own} succeeded."
        case e.OperationFailed():
            return f"{own} failed{_why(event.failure)}"
        case e.OperationCancelled():
            return f"{own} ended by its cancellation."
        case e.CancelRequested():
            return f"{own} is to be cancelled."
        case e.MemoryLost():
            whose = f"of snapshot {of.snapshot(event.snapshot_id)}" if event.snapshot_id else "of the guest"
            return f"{own} lost the memory {whose}, which it was to keep."
        case e.OperationSettled():
            step = f"step {event.step} of operation {of.operation(event.number)}"
            return f"{of.envelope.actor} settled {step} as {event.outcome.name}: {event.reason}"
        case e.UndoPlanned():
            steps = ", ".join(_label(plan.action) for plan in event.steps)
            undone = f"will be undone, by {steps}" if steps else "has nothing to undo"
            return f"{own} {undone}{_why(event.failure)}"
        case e.PlanRepeated():
            steps = ", ".join(_label(plan.action) for plan in event.steps)
            return f"{own} goes on all the same, by {steps}{_why(event.failure)}"
        case e.FollowUpRefused():
            return f"{own} was to be followed by {_words(event.kind)}, which was refused{_why(event.failure)}"
        case _:
            assert_never(event)


def _of_step(event: e.StepEvent, of: _Subject) -> str:
    own = of.step(event.number, event.step)
    match event:
        case e.StepIssued():
            return f"{own} is sent to the host, attempt {event.attempt}."
        case e.StepWaitStarted():
            return f"{own} waits for the host."
        case e.StepDone():
            return f"{own} is done, {'as a look at the host showed' if event.observed else 'as the host answered'}."
        case e.StepFailed():
            return f"{own} failed{_why(event.failure)}"
        case e.StepDueAgain():
            return f"{own} had no effect, and will be tried again{_why(event.failure)}"
        case e.StepNotSent():
            return f"{own} was not sent{_why(event.failure)}"
        case e.StepOutcomeUnknown():
            return f"{own} may have taken effect, so the host is looked at{_why(event.failure)}"
        case e.ObservationIssued():
            return f"The host is looked at for: {own[0].lower()}{own[1:]}."
        case e.ObservationAnswered():
            return f"The host was looked at for: {own[0].lower()}{own[1:]}."
        case e.StepUndetermined():
            return f"{own} may or may not have taken effect; nobody knows{_why(event.failure)}"
        case e.StepSkipped():
            return f"{own} was skipped{_why(event.failure)}"
        case _:
            assert_never(event)
