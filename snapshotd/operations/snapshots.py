"""What kinds have in common about snapshots: how an expunge ends, and who takes a removed one's place."""

from __future__ import annotations

from datetime import UTC

from snapshotd.domain import events as e
from snapshotd.domain.errors import SnapshotHeld
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import VmActivity
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import UNDETERMINED, move_current, move_vm
from snapshotd.steps.disks_merge import DISKS_MERGE


def snapshot_id_of(operation: Operation) -> SnapshotId:
    """Return the id of the snapshot that an operation is about."""
    assert operation.snapshot_id is not None, operation
    return operation.snapshot_id


def snapshot_of(vm: VirtualMachine, operation: Operation) -> Snapshot:
    """Return the snapshot that an operation is about."""
    return vm.snapshots[snapshot_id_of(operation)]


def held(vm: VirtualMachine, snapshot: Snapshot, action: str) -> SnapshotHeld | None:
    """Return why nobody may delete a snapshot just now; None if nobody holds it.

    Args:
        vm: its VM.
        snapshot: the snapshot.
        action: what cannot be done then, as a verb: "delete", "forget".
    """
    hold = snapshot.hold
    if hold is None:
        return None
    since = f"{hold.since.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    return SnapshotHeld(vm.name, snapshot.snapshot_id, snapshot.name, action, hold.actor, hold.why, since)


def hand_on(vm: VirtualMachine, snapshot: Snapshot, cause: str) -> tuple[e.VmEvent, ...]:
    """Return the events that hand the snapshot's children, in whatever state, and the current mark to its parent."""
    children = tuple(
        e.SnapshotReparented(
            snapshot_id=child.snapshot_id,
            from_parent_id=child.parent_id,
            to_parent_id=snapshot.parent_id,
            cause=cause,
        )
        for child in vm.children(snapshot.snapshot_id)
    )
    was_current = vm.current_id == snapshot.snapshot_id
    return children + (move_current(vm, snapshot.parent_id, cause) if was_current else ())


def after_remove(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events that hand on what a removed snapshot stood for, and release the VM."""
    released = (move_vm(vm, "only_merge_left"),) if vm.activity is VmActivity.EXPUNGING else ()
    return hand_on(vm, snapshot, "step") + released


def expunge_ended(
    vm: VirtualMachine, operation: Operation, snapshot: Snapshot, why: Failure, *, removed: bool
) -> e.SnapshotRemoved | e.SnapshotExpungeFailed | e.SnapshotGivenUp:
    """Return how an expunge ends.

    If it failed: READY if the checkpoint is intact and the snapshot was READY before, else ERROR.
    """
    if removed:
        return e.SnapshotRemoved(**moved(snapshot, "removed"))
    wait = operation.last(DISKS_MERGE.name)
    unmerged = DISKS_MERGE.facts.read(wait.before).superfluous if wait and wait.before else snapshot.unmerged
    if why.reason == UNDETERMINED:
        return e.SnapshotGivenUp(**moved(snapshot, "given_up"), failure=why, unmerged=unmerged)
    there = vm.description is not None and vm.description.checkpoint(snapshot.checkpoint_id) is not None
    trigger = "expunge_failed_intact" if there and snapshot.was_ready else "expunge_failed"
    return e.SnapshotExpungeFailed(**moved(snapshot, trigger), failure=why, unmerged=unmerged)
