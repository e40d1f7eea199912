"""What kinds have in common about snapshots: how an expunge ends, and who takes a removed one's place."""

from __future__ import annotations

from snapshotd.domain import events as e
from snapshotd.domain.lifecycle import SNAPSHOT, VmActivity
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import UNDETERMINED, move_current, move_vm


def snapshot_of(vm: VirtualMachine, operation: Operation) -> Snapshot:
    """Return the snapshot that an operation is about."""
    assert operation.snapshot_id is not None, operation
    return vm.snapshots[operation.snapshot_id]


def after_remove(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events that hand the snapshot's children and the current mark to its parent, and release the VM."""
    moves: list[e.VmEvent] = [
        e.SnapshotReparented(
            snapshot_id=child.snapshot_id,
            from_parent_id=child.parent_id,
            to_parent_id=snapshot.parent_id,
            cause="step",
        )
        for child in vm.children(snapshot.snapshot_id)
    ]
    if vm.current_id == snapshot.snapshot_id:
        moves += move_current(vm, snapshot.parent_id)
    if vm.activity is VmActivity.EXPUNGING:
        moves.append(move_vm(vm, "only_merge_left"))
    return tuple(moves)


def expunge_ended(
    vm: VirtualMachine, snapshot: Snapshot, why: Failure, *, removed: bool
) -> e.SnapshotRemoved | e.SnapshotExpungeFailed | e.SnapshotGivenUp:
    """Return how an expunge ends.

    If it failed: READY if the checkpoint is intact and the snapshot was READY before, else ERROR.
    """
    if why.reason == UNDETERMINED and not removed:
        return given_up(snapshot, why)
    if removed:
        to_state = SNAPSHOT.dest("removed", snapshot.state)
        return e.SnapshotRemoved(snapshot_id=snapshot.snapshot_id, from_state=snapshot.state, to_state=to_state)
    there = vm.description is not None and vm.description.checkpoint(snapshot.checkpoint_id) is not None
    trigger = "expunge_failed_intact" if there and snapshot.was_ready else "expunge_failed"
    return e.SnapshotExpungeFailed(
        snapshot_id=snapshot.snapshot_id,
        from_state=snapshot.state,
        to_state=SNAPSHOT.dest(trigger, snapshot.state),
        failure=why,
    )


def given_up(snapshot: Snapshot, failure: Failure) -> e.SnapshotGivenUp:
    """Return the event that ends a transient state with an unknown outcome."""
    to_state = SNAPSHOT.dest("given_up", snapshot.state)
    return e.SnapshotGivenUp(
        snapshot_id=snapshot.snapshot_id, from_state=snapshot.state, to_state=to_state, failure=failure
    )
