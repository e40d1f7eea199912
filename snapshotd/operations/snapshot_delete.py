"""DeleteSnapshot: remove the checkpoint (the pivot), then wait until the host has merged the disks.

The checkpoint is removed when its id is gone. The same append re-parents its children, in whatever state, and releases
the VM. The operation is done when the disks are merged: a host accepts a removal long before that (docs/hyperv.md,
section 2, observed).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import SnapshotNotUsable
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import SNAPSHOT, OperationState, SnapshotState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import moved
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import CANCELLED, Kind, Preview, Result, move_vm
from snapshotd.operations.snapshots import after_remove, expunge_ended, held, snapshot_id_of, snapshot_of
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_remove
from snapshotd.steps.action import wrong_power
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.disks_merge import DISKS_MERGE


@dataclass(frozen=True, slots=True)
class Params:
    """Which snapshot to delete; its children become its parent's."""

    snapshot_id: SnapshotId


@dataclass(frozen=True, slots=True)
class Removed(Result):
    """The snapshots that are gone."""

    snapshot_ids: tuple[SnapshotId, ...]


class DeleteSnapshot(Kind):
    """Delete one snapshot."""

    name = KindName("DELETE_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params)
    joins = True

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the snapshot to delete."""
        return self.params.read(request.params).snapshot_id

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless the snapshot is READY or ERROR and not held, and the VM's power is known."""
        snapshot = vm.snapshots[self.subject(request)]
        if not SNAPSHOT.allows("expunge_starts", snapshot.state):
            raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "delete", "READY or ERROR")
        if refused := held(vm, snapshot, "delete"):
            raise refused
        if wrong := wrong_power(vm, "delete_begins", "delete a snapshot of"):
            raise wrong

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the removal and the wait; only the wait for a snapshot that never had a checkpoint."""
        target = vm.snapshots[self.subject(request)]
        merge = DISKS_MERGE.planned(nature=StepNature.FORWARD_ONLY, snapshot_id=target.snapshot_id)
        if target.checkpoint_id is None:
            return (merge,)
        which = checkpoint_remove.Input(target.checkpoint_id)
        remove = CHECKPOINT_REMOVE.planned(which, nature=StepNature.PIVOT, snapshot_id=target.snapshot_id)
        return remove, merge

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if somebody holds the snapshot since the delete was accepted."""
        snapshot = snapshot_of(vm, operation)
        refused = held(vm, snapshot, "delete") if snapshot.state is not SnapshotState.EXPUNGING else None
        return Failure.of(refused) if refused else None

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the moves of the snapshot to EXPUNGING, and of the VM too unless there is only a wait."""
        snapshot = snapshot_of(vm, operation)
        started = e.SnapshotExpungeStarted(**moved(snapshot, "expunge_starts"))
        if step.plan.action == DISKS_MERGE.name:
            return (started, *after_remove(vm, snapshot))
        return move_vm(vm, "delete_begins"), started

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the events that hand the snapshot's children and the current mark to its parent."""
        return after_remove(vm, snapshot_of(vm, operation)) if step.plan.action == CHECKPOINT_REMOVE.name else ()

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the event that brings the snapshot to rest, if the expunge had begun."""
        snapshot = snapshot_of(vm, operation)
        if snapshot.state is not SnapshotState.EXPUNGING:
            return ()
        return (
            expunge_ended(vm, operation, snapshot, failure or CANCELLED, removed=outcome is OperationState.SUCCEEDED),
        )

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the children that move up, and the snapshot as gone."""
        snapshot = vm.snapshots[self.subject(request)]
        return Preview(
            moved=tuple((child.snapshot_id, snapshot.parent_id) for child in vm.children(snapshot.snapshot_id)),
            current=snapshot.parent_id if vm.current_id == snapshot.snapshot_id else vm.current_id,
            power=vm.power,
            discarded=(snapshot.snapshot_id,),
        )

    def result(self, operation: Operation) -> Result:
        """Return the removed snapshot."""
        return Removed((snapshot_id_of(operation),))


DELETE_SNAPSHOT = DeleteSnapshot()
