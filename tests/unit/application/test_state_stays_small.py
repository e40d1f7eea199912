"""A VM's fold holds what is alive, and little of what was: it does not grow with all that ever happened to the VM."""

from __future__ import annotations

import msgspec
import pytest

from snapshotd.domain import events as e
from snapshotd.domain.errors import NotFound
from snapshotd.domain.lifecycle import OperationState, SnapshotState, VolumeSnapshotState
from snapshotd.domain.snapshot_errors import SnapshotNotUsable
from snapshotd.domain.virtual_machine import REMEMBERED_OPERATIONS, VirtualMachine, evolve
from tests.asking import delete, delete_volume_snapshot, take_volume_snapshot
from tests.fakes import START, World
from tests.unit.application.cases import create, sid, vsid


def cycle(world: World, number: int) -> None:
    """Create a snapshot and delete it."""
    world.do(create(number))
    world.run()
    world.do(delete(sid(number)))
    world.run()
    world.host.merge()


def test_snapshots_that_are_gone_are_forgotten_with_the_last_operation_that_touched_them() -> None:
    world = World()
    world.do(create(0))
    world.run()
    sizes = []
    for n in range(1, 41):
        cycle(world, n)
        sizes.append(len(msgspec.msgpack.encode(world.vm)))
    gone = [i for i, s in world.vm.snapshots.items() if s.state is SnapshotState.REMOVED]
    assert gone == [sid(n) for n in range(31, 41)], "two operations each"
    assert world.vm.snapshots[sid(0)].state is SnapshotState.READY
    assert sizes[-1] - sizes[REMEMBERED_OPERATIONS] < 100, "numbers get longer"


def test_what_the_fold_has_forgotten_is_not_found_and_what_it_remembers_is_removed() -> None:
    world = World()
    for n in range(1, 13):
        cycle(world, n)
    with pytest.raises(SnapshotNotUsable, match="REMOVED"):
        world.do(delete(sid(12)))
    with pytest.raises(NotFound):
        world.do(delete(sid(1)))


def test_an_event_about_what_is_forgotten_changes_nothing_but_the_version() -> None:
    world = World()
    for n in range(1, 13):
        cycle(world, n)
    at = e.Occasion(version=world.vm.version + 1, time=START, actor="ann", request_id="")
    late = e.SnapshotReparented(snapshot_id=sid(1), from_parent_id=None, to_parent_id=None, cause="drift")
    assert evolve(world.vm, late, at).snapshots == world.vm.snapshots


def test_the_last_volume_snapshots_that_were_removed_are_remembered() -> None:
    world = World()
    for n in range(REMEMBERED_OPERATIONS + 5):
        world.do(take_volume_snapshot(vsid(n)))
        assert world.run().state is OperationState.SUCCEEDED
        world.host.merge()
        if n:
            world.do(delete_volume_snapshot(vsid(n)))
            assert world.run().state is OperationState.SUCCEEDED
    copies = world.vm.volume_snapshots
    assert copies[vsid(0)].state is VolumeSnapshotState.READY
    assert [i for i, copy in copies.items() if copy.state is VolumeSnapshotState.REMOVED] == [
        vsid(n) for n in range(5, REMEMBERED_OPERATIONS + 5)
    ]


def test_a_fold_is_the_same_after_it_was_written_and_read() -> None:
    world = World()
    for n in range(1, 4):
        world.do(create(n), request_id=f"r{n}", digest="d")
        world.run()
    world.do(delete(sid(2)))
    world.turn()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(world.vm), type=VirtualMachine) == world.vm
    assert msgspec.json.decode(msgspec.json.encode(world.vm), type=VirtualMachine) == world.vm
