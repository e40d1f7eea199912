"""ForgetSnapshot: take a snapshot off the record that can no longer be deleted. Nothing is asked of the host.

It is a person's way out of a record that the world has left behind: a snapshot in ERROR, or one of a VM that is gone.
A checkpoint that is still there is told afterwards as one that bears our marker and is not on record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import SNAPSHOT, OperationState, Power, SnapshotState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import moved
from snapshotd.domain.snapshot_errors import (
    SnapshotNotUsable,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.deletion import Removed
from snapshotd.operations.kind import Kind, Preview, Result
from snapshotd.operations.snapshots import hand_on, held, snapshot_id_of, snapshot_of
from snapshotd.ports.versioned import Versioned


@dataclass(frozen=True, slots=True)
class Params:
    """Which snapshot to forget; its children become its parent's."""

    snapshot_id: SnapshotId


class ForgetSnapshot(Kind):
    """Take a snapshot off the record."""

    name = KindName("FORGET_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params)
    accepts_gone_vms = True

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the snapshot to forget."""
        return self.params.read(request.params).snapshot_id

    def goes_beside(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an operation is not at work on the snapshot."""
        return self.subject(request) not in {active.snapshot_id, *(step.plan.snapshot_id for step in active.steps)}

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless the snapshot is in ERROR, or its VM is gone; and if somebody holds it."""
        snapshot = vm.snapshots[self.subject(request)]
        gone = vm.power is Power.ABSENT or not vm.registered
        if not SNAPSHOT.allows("forgotten", snapshot.state) or (snapshot.state is SnapshotState.READY and not gone):
            there = "its VM is there: delete it instead" if snapshot.state is SnapshotState.READY else ""
            needed = "in ERROR, or whose VM is gone"
            raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "forget", needed, there)
        if refused := held(vm, snapshot, "forget"):
            raise refused

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return no step."""
        return ()

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return nothing: there is no step."""
        return ()

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the events that hand children and the current mark to the snapshot's parent, and forget it."""
        snapshot = snapshot_of(vm, operation)
        return *hand_on(vm, snapshot, "step"), e.SnapshotForgotten(**moved(snapshot, "forgotten"))

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the children that move up, and the snapshot as gone."""
        snapshot = vm.snapshots[self.subject(request)]
        there = vm.description is not None and vm.description.checkpoint(snapshot.checkpoint_id) is not None
        warning = "Its checkpoint stays on the host as it is, and nothing of ours touches it any more."
        return Preview(
            moved=tuple((child.snapshot_id, snapshot.parent_id) for child in vm.children(snapshot.snapshot_id)),
            current=snapshot.parent_id if vm.current_id == snapshot.snapshot_id else vm.current_id,
            power=vm.power,
            discarded=(snapshot.snapshot_id,),
            warnings=(warning,) if there else (),
        )

    def result(self, operation: Operation) -> Result:
        """Return the snapshot that is REMOVED."""
        return Removed((snapshot_id_of(operation),))


FORGET_SNAPSHOT = ForgetSnapshot()
