"""A snapshot that somebody holds is deleted by nobody, until it is released."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import HoldSnapshot, ReleaseSnapshot, UnregisterVm
from snapshotd.domain.errors import (
    NotFound,
    RequestIdReused,
)
from snapshotd.domain.lifecycle import OperationState, SnapshotState, VmActivity
from snapshotd.domain.snapshot import Hold
from snapshotd.domain.snapshot_errors import (
    SnapshotHeld,
    SnapshotNotUsable,
)
from tests.asking import create_snapshot, delete, revert_to
from tests.fakes import START, World
from tests.unit.application.cases import chain, create, sid

HOLD, RELEASE = HoldSnapshot(snapshot_id=sid(1), why="the audit needs it"), ReleaseSnapshot(snapshot_id=sid(1))


@pytest.fixture
def world() -> World:
    world = World()
    chain(world)
    world.log.clear()
    return world


def test_a_held_snapshot_is_not_deleted_and_whoever_asks_is_told_who_holds_it_and_why(world: World) -> None:
    world.now = START + timedelta(hours=3)
    world.do(HOLD, actor="ann")
    assert world.vm.snapshots[sid(1)].hold == Hold(actor="ann", why="the audit needs it", since=world.now)
    with pytest.raises(SnapshotHeld) as refused:
        world.do(delete(sid(1)), actor="bob")
    assert str(refused.value) == (
        "Cannot delete snapshot s1: ann has held it since 2026-11-25 12:00:00Z (the audit needs it). Nobody can delete "
        f"it until it is released (`snapshotctl snapshot release web01 {sid(1)}`)."
    )
    assert world.host.effects == []


def test_anybody_releases_a_snapshot_and_then_it_is_deleted(world: World) -> None:
    world.do(HOLD, actor="ann")
    world.do(RELEASE, actor="bob")
    assert world.vm.snapshots[sid(1)].hold is None
    world.do(delete(sid(1)))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_held_snapshot_can_be_reverted_to_and_others_deleted(world: World) -> None:
    world.do(HOLD)
    for request in (revert_to(sid(1)), delete(sid(2))):
        world.do(request)
        assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.snapshots[sid(1)].hold is not None


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_a_delete_that_has_not_begun_ends_when_somebody_holds_the_snapshot(*, with_checkpoint: bool) -> None:
    world = World()
    if with_checkpoint:
        world.do(create(1))
        world.run()
    else:
        world.host.error_ids = {1: "OperationFailed,X"}
        world.do(create(1))
        world.run()
    world.do(delete(sid(1)))
    world.do(HOLD)
    ended = world.run()
    assert ended.failure is not None
    assert (ended.state, ended.failure.reason) == (OperationState.FAILED, "SNAPSHOT_HELD")
    expected = SnapshotState.READY if with_checkpoint else SnapshotState.ERROR
    assert (world.vm.snapshots[sid(1)].state, world.vm.activity) == (expected, VmActivity.IDLE)


def test_what_is_so_already_is_not_recorded_again(world: World) -> None:
    world.do(RELEASE)
    assert world.log == []
    world.do(HOLD)
    world.do(HOLD)
    assert [type(event) for event in world.log] == [e.SnapshotHeld]
    world.do(HoldSnapshot(snapshot_id=sid(1), why="the court needs it"))
    hold = world.vm.snapshots[sid(1)].hold
    assert hold is not None
    assert hold.why == "the court needs it"


def test_nobody_takes_over_what_somebody_else_holds(world: World) -> None:
    world.do(HOLD, actor="ann")
    with pytest.raises(SnapshotHeld, match="Cannot hold snapshot s1: ann has held it"):
        world.do(HOLD, actor="bob")


def test_a_hold_that_is_repeated_with_its_request_id_is_answered_and_does_nothing(world: World) -> None:
    world.do(HOLD, request_id="r1", digest="d1")
    world.do(RELEASE, request_id="r2", digest="d2")
    world.do(HOLD, request_id="r1", digest="d1")
    assert world.vm.snapshots[sid(1)].hold is None
    with pytest.raises(RequestIdReused):
        world.do(RELEASE, request_id="r1", digest="d2")


def test_only_what_has_come_to_be_and_is_not_going_can_be_held(world: World) -> None:
    world.do(create_snapshot(sid(9), "s9"))
    with pytest.raises(SnapshotNotUsable, match=r"Cannot hold snapshot .*ALLOCATED"):
        world.do(HoldSnapshot(snapshot_id=sid(9), why=""))
    world.run()
    world.do(delete(sid(9)))
    world.run()
    with pytest.raises(SnapshotNotUsable, match=r"Cannot hold snapshot .*REMOVED"):
        world.do(HoldSnapshot(snapshot_id=sid(9), why=""))


def test_what_is_not_there_is_not_held(world: World) -> None:
    with pytest.raises(NotFound, match="Cannot find snapshot"):
        world.do(HoldSnapshot(snapshot_id=sid(9), why=""))
    with pytest.raises(NotFound, match="Cannot find snapshot"):
        world.do(ReleaseSnapshot(snapshot_id=sid(9)))
    world.do(UnregisterVm())
    with pytest.raises(NotFound, match="Cannot find virtual machine"):
        world.do(HOLD)
