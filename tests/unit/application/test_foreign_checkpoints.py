"""Foreign checkpoints become snapshots, are ignored, and are what is left of a snapshot that was forgotten."""

from __future__ import annotations

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import (
    HoldSnapshot,
    IgnoreCheckpoint,
    IgnoreCheckpointNoMore,
    SyncVm,
    UnregisterVm,
)
from snapshotd.domain.errors import (
    AlreadyExists,
    NotFound,
    OperationActive,
    VmAbsent,
)
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, VmActivity
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot_errors import (
    CheckpointNotFound,
    CheckpointNotUsable,
    SnapshotHeld,
    SnapshotLimitReached,
    SnapshotNotUsable,
)
from snapshotd.domain.state import replace
from tests.asking import CREATE, adopt, create_snapshot, delete, forget, revert_to, update
from tests.fakes import World
from tests.unit.application.cases import FOREIGN, by_hand, chain, create, drift_in, lose_checkpoint, sid

SECOND = CheckpointId("dddddddd-0000-4000-8000-000000000002")


@pytest.fixture
def world() -> World:
    world = World()
    chain(world)
    return world


def sync(world: World, report: VmReport | None = None) -> None:
    """Have the VM compared with the record."""
    world.do(SyncVm(report=report or world.host.report(), asked_version=world.vm.version))


def vanish(world: World) -> None:
    """Have the host show the VM no more."""
    sync(world, VmReport(vm_id=world.vm.vm_id, power=Power.ABSENT, host_state="", description=None))


def between(world: World) -> None:
    """Have somebody take a checkpoint by hand, and one of ours taken above it: s4."""
    by_hand(world)
    world.do(create(4))
    assert world.run().state is OperationState.SUCCEEDED
    world.host.effects.clear()
    world.drift_before = len(drift_in(world))


def test_an_adopted_checkpoint_takes_its_place_between_ours(world: World) -> None:
    between(world)
    assert world.vm.snapshots[sid(4)].parent_id == sid(3)
    world.do(adopt(sid(9), FOREIGN, name="", description="from the vendor", labels={"by": "hand"}), actor="bob")
    assert sid(9) not in world.vm.snapshots
    world.turn()
    assert world.vm.activity is VmActivity.RECONFIGURING
    assert world.run().state is OperationState.SUCCEEDED
    own = world.vm.snapshots[sid(9)]
    assert (own.state, own.name, own.actor, own.adopted) == (SnapshotState.READY, "by hand", "bob", True)
    assert (own.description, own.labels, own.checkpoint_id) == ("from the vendor", {"by": "hand"}, FOREIGN)
    assert own.requested_at == world.host.checkpoints[FOREIGN].created_at
    assert world.host.checkpoints[FOREIGN].name == f"by hand #{sid(9)}"
    assert (own.parent_id, world.vm.snapshots[sid(4)].parent_id) == (sid(3), sid(9))
    assert world.vm.current_id == sid(4)
    reparented = [event for event in world.log if isinstance(event, e.SnapshotReparented)]
    assert [(r.snapshot_id, r.cause) for r in reparented] == [(sid(4), "step")]
    sync(world)
    assert drift_in(world)[world.drift_before :] == []


def test_an_adopted_checkpoint_is_current_if_the_disks_descend_from_it_past_others(world: World) -> None:
    by_hand(world)
    by_hand(world, "another", SECOND)
    world.do(adopt(sid(9), FOREIGN))
    assert world.run().state is OperationState.SUCCEEDED
    assert (world.vm.current_id, world.vm.nearest_own(world.host.current)) == (sid(9), sid(9))
    world.do(adopt(sid(8), SECOND))
    assert world.run().state is OperationState.SUCCEEDED
    assert (world.vm.current_id, world.vm.snapshots[sid(8)].parent_id) == (sid(8), sid(9))


def test_an_adopted_snapshot_is_reverted_to_and_deleted_like_any_other(world: World) -> None:
    between(world)
    world.do(adopt(sid(9), FOREIGN))
    world.run()
    for request in (revert_to(sid(9)), delete(sid(9))):
        world.do(request)
        assert world.run().state is OperationState.SUCCEEDED
    assert FOREIGN not in world.host.checkpoints
    assert world.vm.snapshots[sid(4)].parent_id == sid(3)


@pytest.mark.parametrize(
    ("on_host", "taken", "expected"),
    [
        ("  before\tupgrade ", "", "beforeupgrade"),
        ("s1", "", "s1_2"),
        (f"old one #{sid(7)}", "", "old one"),
        ("\u202e", "", "web01_VS_20261125"),
        ("x", "given", "given"),
    ],
)
def test_without_a_name_the_snapshot_gets_that_of_its_checkpoint_made_fit(
    world: World, on_host: str, taken: str, expected: str
) -> None:
    by_hand(world, on_host)
    world.do(adopt(sid(9), FOREIGN, name=taken))
    world.run()
    assert world.vm.snapshots[sid(9)].name.startswith(expected)


def test_what_bears_the_marker_of_a_snapshot_that_is_gone_gets_one_of_its_own(world: World) -> None:
    hidden = dict(world.host.checkpoints)
    checkpoint_id = world.vm.snapshots[sid(3)].checkpoint_id
    assert checkpoint_id is not None
    vanish(world)
    world.do(forget(sid(3)))
    world.host.checkpoints = hidden
    sync(world)
    assert world.vm.current_id == sid(2)
    world.drift_before = len(drift_in(world))
    world.do(adopt(sid(9), checkpoint_id))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.checkpoints[checkpoint_id].name == f"s3 #{sid(9)}"
    assert (world.vm.snapshots[sid(9)].name, world.vm.current_id) == ("s3", sid(9))
    assert world.vm.snapshots[sid(3)].state is SnapshotState.REMOVED
    sync(world)
    assert drift_in(world)[world.drift_before :] == []


def test_a_checkpoint_that_is_removed_meanwhile_is_not_adopted(world: World) -> None:
    by_hand(world)
    world.do(adopt(sid(9), FOREIGN))
    world.host.remove(FOREIGN)
    world.host.merge()
    ended = world.run()
    assert ended.failure is not None
    assert ended.state is OperationState.FAILED
    assert sid(9) not in world.vm.snapshots
    assert (world.vm.activity, world.vm.current_id) == (VmActivity.IDLE, sid(3))


def test_what_cannot_be_adopted_is_refused_with_the_reason(world: World) -> None:
    with pytest.raises(CheckpointNotFound):
        world.do(adopt(sid(9), FOREIGN))
    own = world.vm.snapshots[sid(1)].checkpoint_id
    assert own is not None
    with pytest.raises(CheckpointNotUsable, match="it is snapshot s1 already"):
        world.do(adopt(sid(9), own))
    by_hand(world)
    with pytest.raises(AlreadyExists):
        world.do(adopt(sid(9), FOREIGN, name="s1"))
    made = world.host.checkpoints[FOREIGN]
    for changed, said in (
        (replace(made, automatic=True), "Hyper-V made it by itself"),
        (replace(made, checkpoint_type="Recovery"), "its type is Recovery"),
        (replace(made, checkpoint_type="Missing"), "its type is Missing"),
    ):
        world.host.checkpoints[FOREIGN] = changed
        sync(world)
        with pytest.raises(CheckpointNotUsable, match=said):
            world.do(adopt(sid(9), FOREIGN))
    world.host.checkpoints[FOREIGN] = made
    sync(world)
    world.policy = Policy(max_per_vm=3)
    with pytest.raises(SnapshotLimitReached, match="Cannot adopt a checkpoint of VM web01: it has 3 snapshots"):
        world.do(adopt(sid(9), FOREIGN))
    vanish(world)
    with pytest.raises(VmAbsent):
        world.do(adopt(sid(9), FOREIGN))
    assert world.host.checkpoints[FOREIGN].name == "by hand"


def test_an_id_of_a_checkpoint_where_a_snapshot_belongs_is_told_as_that_with_what_can_be_done(world: World) -> None:
    by_hand(world)
    for request in (delete, revert_to, forget):
        with pytest.raises(NotFound) as refused:
            world.do(request(FOREIGN))  # type: ignore[arg-type]  # the mistake
        assert f"`snapshotctl snapshot adopt web01 {FOREIGN}` makes it a snapshot" in str(refused.value)


def test_a_checkpoint_is_ignored_while_it_is_there(world: World) -> None:
    by_hand(world)
    world.do(IgnoreCheckpoint(checkpoint_id=FOREIGN, why="vendor"), actor="bob")
    assert (world.vm.ignored[FOREIGN].actor, world.vm.ignored[FOREIGN].why) == ("bob", "vendor")
    world.log.clear()
    world.do(IgnoreCheckpoint(checkpoint_id=FOREIGN, why="vendor"), actor="bob")
    assert world.log == []
    sync(world)
    assert world.log == []
    world.do(IgnoreCheckpointNoMore(checkpoint_id=FOREIGN))
    assert world.vm.ignored == {}
    world.do(IgnoreCheckpoint(checkpoint_id=FOREIGN, why=""))
    world.host.remove(FOREIGN)
    world.host.merge()
    sync(world)
    assert world.vm.ignored == {}
    with pytest.raises(CheckpointNotFound):
        world.do(IgnoreCheckpoint(checkpoint_id=FOREIGN, why=""))


def test_an_adopted_checkpoint_is_ignored_no_more_and_ours_never_is(world: World) -> None:
    by_hand(world)
    world.do(IgnoreCheckpoint(checkpoint_id=FOREIGN, why=""))
    world.do(adopt(sid(9), FOREIGN))
    world.run()
    assert world.vm.ignored == {}
    with pytest.raises(CheckpointNotUsable, match="Cannot ignore checkpoint"):
        world.do(IgnoreCheckpoint(checkpoint_id=FOREIGN, why=""))


def test_a_forgotten_snapshot_hands_on_what_it_stood_for_and_the_host_is_not_asked(world: World) -> None:
    vanish(world)
    world.do(forget(sid(2)))
    assert world.vm.snapshots[sid(3)].parent_id == sid(1)
    world.do(forget(sid(3)))
    assert (world.vm.current_id, world.host.effects) == (sid(1), [])
    assert all(world.vm.snapshots[sid(n)].state is SnapshotState.REMOVED for n in (2, 3))
    assert world.vm.operations[world.vm.last_number].state is OperationState.SUCCEEDED


def test_a_snapshot_of_a_vm_that_is_unregistered_is_forgotten(world: World) -> None:
    world.do(UnregisterVm())
    world.do(forget(sid(1)))
    assert world.vm.snapshots[sid(1)].state is SnapshotState.REMOVED


def test_only_what_cannot_be_deleted_is_forgotten(world: World) -> None:
    with pytest.raises(SnapshotNotUsable, match="its VM is there: delete it instead"):
        world.do(forget(sid(1)))
    lose_checkpoint(world, sid(1))
    world.do(HoldSnapshot(snapshot_id=sid(1), why=""))
    with pytest.raises(SnapshotHeld, match="Cannot forget snapshot s1"):
        world.do(forget(sid(1)))
    with pytest.raises(NotFound):
        world.do(forget(sid(8)))


def test_what_an_operation_is_at_work_on_is_not_forgotten_and_others_are(world: World) -> None:
    lose_checkpoint(world, sid(1))
    lose_checkpoint(world, sid(2))
    world.do(delete(sid(1)))
    with pytest.raises(OperationActive):
        world.do(forget(sid(1)))
    world.do(forget(sid(2)))
    assert world.vm.snapshots[sid(2)].state is SnapshotState.REMOVED
    assert world.run().state is OperationState.SUCCEEDED


def test_a_checkpoint_left_by_a_forgotten_create_is_told_as_marked(world: World) -> None:
    world.host.dies_unnamed = False
    world.do(create_snapshot(sid(9), "s9"))
    world.run()
    made = world.vm.snapshots[sid(9)].checkpoint_id
    assert made is not None
    hidden = world.host.checkpoints.pop(made)
    sync(world)
    world.do(forget(sid(9)))
    world.host.checkpoints[made] = hidden
    sync(world)
    assert world.vm.by_checkpoint(made) is None
    assert world.vm.snapshots[sid(9)].state is SnapshotState.REMOVED
    assert [action for action, _, _ in world.host.effects] == [CREATE]


def test_an_update_of_an_adopted_snapshot_renames_it_like_any_other(world: World) -> None:
    by_hand(world)
    world.do(adopt(sid(9), FOREIGN))
    world.run()
    world.do(update(sid(9), name="ours"))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.checkpoints[FOREIGN].name == f"ours #{sid(9)}"
