"""What operations make of snapshots, where a generic test cannot tell."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import OperationActive
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.operation import Operation
from snapshotd.domain.state import replace
from snapshotd.operations.snapshot_delete import DELETE_SNAPSHOT
from tests.asking import CREATE, REMOVE, RESTORE, START, delete, revert_to, start_vm
from tests.fakes import World
from tests.unit.application.cases import chain, create, sid

FINAL, PASSING = "OperationFailed,X", "ObjectInUse,X"


def newest(world: World) -> Operation:
    """Return the operation that was requested last."""
    return world.vm.operations[world.vm.last_number]


def until_issued(world: World, action: ActionName) -> int:
    """Go on until a command is on its way to the host; return the number of its step."""
    for _ in range(60):
        found = world.open_step()
        if found and found[1].plan.action == action and found[1].state is StepState.ISSUED:
            return found[1].plan.number
        world.turn()
    raise AssertionError(world.vm)


@pytest.mark.parametrize("allowed", [False, True])
def test_memory_that_was_not_asked_for_is_kept_only_if_that_was_allowed(*, allowed: bool) -> None:
    world = World()
    world.host.vss = False
    world.do(create(1, fallback=allowed))
    ended, snapshot = world.run(), world.vm.snapshots[sid(1)]
    assert not snapshot.requested_with_memory
    if allowed:
        assert ended.state is OperationState.SUCCEEDED
        assert (snapshot.state, snapshot.with_memory, world.vm.current_id) == (SnapshotState.READY, True, sid(1))
    else:
        assert ended.failure is not None
        assert (ended.state, ended.failure.reason) == (OperationState.FAILED, "FALLBACK_REFUSED")
        assert (snapshot.state, snapshot.with_memory, world.host.checkpoints) == (SnapshotState.REMOVED, False, {})


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_unwanted_snapshot_is_removed_even_if_that_did_not_work_the_first_time(*, cancelled: bool) -> None:
    world = World()
    world.host.vss = cancelled
    world.do(create(1))
    if cancelled:
        until_issued(world, CREATE)
        world.cancel(1)
    undo = until_issued(world, REMOVE)
    world.host.error_ids = {undo: PASSING}
    world.turn()
    world.host.error_ids = {}
    assert newest(world).step(undo).failure is not None
    ended = world.run()
    assert ended.state is (OperationState.CANCELLED if cancelled else OperationState.FAILED)
    assert ended.step(undo).failure is None
    assert (ended.step(undo).attempts, world.vm.snapshots[sid(1)].state) == (2, SnapshotState.REMOVED)


def test_a_snapshot_that_never_had_a_checkpoint_hands_on_what_it_stood_for() -> None:
    world = World()
    chain(world)
    without = replace(world.vm.snapshots[sid(2)], state=SnapshotState.ERROR, checkpoint_id=None)
    snapshots = MappingProxyType({**world.vm.snapshots, sid(2): without})
    world.vm = replace(world.vm, snapshots=snapshots, current_id=sid(2))
    world.do(delete(sid(2)))
    (wait,) = newest(world).steps
    assert DELETE_SNAPSHOT.begins(world.vm, newest(world), wait) == (
        e.SnapshotExpungeStarted(snapshot_id=sid(2), from_state=SnapshotState.ERROR, to_state=SnapshotState.EXPUNGING),
        e.SnapshotReparented(snapshot_id=sid(3), from_parent_id=sid(2), to_parent_id=sid(1), cause="step"),
        e.CurrentMoved(from_snapshot_id=sid(2), to_snapshot_id=sid(1), cause="step"),
    )


@pytest.mark.parametrize(
    ("request_", "action", "why"),
    [(start_vm(), START, "cancelled"), (revert_to(sid(2)), RESTORE, "failed")],
    ids=["cancelled", "undoing"],
)
def test_a_request_joins_none_that_will_not_do_it_any_more(
    request_: RequestOperation, action: ActionName, why: str
) -> None:
    world = World()
    chain(world)
    world.host.power = Power.STOPPED
    world.vm = replace(world.vm, power=Power.STOPPED)
    world.do(request_)
    number = until_issued(world, action)
    assert world.do(request_).events == [], "it joins"
    if why == "cancelled":
        world.cancel(newest(world).number)
    else:
        world.host.error_ids = {number: FINAL}
        world.turn()
    assert (newest(world).cancel_requested, newest(world).undoing) == (why == "cancelled", why == "failed")
    with pytest.raises(OperationActive):
        world.do(request_)
