"""The aggregate: one VM with its snapshot tree, its operations and the requests it has answered, as a fold of events.

`evolve` never refuses and calls no port. What may happen is decided in `application/decide.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

from msgspec import field

from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import AnsweredRequests, remember
from snapshotd.domain.ids import CheckpointId, OperationName, SnapshotId, VolumeSnapshotId
from snapshotd.domain.lifecycle import SnapshotState, VolumeSnapshotState
from snapshotd.domain.operation import Operation
from snapshotd.domain.operation_fold import evolve_operation, new_operation
from snapshotd.domain.snapshot import Snapshot, evolve_snapshot
from snapshotd.domain.state import replace
from snapshotd.domain.vm_record import VmRecord, evolve_record
from snapshotd.domain.volume_snapshot import (
    VolumeSnapshot,
    evolve_volume_snapshot,
)

REMEMBERED_OPERATIONS = 20
"""Ended operations that the aggregate keeps; all of them are in the log and in the views."""


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
