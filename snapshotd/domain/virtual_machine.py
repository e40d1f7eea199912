"""The aggregate: one VM with its snapshot tree, its operations and the requests it has answered, as a fold of events.

`evolve` never refuses and calls no port. What may happen is decided in `application/decide.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, assert_never

from msgspec import field

from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import AnsweredRequests, remember
from snapshotd.domain.details import Labels, VmDetails
from snapshotd.domain.export import Export, ExportPolicy, Release
from snapshotd.domain.export_fold import Kept, evolve_kept, not_released
from snapshotd.domain.host_report import Checkpoint, VmDescription
from snapshotd.domain.ids import CheckpointId, HostId, OperationName, SnapshotId, VmId, VolumeSnapshotId
from snapshotd.domain.lifecycle import Power, SnapshotState, VmActivity, VolumeSnapshotState
from snapshotd.domain.operation import Operation
from snapshotd.domain.operation_fold import evolve_operation, new_operation
from snapshotd.domain.recorded import Time
from snapshotd.domain.snapshot import Snapshot, evolve_snapshot
from snapshotd.domain.state import State, replace
from snapshotd.domain.vm_notes import Active, Claim, Ignored
from snapshotd.domain.volume_snapshot import (
    Temporaries,
    VolumeSnapshot,
    evolve_temporaries,
    evolve_volume_snapshot,
)

_NOWHERE = HostId("")

REMEMBERED_OPERATIONS = 20
"""Ended operations that the aggregate keeps; all of them are in the log and in the views."""


class VmRecord(State, frozen=True, kw_only=True):
    """What is on record of a VM itself, without its snapshots and operations."""

    vm_id: VmId
    version: int = 0
    activity: VmActivity = VmActivity.NEW
    host_id: HostId = _NOWHERE
    host_since: int = 0
    """The version at which the VM came to its host from another one; 0: it was never on another."""
    claims: tuple[Claim, ...] = ()
    """Other hosts that have it too. While there is one, nothing is done to the VM."""
    name: str = ""
    owner: str = ""
    power: Power = Power.UNKNOWN
    description: VmDescription | None = None
    """As last reported; None: never."""
    journal_id: str = ""
    """The VM's journal on its host, as last reported; empty: not known yet."""
    rolled_back: int = 0
    """The highest token of the journal on the host, if this log has not issued it: the log is older than the host, and
    the VM is only observed. 0: it is not."""
    foreign_journal: bool = False
    """It is rolled back since its host's journals belonged to another installation: only a take-over ends that."""
    fence_due: bool = False
    """A step was settled whose command may still reach the host, or the VM was taken over. It is observed, so that what
    was sent before cannot act any more, before anything else is sent."""
    current_id: SnapshotId | None = None
    active: tuple[Active, ...] = ()
    """The newest first. It holds the VM, or will as soon as every older one has ended or merely waits."""
    registered_at: Time | None = None
    updated_at: Time | None = None
    labels: Labels = field(default_factory=dict)
    ignored: Mapping[CheckpointId, Ignored] = field(default_factory=dict)
    """Of the checkpoints that are there."""
    temporaries: Temporaries = field(default_factory=dict)
    """Checkpoints that volume snapshots need for a while, or have left. They are no snapshots, and not foreign."""
    export_policy: ExportPolicy = ExportPolicy.AS_SERVER
    exports: tuple[Export, ...] = ()
    """The complete ones that are there by our record, the oldest first."""
    released: Release | None = None
    """It was removed from its host after an export: it is expected to be absent, and its power stays STOPPED."""

    @property
    def details(self) -> VmDetails:
        """What people say of it."""
        return VmDetails(owner=self.owner, labels=self.labels, export_policy=self.export_policy)

    @property
    def registered(self) -> bool:
        """Whether the VM is registered."""
        return self.activity not in (VmActivity.NEW, VmActivity.UNREGISTERED, VmActivity.DESTROYED)

    @property
    def readable(self) -> bool:
        """Whether callers are shown it: it is registered, or was destroyed, so that only its record is left."""
        return self.registered or self.activity is VmActivity.DESTROYED

    def temporary_for(self, checkpoint: Checkpoint) -> VolumeSnapshotId | None:
        """Return the volume snapshot that a checkpoint on the host was made for; None: it is no temporary one."""
        return next((i for i, temporary in self.temporaries.items() if temporary.is_it(checkpoint)), None)

    def temporary_checkpoints(self) -> Mapping[CheckpointId, VolumeSnapshotId]:
        """Return the temporary checkpoints that the host was last seen to have, with what each was made for."""
        there = self.description.checkpoints if self.description and self.temporaries else ()
        made_for = ((c.checkpoint_id, self.temporary_for(c)) for c in there)
        return {checkpoint_id: which for checkpoint_id, which in made_for if which is not None}


class VirtualMachine(VmRecord, frozen=True, kw_only=True):
    """The aggregate: the state of one VM, at one version of its stream."""

    snapshots: Mapping[SnapshotId, Snapshot] = field(default_factory=dict)
    """Those that are not REMOVED, and those that an operation on record has touched."""
    volume_snapshots: Mapping[VolumeSnapshotId, VolumeSnapshot] = field(default_factory=dict)
    """Those that are not REMOVED, and the last that were removed."""
    operations: Mapping[int, Operation] = field(default_factory=dict)
    """The active ones, and the last that ended."""
    last_number: int = 0
    requests: AnsweredRequests = AnsweredRequests()
    last_step_version: int = 0
    """Version of the last event of a step: a report asked for before it must not be compared with the record."""
    last_token: int = 0
    """The highest token that was issued, or taken over with a journal; 0: none."""
    token_base: int = 0
    """What tokens lie above, besides their version in the stream: the highest token that was taken over."""
    taken_over: e.VmTakenOver | None = None
    """The last take-over."""

    def token_at(self, version: int) -> int:
        """Return the token that an event of this version issues."""
        return self.token_base + version

    @property
    def active_operations(self) -> tuple[Operation, ...]:
        """The operations that have not ended, oldest first."""
        return tuple(self.operations[active.number] for active in reversed(self.active))

    def operation(self, name: OperationName) -> Operation | None:
        """Return an operation that is active or among the last that ended."""
        return next((o for o in self.operations.values() if o.name == name), None)

    def step_is_open(self) -> bool:
        """Return whether a command of any operation may be at work on the host."""
        return any(s.open for o in self.active_operations for s in o.steps)

    def at_work(self) -> bool:
        """Return whether a difference between host and record may be an operation's doing."""
        return any(s.at_work for o in self.active_operations for s in o.steps)

    def makes_way(self, operation: Operation) -> bool:
        """Return whether an operation was cancelled for a newer one, which begins when it has ended."""
        return operation.cancel_requested and any(a.number > operation.number for a in self.active)

    def by_checkpoint(self, checkpoint_id: CheckpointId | None) -> Snapshot | None:
        """Return the snapshot in the tree that stands for a checkpoint; none if the checkpoint is foreign."""
        if checkpoint_id is None:
            return None
        for snapshot in self.snapshots.values():
            if snapshot.checkpoint_id == checkpoint_id and snapshot.state is not SnapshotState.REMOVED:
                return snapshot
        return None

    def nearest_own(self, checkpoint_id: CheckpointId | None) -> SnapshotId | None:
        """Return the nearest snapshot of ours at or above a checkpoint, past foreign and unwanted ones."""
        for above in self.lineage(checkpoint_id):
            found = self.by_checkpoint(above)
            if found is not None and found.was_ready:
                return found.snapshot_id
        return None

    def lineage(self, checkpoint_id: CheckpointId | None) -> Iterator[CheckpointId]:
        """Yield a checkpoint and those that it descends from on the host, the nearest first.

        What the host does not list counts for nothing, and ends the way up.
        """
        parents = {c.checkpoint_id: c.parent_id for c in self.description.checkpoints} if self.description else {}
        for _ in range(len(parents)):
            if checkpoint_id is None or checkpoint_id not in parents:
                return
            yield checkpoint_id
            checkpoint_id = parents[checkpoint_id]

    def children(self, snapshot_id: SnapshotId) -> tuple[Snapshot, ...]:
        """Return the snapshots, in whatever state but REMOVED, whose parent is `snapshot_id`."""
        return tuple(
            s for s in self.snapshots.values() if s.parent_id == snapshot_id and s.state is not SnapshotState.REMOVED
        )


VmT = TypeVar("VmT", bound=VmRecord)
_Work = e.OperationRequested | e.OperationProgress | e.ObservationAnswered
"""What an event may say of the work on a VM."""


def evolve_record(vm: VmT, event: e.VmEvent, at: e.Occasion) -> VmT:
    """Return the record of the VM itself with one event applied. Never refuses, calls no port."""
    vm = replace(vm, version=at.version, updated_at=at.time)
    match event:
        case e.VmRegistered() | e.VmMoved() | e.VmClaimed() | e.VmClaimEnded():
            return _evolve_place(vm, event, at)
        case e.VmUnregistered() | e.VmActivityChanged():
            return replace(vm, activity=event.to_state)
        case e.VmPowerChanged():
            return replace(vm, power=event.to_power)
        case e.VmDescribed():
            vm = replace(vm, description=event.description, name=event.description.name)
            return replace(vm, ignored=_still_there(vm.ignored, event.description))
        case e.JournalIdentified() | e.LogFoundRolledBack() | e.LogRollbackDisproved() | e.VmTakenOver():
            return _evolve_journal(vm, event)
        case e.VmDetailsChanged() | e.CheckpointIgnored() | e.CheckpointNotIgnored() | e.SnapshotAdopted():
            return _evolve_said(vm, event, at)
        case e.CurrentMoved():
            return replace(vm, current_id=event.to_snapshot_id)
        case e.VmExported() | e.ExportRemoved() | e.VmReleased() | e.VmReleaseEnded():
            kept = evolve_kept(Kept(vm.exports, vm.released), event, vm.host_id, at)
            return replace(vm, exports=kept.exports, released=kept.released)
        case _ if isinstance(event, _Work):
            return _evolve_work(vm, event)
        case _ if isinstance(event, e.VolumeSnapshotEvent):
            return replace(vm, temporaries=evolve_temporaries(vm.temporaries, event))
        case _:
            return vm


def _evolve_journal(
    vm: VmT, event: e.JournalIdentified | e.LogFoundRolledBack | e.LogRollbackDisproved | e.VmTakenOver
) -> VmT:
    """Return the record with what an event says of the VM's journal."""
    match event:
        case e.JournalIdentified():
            return replace(vm, journal_id=event.journal_id)
        case e.LogFoundRolledBack():
            return replace(vm, rolled_back=event.journal_token, foreign_journal=event.foreign)
        case e.LogRollbackDisproved():
            return replace(vm, rolled_back=0)
        case e.VmTakenOver():
            vm = replace(vm, rolled_back=0, foreign_journal=False)
            return replace(vm, journal_id=event.journal_id, fence_due=True)
        case _:
            assert_never(event)


def _evolve_work(vm: VmT, event: _Work) -> VmT:
    """Return the record with what an event says of the work on the VM."""
    match event:
        case e.OperationRequested():
            touches = dict.fromkeys(s.snapshot_id for s in event.steps if s.snapshot_id is not None)
            active = Active(event.number, event.name, event.snapshot_id, tuple(touches))
            return replace(vm, active=(active, *vm.active))
        case e.OperationSucceeded() | e.OperationFailed() | e.OperationCancelled():
            return replace(vm, active=tuple(active for active in vm.active if active.number != event.number))
        case e.OperationSettled() | e.ObservationAnswered(seen=True):
            return replace(vm, fence_due=isinstance(event, e.OperationSettled))
        case _:
            return vm


def _evolve_place(vm: VmT, event: e.VmRegistered | e.VmMoved | e.VmClaimed | e.VmClaimEnded, at: e.Occasion) -> VmT:
    """Return the record with what an event says of where the VM is."""
    match event:
        case e.VmRegistered():
            known = replace(vm, activity=event.to_state, name=event.name, owner=event.owner, registered_at=at.time)
            # One that was released and then forgotten may have been imported from its export since.
            kept = not_released(Kept(vm.exports, vm.released))
            known = replace(known, exports=kept.exports, released=kept.released)
            known = replace(known, claims=(), labels={}, export_policy=ExportPolicy.AS_SERVER)
            return known if known.host_id == event.host_id else _came(known, event.host_id, at)
        case e.VmMoved():
            return _came(vm, event.to_host_id, at)
        case e.VmClaimed():
            return replace(vm, claims=(*_claims_but(vm, event.host_id), Claim(event.host_id, event.unasked)))
        case e.VmClaimEnded():
            return replace(vm, claims=_claims_but(vm, event.host_id))
        case _:
            assert_never(event)


def _came(vm: VmT, host_id: HostId, at: e.Occasion) -> VmT:
    """Return the record of a VM that came to a host. The journal of another one stayed behind: each has its own."""
    since = at.version if vm.host_id else 0
    return replace(vm, host_id=host_id, host_since=since, journal_id="", claims=_claims_but(vm, host_id))


def _claims_but(vm: VmRecord, host_id: HostId) -> tuple[Claim, ...]:
    return tuple(claim for claim in vm.claims if claim.host_id != host_id)


def _still_there(ignored: Mapping[CheckpointId, Ignored], description: VmDescription) -> Mapping[CheckpointId, Ignored]:
    return {i: x for i, x in ignored.items() if description.checkpoint(i) is not None}


def _evolve_said(
    vm: VmT,
    event: e.VmDetailsChanged | e.CheckpointIgnored | e.CheckpointNotIgnored | e.SnapshotAdopted,
    at: e.Occasion,
) -> VmT:
    """Return the record with what a person says of the VM, or of its foreign checkpoints."""
    match event:
        case e.VmDetailsChanged():
            after = event.after
            return replace(vm, owner=after.owner, labels=after.labels, export_policy=after.export_policy)
        case e.CheckpointIgnored():
            ignored = Ignored(actor=at.actor, why=event.why, at=at.time)
            return replace(vm, ignored={**vm.ignored, event.checkpoint_id: ignored})
        case e.CheckpointNotIgnored() | e.SnapshotAdopted():
            return replace(vm, ignored={i: x for i, x in vm.ignored.items() if i != event.checkpoint_id})
        case _:
            assert_never(event)


def evolve(vm: VirtualMachine, event: e.VmEvent, at: e.Occasion) -> VirtualMachine:  # noqa: C901  (one case each)
    """Return the aggregate with one event applied. Never refuses, calls no port."""
    vm = evolve_record(vm, event, at)
    match event:
        case (
            e.VmRegistered()
            | e.VmUnregistered()
            | e.VmDetailsChanged()
            | e.CheckpointIgnored()
            | e.CheckpointNotIgnored()
        ):
            return _answered(vm, event.request_digest, None, at)
        case e.RequestJoined():
            return _answered(vm, event.request_digest, vm.operations[event.number].name, at)
        case e.SnapshotHeld() | e.SnapshotReleased():
            return _answered(_with_snapshot(vm, event, at), event.request_digest, None, at)
        case (
            e.SnapshotTransition()
            | e.SnapshotReparented()
            | e.SnapshotCheckpointIdentified()
            | e.SnapshotDetailsChanged()
        ):
            return _with_snapshot(vm, event, at)
        case e.VolumeSnapshotTransition():
            return _with_volume_snapshot(vm, event, at)
        case e.OperationRequested():
            vm = _with_operation(replace(vm, last_number=event.number), new_operation(vm.vm_id, event, at))
            return vm if event.follows else _answered(vm, event.request_digest, event.name, at)
        case e.OperationSettled():
            operation = evolve_operation(vm.operations[event.number], event, at)
            return _answered(_with_operation(vm, operation), event.request_digest, operation.name, at)
        case (
            e.OperationTransition()
            | e.CancelRequested()
            | e.UndoPlanned()
            | e.PlanRepeated()
            | e.FollowUpRefused()
            | e.MemoryLost()
        ):
            return _with_operation(vm, evolve_operation(vm.operations[event.number], event, at))
        case e.StepTransition() | e.ObservationIssued() | e.ObservationAnswered():
            if isinstance(event, e.StepIssued | e.ObservationIssued):
                vm = replace(vm, last_token=e.token_of(event, at.version))
            return _with_operation(vm, evolve_operation(vm.operations[event.number], event, at), at.version)
        case e.VmTakenOver():
            return _answered(_above(vm, event), event.request_digest, None, at)
        case (
            e.VmActivityChanged()
            | e.VmPowerChanged()
            | e.VmDescribed()
            | e.VmMoved()
            | e.VmClaimed()
            | e.VmClaimEnded()
            | e.JournalIdentified()
            | e.LogFoundRolledBack()
            | e.LogRollbackDisproved()
            | e.CurrentMoved()
            | e.DriftDetected()
            | e.TemporaryCheckpointExpected()
            | e.TemporaryCheckpointTaken()
            | e.TemporaryCheckpointGone()
            | e.VmExported()
            | e.ExportRemoved()
            | e.VmReleased()
            | e.VmReleaseEnded()
        ):
            return vm
        case _:
            assert_never(event)


def _above(vm: VirtualMachine, event: e.VmTakenOver) -> VirtualMachine:
    """Return the VM with its tokens above all that the journal knew."""
    base, last = max(vm.token_base, event.journal_token), max(vm.last_token, event.journal_token)
    return replace(vm, token_base=base, last_token=last, taken_over=event)


def _with_snapshot(vm: VirtualMachine, event: e.SnapshotEvent, at: e.Occasion) -> VirtualMachine:
    known = vm.snapshots.get(event.snapshot_id)
    if known is None and not isinstance(event, e.SnapshotRequested | e.SnapshotAdopted):
        return vm  # It was REMOVED, and is forgotten.
    snapshot = evolve_snapshot(vm.vm_id, known, event, at)
    return replace(vm, snapshots={**vm.snapshots, snapshot.snapshot_id: snapshot})


def _with_volume_snapshot(vm: VirtualMachine, event: e.VolumeSnapshotMove, at: e.Occasion) -> VirtualMachine:
    which = event.volume_snapshot_id
    known = vm.volume_snapshots.get(which)
    if known is None and not isinstance(event, e.VolumeSnapshotRequested):
        return vm  # It was REMOVED, and is forgotten.
    # In the order in which they changed: the one that has just been removed is the last to be forgotten.
    copies = {i: copy for i, copy in vm.volume_snapshots.items() if i != which}
    copies[which] = evolve_volume_snapshot(vm.vm_id, known, event, at)
    removed = [i for i, copy in copies.items() if copy.state is VolumeSnapshotState.REMOVED]
    for forgotten in removed[:-REMEMBERED_OPERATIONS]:
        del copies[forgotten]
    return replace(vm, volume_snapshots=copies)


def _with_operation(vm: VirtualMachine, operation: Operation, step_version: int = 0) -> VirtualMachine:
    vm = replace(vm, last_step_version=step_version or vm.last_step_version)
    if operation.active:
        return replace(vm, operations={**vm.operations, operation.number: operation})
    # In the order in which they ended: the one that has just ended is the last to be forgotten.
    operations = {n: o for n, o in vm.operations.items() if n != operation.number} | {operation.number: operation}
    ended = [n for n, o in operations.items() if not o.active]
    forgotten = ended[:-REMEMBERED_OPERATIONS]
    for number in forgotten:
        del operations[number]
    vm = replace(vm, operations=operations)
    return _without_gone(vm) if forgotten else vm


def _without_gone(vm: VirtualMachine) -> VirtualMachine:
    """Return the VM without the snapshots that are REMOVED, and that no operation on record has touched."""
    operations = vm.operations.values()
    touched = {s.plan.snapshot_id for o in operations for s in o.steps} | {o.snapshot_id for o in operations}
    left = {i: s for i, s in vm.snapshots.items() if s.state is not SnapshotState.REMOVED or i in touched}
    return replace(vm, snapshots=left) if len(left) < len(vm.snapshots) else vm


def _answered(vm: VirtualMachine, digest: str, operation: OperationName | None, at: e.Occasion) -> VirtualMachine:
    return replace(vm, requests=remember(vm.requests, digest, operation, at))
