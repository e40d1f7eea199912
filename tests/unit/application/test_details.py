"""What people say of a snapshot: which labels, texts and expiries there may be, and how they are changed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import RegisterVm, RequestOperation, SyncVm, UnregisterVm, UpdateVm
from snapshotd.domain.details import VmDetails
from snapshotd.domain.errors import (
    AlreadyExists,
    InvalidArgument,
    MergePending,
    NotFound,
    OperationActive,
    VmAbsent,
)
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, VmActivity
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.snapshot_errors import (
    SnapshotNotUsable,
)
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from tests.asking import create_snapshot, delete, update
from tests.fakes import START, World
from tests.unit.application.cases import chain, create, lose_checkpoint, sid

GOLD = {"tier": "gold", "example.com/team": "", "a.b/c_d.e": "x" * 63}


@pytest.fixture
def world() -> World:
    world = World()
    chain(world)
    world.log.clear()
    return world


def name_on_host(world: World, n: int) -> str:
    """Return the name that a snapshot's checkpoint has on the host."""
    checkpoint_id = world.vm.snapshots[sid(n)].checkpoint_id
    assert checkpoint_id is not None
    return world.host.checkpoints[checkpoint_id].name


def test_a_new_name_is_on_record_when_the_checkpoint_has_it(world: World) -> None:
    world.do(update(sid(2), name="before the upgrade", description="kept for the audit"))
    assert world.vm.snapshots[sid(2)].name == "s2"
    world.turn()
    assert world.vm.activity is VmActivity.RECONFIGURING
    assert world.run().state is OperationState.SUCCEEDED
    snapshot = world.vm.snapshots[sid(2)]
    assert (snapshot.name, snapshot.description) == ("before the upgrade", "kept for the audit")
    assert name_on_host(world, 2) == f"before the upgrade #{sid(2)}"
    changed = [event for event in world.log if isinstance(event, e.SnapshotDetailsChanged)]
    assert [(c.before.name, c.after.name) for c in changed] == [("s2", "before the upgrade")]
    assert not [event for event in world.log if isinstance(event, e.DriftDetected)]


def test_a_rename_that_the_host_refuses_leaves_the_old_name_on_record(world: World) -> None:
    world.host.error_ids = {1: "OperationFailed,X"}
    world.do(update(sid(2), name="other"))
    assert world.run().state is OperationState.FAILED
    assert (world.vm.snapshots[sid(2)].name, name_on_host(world, 2)) == ("s2", f"s2 #{sid(2)}")


def test_what_is_no_new_name_ends_in_the_append_of_its_request_and_asks_nothing_of_the_host(world: World) -> None:
    expiry = world.now + timedelta(days=30)
    world.do(update(sid(2), labels=GOLD, description="words", expire_at=expiry))
    operation = world.vm.operations[world.vm.last_number]
    assert (operation.state, operation.steps, world.host.effects) == (OperationState.SUCCEEDED, (), [])
    snapshot = world.vm.snapshots[sid(2)]
    assert (snapshot.labels, snapshot.description, snapshot.expire_at) == (GOLD, "words", expiry)
    world.do(update(sid(2), expire_at=None, labels={}))
    assert (world.vm.snapshots[sid(2)].labels, world.vm.snapshots[sid(2)].expire_at) == ({}, None)


def test_nothing_new_is_no_fact(world: World) -> None:
    for request in (update(sid(2), name="s2", labels={}, description=""), update(sid(2))):
        world.do(request)
        assert world.vm.operations[world.vm.last_number].state is OperationState.SUCCEEDED
    assert not [event for event in world.log if isinstance(event, e.SnapshotDetailsChanged)]


def test_labels_are_changed_beside_whatever_is_at_work_and_names_are_not(world: World) -> None:
    world.do(create(9))
    world.turn()
    active = world.vm.active
    for n in (2, 9):
        world.do(update(sid(n), labels={"tier": "gold"}))
        assert world.vm.snapshots[sid(n)].labels == {"tier": "gold"}
    assert world.vm.active == active
    for n in (2, 9):
        with pytest.raises(OperationActive):
            world.do(update(sid(n), name="other"))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.snapshots[sid(9)].state is SnapshotState.READY
    assert world.vm.activity is VmActivity.IDLE


def test_while_a_merge_is_waited_for_names_wait_too_and_labels_do_not(world: World) -> None:
    world.do(delete(sid(1)))
    while not all(o.only_waits for o in world.vm.active_operations):
        world.turn()
    world.do(update(sid(2), labels={"tier": "gold"}))
    with pytest.raises(MergePending):
        world.do(update(sid(2), name="other"))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_name_that_is_taken_is_refused_and_ones_own_is_not(world: World) -> None:
    with pytest.raises(AlreadyExists):
        world.do(update(sid(2), name="s1"))
    world.do(update(sid(2), name="S2"))
    assert world.run().state is OperationState.SUCCEEDED
    assert name_on_host(world, 2) == f"S2 #{sid(2)}"


def test_a_snapshot_without_a_checkpoint_is_renamed_on_record(world: World) -> None:
    lose_checkpoint(world, sid(2))
    world.do(update(sid(2), name="lost"))
    assert (world.vm.snapshots[sid(2)].name, world.host.effects) == ("lost", [])


def test_a_snapshot_of_a_vm_that_is_gone_gets_labels_and_no_name(world: World) -> None:
    report = world.host.report()
    gone = type(report)(vm_id=report.vm_id, power=Power.ABSENT, host_state="", description=None)
    world.do(SyncVm(report=gone, asked_version=world.vm.version))
    world.do(update(sid(2), labels={"tier": "gold"}))
    with pytest.raises(VmAbsent):
        world.do(update(sid(2), name="other"))


def test_a_removed_snapshot_is_not_updated(world: World) -> None:
    world.do(delete(sid(3)))
    world.run()
    with pytest.raises(SnapshotNotUsable, match=r"Cannot update snapshot .*REMOVED"):
        world.do(update(sid(3), labels={}))
    with pytest.raises(NotFound):
        world.do(update(sid(8), labels={}))


BAD_LABELS = (
    ({"": "x"}, "name in a key"),
    ({"tier": " gold"}, "value"),
    ({"tier": "x" * 64}, "value"),
    ({"x" * 64: "a"}, "name in a key"),
    ({"-tier": "a"}, "name in a key"),
    ({"/tier": "a"}, "DNS name"),
    ({"Example.com/tier": "a"}, "DNS name"),
    ({f"{'a' * 254}/tier": "a"}, "DNS name"),
    ({"a/b/c": "x"}, "DNS name"),
    ({"t\u00e4r": "a"}, "name in a key"),
    ({f"k{n}": "" for n in range(65)}, "at most 64"),
)


@pytest.mark.parametrize(("labels", "said"), BAD_LABELS, ids=range(len(BAD_LABELS)))
def test_labels_that_kubernetes_would_not_take_are_refused(world: World, labels: dict[str, str], said: str) -> None:
    for request in (update(sid(2), labels=labels), asked(labels=labels)):
        with pytest.raises(InvalidArgument, match=said) as refused:
            world.do(request)
        assert refused.value.field == "snapshot.labels"


def asked(**said: object) -> RequestOperation:
    """Ask for a new snapshot of which something is said."""
    params = CREATE_SNAPSHOT.params.read(create_snapshot(sid(9), "s9").params)
    return CREATE_SNAPSHOT.request(type(params)(**{f: getattr(params, f) for f in params.__slots__} | said))


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"name": ""}, "snapshot.display_name"),
        ({"name": " x"}, "snapshot.display_name"),
        ({"name": "x" * 256}, "snapshot.display_name"),
        ({"description": "\x00"}, "snapshot.description"),
        ({"expire_at": START - timedelta(days=1)}, "snapshot.expire_time"),
    ],
)
def test_what_is_not_allowed_names_its_field(world: World, said: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        world.do(update(sid(2), **said))
    assert refused.value.field == field


def test_an_expiry_that_has_passed_does_not_keep_other_things_from_being_said(world: World) -> None:
    expiry = world.now + timedelta(days=1)
    world.do(update(sid(2), expire_at=expiry))
    world.now += timedelta(days=2)
    world.do(update(sid(2), expire_at=expiry, labels={"late": "yes"}))
    assert world.vm.snapshots[sid(2)].labels == {"late": "yes"}


def test_a_create_says_labels_and_an_expiry_at_once(world: World) -> None:
    expiry = world.now + timedelta(days=1)
    world.do(asked(labels=GOLD, expire_at=expiry))
    assert world.run().state is OperationState.SUCCEEDED
    snapshot = world.vm.snapshots[sid(9)]
    assert (snapshot.labels, snapshot.expire_at, snapshot.name) == (GOLD, expiry, "s9")


def test_a_create_that_an_older_release_recorded_is_read_without_labels() -> None:
    old = {"snapshot_id": sid(1), "name": "a", "description": "", "with_memory": False, "allow_fallback": False}
    params = CREATE_SNAPSHOT.params.read(Recorded(1, old))
    assert (params.labels, params.expire_at) == ({}, None)


def test_a_failed_create_gives_its_name_up_and_keeps_its_history() -> None:
    world = World()
    world.host.error_ids = {1: "OperationFailed,X"}
    world.do(create(1))
    assert world.run().state is OperationState.FAILED
    world.host.error_ids = {}
    world.do(create_snapshot(sid(2), "s1"))
    assert world.run().state is OperationState.SUCCEEDED
    failed, made = world.vm.snapshots[sid(1)], world.vm.snapshots[sid(2)]
    assert (failed.state, failed.name, made.name) == (SnapshotState.ERROR, "s1", "s1")
    assert failed.failure is not None
    world.do(delete(sid(1)))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_vm_gets_another_owner_and_labels_and_they_end_with_its_registration(world: World) -> None:
    world.do(UpdateVm(owner="dev", labels=None))
    world.do(UpdateVm(owner=None, labels=GOLD))
    assert world.vm.details == VmDetails(owner="dev", labels=GOLD)
    world.log.clear()
    world.do(UpdateVm(owner="dev", labels=GOLD))
    assert world.log == []
    world.do(UnregisterVm())
    with pytest.raises(NotFound):
        world.do(UpdateVm(owner="dev", labels=None))
    world.do(RegisterVm(host_id=HostId("hv01"), owner="ops", report=world.host.report()))
    assert world.vm.details == VmDetails(owner="ops")


def test_a_vm_is_registered_with_its_labels() -> None:
    world = World()
    world.do(UnregisterVm())
    world.do(RegisterVm(host_id=HostId("hv01"), owner="ops", report=world.host.report(), labels=GOLD))
    assert world.vm.labels == GOLD
