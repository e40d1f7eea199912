"""What kinds have in common about snapshots: how to name them, how an expunge ends, who takes a removed one's place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from snapshotd.domain import events as e
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import SnapshotState, VmActivity
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.snapshot_errors import (
    SnapshotHeld,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import UNDETERMINED, Result, move_current, move_vm
from snapshotd.steps.disks_merge import DISKS_MERGE


@dataclass(frozen=True, slots=True)
class TheSnapshot(Result):
    """The response of an operation is the snapshot that it is about."""

    snapshot_id: SnapshotId


MOST_NAMED: Final = 10
"""How many things a message names; it counts the others."""


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Return names for people, not more than MOST_NAMED: "a, b and 3 more", or "a; b; and 3 more"."""
    more = f"{between.rstrip(', ')} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return between.join(names[:MOST_NAMED]) + more


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


def after_remove(vm: VirtualMachine, operation: Operation, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events that hand on what a removed snapshot stood for, and release the VM if only merges are left."""
    needed = any(s.plan.holds_vm for s in operation.steps if not s.state.at_rest)
    expunging = vm.activity is VmActivity.EXPUNGING
    released = (move_vm(vm, "only_merge_left"),) if expunging and not needed else ()
    return hand_on(vm, snapshot, "step") + released


def alive(vm: VirtualMachine) -> tuple[Snapshot, ...]:
    """Return the snapshots in the tree, in whatever state but REMOVED."""
    return tuple(s for s in vm.snapshots.values() if s.state is not SnapshotState.REMOVED)


def leaves_first(vm: VirtualMachine, tops: Iterable[Snapshot]) -> tuple[Snapshot, ...]:
    """Return snapshots and all that are below them in the tree of record, each before its parent."""
    below: dict[SnapshotId | None, list[Snapshot]] = defaultdict(list)
    for snapshot in alive(vm):
        below[snapshot.parent_id].append(snapshot)
    found, todo = list[Snapshot](), list(tops)
    while todo:
        found.append(todo.pop())
        todo += below[found[-1].snapshot_id]
    return tuple(reversed(found))


def nearest_left(vm: VirtualMachine, snapshot_id: SnapshotId | None, gone: frozenset[SnapshotId]) -> SnapshotId | None:
    """Return the nearest snapshot, at or above one, that is not among those that are gone."""
    while snapshot_id in gone:
        snapshot_id = vm.snapshots[snapshot_id].parent_id
    return snapshot_id


def expunge_ended(
    vm: VirtualMachine, operation: Operation, snapshot: Snapshot, why: Failure, *, removed: bool
) -> e.SnapshotRemoved | e.SnapshotExpungeFailed | e.SnapshotGivenUp:
    """Return how an expunge ends.

    If it failed: READY if the checkpoint is intact and the snapshot was READY before, else ERROR.
    """
    if removed:
        return e.SnapshotRemoved(**moved(snapshot, "removed"))
    wait = operation.last(DISKS_MERGE.name, snapshot.snapshot_id)
    unmerged = DISKS_MERGE.facts.read(wait.before).superfluous if wait and wait.before else snapshot.unmerged
    if why.reason == UNDETERMINED:
        return e.SnapshotGivenUp(**moved(snapshot, "given_up"), failure=why, unmerged=unmerged)
    there = vm.description is not None and vm.description.checkpoint(snapshot.checkpoint_id) is not None
    trigger = "expunge_failed_intact" if there and snapshot.was_ready else "expunge_failed"
    return e.SnapshotExpungeFailed(**moved(snapshot, trigger), failure=why, unmerged=unmerged)
