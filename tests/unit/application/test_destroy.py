"""The destruction of a VM: what refuses it, what may come between, what becomes of its files, and what is on record."""

from __future__ import annotations

import pytest

from snapshotd.domain.commands import HoldSnapshot, RegisterVm, RequestOperation, SyncVm, UnregisterVm, UpdateVm
from snapshotd.domain.destroy_errors import ForeignCheckpointsInTheWay, VmDestroyed
from snapshotd.domain.errors import NotFound, OperationActive, WrongPower
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Operation
from snapshotd.domain.own_files import UsedFile
from snapshotd.domain.snapshot_errors import CheckpointNotFound, SnapshotHeld
from snapshotd.domain.state import replace
from snapshotd.operations.kind import Preview
from snapshotd.operations.vm_destroy import DESTROY_VIRTUAL_MACHINE
from snapshotd.steps.files_delete import FILES_DELETE
from tests.asking import DELETE_FILES, REMOVE, REMOVE_VM, START, STOP, destroy, export_vm, start_vm
from tests.fakes import START as BEGIN
from tests.fakes import World
from tests.unit.application.cases import chain, create, sid


def with_snapshots(power: Power = Power.RUNNING) -> World:
    """Return a world with a chain of three snapshots."""
    world = World()
    chain(world)
    world.host.power = power
    seen(world)
    return world


def seen(world: World) -> None:
    """Have the VM looked at."""
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def by_hand(world: World, name: str) -> str:
    """Have somebody take a checkpoint, and see it; return its id."""
    made = world.host.take(name)
    seen(world)
    return made


def until_done(world: World, action: str) -> None:
    """Let things happen until a step of an action is done."""
    for _ in range(60):
        steps = world.vm.operations[world.vm.last_number].steps
        if any(s.plan.action == action and s.state is StepState.DONE for s in steps):
            return
        world.turn()
    raise AssertionError(action)


def failed(operation: Operation) -> tuple[OperationState, str]:
    """Return how an operation ended."""
    assert operation.failure is not None, operation
    return operation.state, operation.failure.reason


def preview(world: World, request: RequestOperation) -> Preview:
    """Return what a request would lead to."""
    return DESTROY_VIRTUAL_MACHINE.preview(world.vm, request)


def outcome(world: World) -> str:
    """Return what people are told of the newest operation."""
    operation = world.vm.operations[world.vm.last_number]
    return DESTROY_VIRTUAL_MACHINE.remark(operation)


def test_its_exports_stay() -> None:
    world = with_snapshots()
    world.do(export_vm())
    world.run()
    (export,) = world.vm.exports
    assert f"Its exports stay: {export.directory}." in preview(world, destroy()).warnings
    world.do(destroy())
    world.run()
    assert (world.vm.activity, world.vm.exports) == (VmActivity.DESTROYED, (export,))


def test_a_held_snapshot_refuses_it_whatever_its_kind() -> None:
    world = with_snapshots()
    world.do(HoldSnapshot(snapshot_id=sid(1), why="audit"))
    with pytest.raises(SnapshotHeld, match="s1"):
        world.do(destroy())


def test_one_that_is_held_before_its_turn_stops_it_and_the_vm_stays() -> None:
    world = with_snapshots(Power.STOPPED)
    world.do(destroy())
    until_done(world, REMOVE)
    world.do(HoldSnapshot(snapshot_id=sid(1), why="audit"))
    ended = world.run()
    assert failed(ended) == (OperationState.FAILED, "SNAPSHOT_HELD")
    assert (world.host.gone, world.vm.activity) == (False, VmActivity.IDLE)
    assert world.vm.snapshots[sid(1)].state is SnapshotState.READY
    assert "stays on its host" in ended.failure.message or "Deleted: s3" in ended.failure.message  # type: ignore[union-attr]


def test_an_unknown_power_refuses_it() -> None:
    world = with_snapshots()
    world.host.transition = "Stopping"
    seen(world)
    with pytest.raises(WrongPower):
        world.do(destroy())


def test_each_checkpoint_of_others_is_named_by_its_name_or_by_its_id() -> None:
    world = with_snapshots(Power.STOPPED)
    one, other = by_hand(world, "one"), by_hand(world, "other")
    with pytest.raises(ForeignCheckpointsInTheWay, match=f"'one' .*{one}.*'other'"):
        world.do(destroy())
    with pytest.raises(ForeignCheckpointsInTheWay, match="lost: 'other'"):
        world.do(destroy(foreign_checkpoints=("one",)))
    with pytest.raises(CheckpointNotFound):
        world.do(destroy(foreign_checkpoints=("one", "other", "third")))
    world.do(destroy(foreign_checkpoints=("one", other.upper())))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_name_that_several_bear_names_none_of_them() -> None:
    world = with_snapshots(Power.STOPPED)
    ids = [by_hand(world, "nightly") for _ in range(2)]
    with pytest.raises(ForeignCheckpointsInTheWay):
        world.do(destroy(foreign_checkpoints=("nightly",)))
    world.do(destroy(foreign_checkpoints=tuple(ids)))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_checkpoint_that_somebody_takes_amid_it_is_not_lost() -> None:
    world = with_snapshots(Power.STOPPED)
    world.do(destroy())
    until_done(world, REMOVE)
    world.host.merging = False
    world.host.take("precious")
    ended = world.run()
    assert failed(ended) == (OperationState.FAILED, "CHECKPOINTS_LEFT")
    assert "'precious'" in ended.failure.message  # type: ignore[union-attr]
    assert not world.host.gone


def test_until_the_vm_is_removed_it_can_be_cancelled_and_runs_again() -> None:
    world = with_snapshots()
    number = next(o.number for o in world.do(destroy()).vm.active_operations)
    until_done(world, REMOVE)
    world.cancel(number)
    assert world.run().state is OperationState.CANCELLED
    assert [action for action, *_ in world.host.effects] == [STOP, REMOVE, START]
    assert (world.vm.power, world.vm.activity) == (Power.RUNNING, VmActivity.IDLE)
    states = [world.vm.snapshots[sid(n)].state for n in (1, 2, 3)]
    assert states == [SnapshotState.READY, SnapshotState.READY, SnapshotState.REMOVED]


def test_a_second_request_for_the_same_is_answered_by_the_first_and_another_one_is_refused() -> None:
    world = with_snapshots(Power.STOPPED)
    world.do(destroy(delete_disks=True))
    number = world.vm.last_number
    world.do(destroy(delete_disks=True, used=(UsedFile("d1.vhdx", "VM web02"),)))
    assert world.vm.last_number == number
    with pytest.raises(OperationActive):
        world.do(destroy())


def test_of_a_vm_that_was_destroyed_nothing_is_changed_any_more() -> None:
    world = with_snapshots(Power.STOPPED)
    world.do(destroy())
    world.run()
    version, report = world.vm.version, replace(world.host, gone=False).report()
    for command in (
        start_vm(),
        create(9),
        destroy(),
        UnregisterVm(),
        UpdateVm(owner="eve", labels=None),
        RegisterVm(host_id=HostId("hv01"), owner="ops", report=report),
    ):
        with pytest.raises(VmDestroyed, match=r"web01.*was destroyed"):
            world.do(command)
    assert (world.vm.version, world.vm.activity) == (version, VmActivity.DESTROYED)


def test_a_vm_that_was_unregistered_is_not_destroyed() -> None:
    world = with_snapshots(Power.STOPPED)
    world.do(UnregisterVm())
    with pytest.raises(NotFound):
        world.do(destroy())


def test_what_others_use_is_left_and_told() -> None:
    world = World(power=Power.STOPPED)
    request = destroy(delete_disks=True, used=(UsedFile(world.host.leaf.upper(), "VM web02"),))
    assert f"{world.host.leaf} is left: VM web02 uses it." in preview(world, request).warnings
    world.do(request)
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.deleted == []
    assert "VM web02 uses it" in outcome(world)


def test_only_the_files_are_deleted_that_the_merges_have_left() -> None:
    world = with_snapshots(Power.STOPPED)
    files = world.host.chain(world.host.leaf)
    assert len(files) > 1
    world.do(destroy(delete_disks=True))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.deleted == [files[-1]]
    assert outcome(world) == f"Deleted, as far as they were still its files: {', '.join(sorted(files))}."


def test_a_vm_that_is_there_again_keeps_its_disks() -> None:
    world = with_snapshots(Power.STOPPED)
    world.do(destroy(delete_disks=True))
    until_done(world, REMOVE_VM)
    operation = world.vm.operations[world.vm.last_number]
    (step,) = (s for s in operation.steps if s.plan.action == DELETE_FILES)
    assert DESTROY_VIRTUAL_MACHINE.refusal(world.vm, operation, step) is None
    refused = DESTROY_VIRTUAL_MACHINE.refusal(replace(world.vm, power=Power.STOPPED), operation, step)
    assert refused is not None
    assert refused.reason == "VM_THERE_AGAIN"


def test_a_vm_that_others_have_removed_is_recorded_as_destroyed_when_no_host_has_it() -> None:
    world = with_snapshots(Power.STOPPED)
    world.host.gone = True
    seen(world)
    assert world.vm.power is Power.ABSENT
    asked = world.now
    world.do(destroy())
    ended = world.run()
    assert ended.state is OperationState.SUCCEEDED, ended
    assert (world.vm.activity, world.host.effects) == (VmActivity.DESTROYED, [])
    assert (world.now - asked).total_seconds() >= world.policy.move_wait_s
    assert {s.state for s in world.vm.snapshots.values()} == {SnapshotState.REMOVED}
    assert world.now > BEGIN


def test_of_such_a_vm_only_files_are_deleted_that_are_proven_to_be_its_disks() -> None:
    world = World(power=Power.STOPPED)
    world.host.gone = True
    seen(world)
    request = destroy(delete_disks=True)
    assert any("nothing proves" in warning for warning in preview(world, request).warnings)
    world.do(request)
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.deleted == []


def test_with_an_identifier_on_record_they_are_deleted_by_that() -> None:
    world = World(power=Power.STOPPED)
    assert world.vm.description is not None
    files = tuple(replace(file, identifier="0a0b") for file in world.vm.description.files)
    report = world.host.report()
    assert report.description is not None
    known = replace(report, description=replace(report.description, files=files))
    world.do(SyncVm(report=known, asked_version=world.vm.version))
    world.host.gone = True
    seen(world)
    world.do(destroy(delete_disks=True))
    (step,) = (s for s in world.vm.operations[world.vm.last_number].steps if s.plan.action == DELETE_FILES)
    assert FILES_DELETE.input.read(step.plan.input).only_identifier == "0a0b"
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.deleted == [world.host.leaf]


def test_if_others_remove_it_amid_the_operation_its_disks_stay() -> None:
    world = with_snapshots(Power.STOPPED)
    world.do(destroy(delete_disks=True))
    world.turn()
    world.host.gone = True
    ended = world.run()
    assert failed(ended) == (OperationState.FAILED, "DISKS_NOT_PROVEN")
    assert (world.vm.activity, world.host.deleted) == (VmActivity.DESTROYED, [])
