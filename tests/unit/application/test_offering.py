"""Another offering: what refuses it, what it discards, what it leaves as it is, and what a revert brings back."""

from __future__ import annotations

import pytest

from snapshotd.domain.commands import HoldSnapshot, ReleaseSnapshot, SyncVm
from snapshotd.domain.errors import InvalidArgument, VmAbsent
from snapshotd.domain.events import DriftDetected
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.offering_errors import ForeignMemory, OfferingNeedsStopped
from snapshotd.domain.snapshot_errors import SnapshotHeld
from snapshotd.domain.state import replace
from snapshotd.operations.offering_change import CHANGE_SERVICE_OFFERING
from snapshotd.server.operation_messages import operation_message
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CONFIGURE, REMOVE, RESTORE, change_offering, revert_to, stop_vm
from tests.fakes import HAS, World
from tests.unit.application.cases import chain, create, sid

FINAL = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.X"


def stopped() -> World:
    """Return a world with snapshots of disk, memory, disk in a chain, and the VM off."""
    world = World()
    chain(world)
    world.do(stop_vm(StopMode.TURN_OFF))
    world.run()
    world.host.effects.clear()
    return world


@pytest.mark.parametrize("power", [Power.RUNNING, Power.PAUSED, Power.SAVED])
def test_a_vm_that_is_not_off_is_refused_with_what_to_do(power: Power) -> None:
    with pytest.raises(OfferingNeedsStopped, match=f"is {power.name}, and must be STOPPED.*`snapshotctl vm stop web01"):
        World(power=power).do(change_offering(cpu_count=4))


def test_a_vm_that_its_host_does_not_have_is_refused() -> None:
    world = stopped()
    world.host.gone = True
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    with pytest.raises(VmAbsent):
        world.do(change_offering(cpu_count=4))


def test_a_held_snapshot_with_memory_refuses_it_by_name_and_one_of_disks_does_not() -> None:
    world = stopped()
    world.do(HoldSnapshot(snapshot_id=sid(1), why=""))
    world.do(HoldSnapshot(snapshot_id=sid(2), why="audit"))
    with pytest.raises(SnapshotHeld, match=r"snapshot s2: ann has held it .*\(audit\)"):
        world.do(change_offering(cpu_count=4))
    world.do(ReleaseSnapshot(snapshot_id=sid(2)))
    world.do(change_offering(cpu_count=4))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.snapshots[sid(1)].state is SnapshotState.READY


def test_a_snapshot_that_is_held_before_its_turn_ends_the_operation_and_nothing_is_set() -> None:
    world = stopped()
    world.do(change_offering(cpu_count=4))
    world.do(HoldSnapshot(snapshot_id=sid(2), why=""))
    ended = world.run()
    assert ended.failure is not None
    assert (ended.state, ended.failure.reason) == (OperationState.FAILED, "SNAPSHOT_HELD")
    assert (world.host.effects, world.host.offering) == ([], HAS)


def with_foreign_memory(world: World) -> World:
    """Have somebody take a checkpoint with memory, and see it."""
    world.host.take("a backup's", has_memory=True)
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    return world


def test_memory_in_a_checkpoint_that_is_not_ours_refuses_it_by_name() -> None:
    with pytest.raises(ForeignMemory, match='hold its memory: "a backup\'s"'):
        with_foreign_memory(stopped()).do(change_offering(cpu_count=4))


def test_memory_that_others_take_amid_it_is_not_made_useless() -> None:
    world = stopped()
    world.do(change_offering(cpu_count=4))
    with_foreign_memory(world)
    ended = world.run()
    assert ended.failure is not None
    assert (ended.failure.reason, world.host.offering) == ("FOREIGN_CHECKPOINT_WITH_MEMORY", HAS)


@pytest.mark.parametrize(
    ("asked", "field", "problem"),
    [
        ({"minimum_bytes": 1 << 30}, "minimum_bytes", "goes with dynamic memory only"),
        ({"maximum_bytes": 8 << 30, "dynamic_memory": False}, "maximum_bytes", "goes with dynamic memory only"),
        (
            {"dynamic_memory": True, "minimum_bytes": 5 << 30},
            "minimum_bytes",
            "above memory_bytes, which would be 4",
        ),
        (
            {"dynamic_memory": True, "maximum_bytes": 3 << 30},
            "maximum_bytes",
            "below memory_bytes, which would be 4",
        ),
        (
            {"dynamic_memory": True, "memory_bytes": 256 << 20},
            "memory_bytes",
            "below minimum_bytes, which would be 512 MiB",
        ),
    ],
)
def test_values_that_do_not_fit_with_what_stays_are_refused(
    asked: dict[str, int | bool], field: str, problem: str
) -> None:
    with pytest.raises(InvalidArgument, match=problem) as refused:
        stopped().do(change_offering(**asked))
    assert refused.value.field == f"service_offering.{field}"


def test_a_plan_lists_what_would_be_discarded_leaves_first() -> None:
    world = World()
    for n in (1, 2):
        world.do(create(n, memory=True))
        world.run()
    world.do(stop_vm(StopMode.TURN_OFF))
    world.run()
    seen = CHANGE_SERVICE_OFFERING.preview(world.vm, change_offering(cpu_count=4))
    assert (seen.discarded, seen.current, seen.power) == ((sid(2), sid(1)), None, Power.STOPPED)
    steps = CHANGE_SERVICE_OFFERING.plan(world.vm, change_offering(cpu_count=4, memory_bytes=8 << 30))
    assert [s.action for s in steps if not s.polls] == [REMOVE, REMOVE, CONFIGURE, CONFIGURE]


def test_what_the_vm_has_already_is_not_set_and_nothing_is_discarded_for_it() -> None:
    world = stopped()
    asked = change_offering(cpu_count=HAS.cpu_count, memory_bytes=HAS.memory_bytes)
    assert CHANGE_SERVICE_OFFERING.preview(world.vm, asked).discarded == ()
    assert "Nothing would be changed" in CHANGE_SERVICE_OFFERING.preview(world.vm, asked).warnings[-1]
    world.do(asked)
    ended = world.run()
    assert (ended.state, {s.state for s in ended.steps}) == (OperationState.SUCCEEDED, {StepState.SKIPPED})
    assert (world.host.effects, world.vm.snapshots[sid(2)].state) == ([], SnapshotState.READY)


def test_of_two_changes_the_one_that_is_so_already_is_skipped() -> None:
    world = stopped()
    world.do(change_offering(cpu_count=HAS.cpu_count, memory_bytes=8 << 30))
    world.run()
    assert [action for action, _, _ in world.host.effects] == [REMOVE, CONFIGURE]
    assert world.host.offering == replace(HAS, memory_bytes=8 << 30)


def test_the_vm_is_expunging_and_then_reconfiguring() -> None:
    world = stopped()
    seen = [VmActivity.IDLE]
    world.watch = lambda vm: seen.append(vm.activity) if vm.activity is not seen[-1] else None
    world.do(change_offering(cpu_count=4))
    world.run()
    assert seen == [VmActivity.IDLE, VmActivity.EXPUNGING, VmActivity.RECONFIGURING, VmActivity.IDLE]


def test_a_change_that_is_refused_half_way_is_undone_and_says_what_stays_deleted() -> None:
    world = stopped()
    world.host.error_ids = {4: FINAL}
    world.do(change_offering(cpu_count=4, memory_bytes=8 << 30))
    ended = world.run()
    assert (ended.state, world.host.offering) == (OperationState.FAILED, HAS)
    assert ended.failure is not None
    assert ended.failure.message.endswith("Deleted: s2. Not deleted: none.")
    assert [action for action, _, _ in world.host.effects] == [REMOVE, CONFIGURE, CONFIGURE]
    assert world.vm.snapshots[sid(2)].state is SnapshotState.REMOVED


def test_what_others_set_since_is_left_when_a_change_is_undone() -> None:
    world = stopped()
    world.host.error_ids = {4: "InvalidState,X"}
    world.do(change_offering(cpu_count=4, memory_bytes=8 << 30))
    while world.vm.operations[world.vm.last_number].step(3).state is not StepState.DONE:
        world.turn()
    world.host.offering = replace(world.host.offering, cpu_count=6)
    assert world.run().state is OperationState.FAILED
    assert world.host.offering.cpu_count == 6


def test_one_that_is_cancelled_after_its_deletions_says_what_stays_deleted() -> None:
    world = stopped()
    world.do(change_offering(cpu_count=4))
    number = world.vm.last_number
    while world.vm.operations[number].step(2).state is not StepState.DONE:
        world.turn()
    world.cancel(number)
    ended = world.run()
    assert (ended.state, world.host.offering) == (OperationState.CANCELLED, HAS)
    assert (
        "1 snapshot had been deleted by then, and cannot be brought back."
        in operation_message(ended, None).error.message
    )
    assert world.vm.snapshots[sid(2)].state is SnapshotState.REMOVED


def test_a_revert_brings_back_the_offering_of_the_snapshots_moment_and_that_is_no_drift() -> None:
    world = stopped()
    world.do(change_offering(cpu_count=4, memory_bytes=8 << 30))
    world.run()
    world.do(create(5))
    world.run()
    changed = replace(HAS, cpu_count=4, memory_bytes=8 << 30)
    assert (world.vm.snapshots[sid(1)].offering, world.vm.snapshots[sid(5)].offering) == (HAS, changed)
    for target, offering in ((sid(1), HAS), (sid(5), changed)):
        world.do(revert_to(target))
        assert world.run().state is OperationState.SUCCEEDED
        assert world.vm.description is not None
        assert world.vm.description.offering == world.host.offering == offering
    assert not [event for event in world.log if isinstance(event, DriftDetected)]


def test_a_revert_to_a_checkpoint_whose_offering_is_not_known_is_no_drift() -> None:
    world = stopped()
    world.do(change_offering(cpu_count=4))
    world.run()
    for checkpoint_id, checkpoint in world.host.checkpoints.items():
        world.host.checkpoints[checkpoint_id] = replace(checkpoint, offering=None)
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    world.do(revert_to(sid(1)))
    while not (found := world.open_step()) or (found[1].plan.action, found[1].state) != (RESTORE, StepState.ISSUED):
        world.turn()
    world.host.offering = HAS
    assert world.run().state is OperationState.SUCCEEDED
    assert not [event for event in world.log if isinstance(event, DriftDetected)]


def test_a_vm_that_is_started_before_the_offering_is_set_keeps_what_it_has() -> None:
    world = stopped()
    world.do(change_offering(cpu_count=4))
    while world.vm.operations[world.vm.last_number].step(2).state is not StepState.DONE:
        world.turn()
    world.host.power = Power.RUNNING
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    ended = world.run()
    assert ended.failure is not None
    assert (ended.failure.reason, world.host.offering) == ("OFFERING_NEEDS_STOPPED_VM", HAS)
    with pytest.raises(OfferingNeedsStopped):
        world.do(change_offering(cpu_count=4))
