"""Memory that is lost is said to be: the guest's by a revert that was undone, the snapshot's by one that went on."""

from __future__ import annotations

import pytest

from snapshotd.domain.commands import SyncVm
from snapshotd.domain.events import MemoryLost
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.operation import Operation
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT, PowerAfter, Reverted
from snapshotd.server.operation_messages import metadata_message
from snapshotd.steps.vm_stop import StopMode
from tests.asking import RESTORE, START, restart_vm, revert_to, stop_vm
from tests.fakes import World
from tests.unit.application.cases import chain, lose_command, sid

FINAL = "OperationFailed,X"
RESTARTED = "The VM was restarted; what its guest held in memory is lost. All other changes were rolled back."
COLD = "The memory that the snapshot holds was lost: the VM was off by then, and was started from its disks."


def chained(power: Power = Power.RUNNING) -> World:
    """Return a world with a chain of three, of which the second has memory, in a power."""
    world = World()
    chain(world)
    ways = {Power.STOPPED: StopMode.TURN_OFF, Power.SAVED: StopMode.SAVE, Power.PAUSED: StopMode.PAUSE}
    if power in ways:
        world.do(stop_vm(ways[power]))
        world.run()
    world.log.clear()
    return world


def lost(world: World) -> list[SnapshotId | None]:
    """Return what memory was recorded as lost."""
    return [event.snapshot_id for event in world.log if isinstance(event, MemoryLost)]


def detail(operation: Operation) -> str:
    """Return what the API says of an operation that has ended."""
    return metadata_message(operation, None, 0).outcome_detail


def restored(world: World, *, require_memory: bool = False) -> None:
    """Ask for a revert to the memory, and carry it out up to the start, which is due or issued."""
    world.do(revert_to(sid(2), require_memory=require_memory))
    while (operation := world.vm.operations[world.vm.last_number]).step(len(operation.steps) - 1).state in (
        StepState.DUE,
        StepState.ISSUED,
    ):
        world.turn()
    assert world.vm.current_id == sid(2)


def test_a_revert_that_turned_a_running_guest_off_and_on_says_so() -> None:
    world = chained()
    world.host.error_ids = {2: FINAL}
    world.do(revert_to(sid(1)))
    ended = world.run()
    assert (ended.state, world.host.power, lost(world)) == (OperationState.FAILED, Power.RUNNING, [None])
    assert detail(ended) == RESTARTED


@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED])
def test_a_revert_that_failed_before_it_touched_the_power_has_lost_nothing(power: Power) -> None:
    world = chained(power)
    world.host.error_ids = dict.fromkeys((1, 2), FINAL)
    world.do(revert_to(sid(1)))
    ended = world.run()
    assert (ended.state, lost(world), ended.memory_lost) == (OperationState.FAILED, [], False)


@pytest.mark.parametrize("power", [Power.SAVED, Power.PAUSED])
def test_memory_that_a_turn_off_has_taken_of_a_vm_that_did_not_run_is_told(power: Power) -> None:
    world = chained(power)
    world.host.error_ids = {2: FINAL}
    world.do(revert_to(sid(1)))
    ended = world.run()
    assert (ended.state, world.host.power, lost(world)) == (OperationState.FAILED, Power.STOPPED, [None])
    assert detail(ended) == "Not all changes were rolled back; see the steps. What the guest held in memory is lost."


def test_a_restart_by_a_turn_off_that_is_undone_has_lost_the_memory() -> None:
    world = chained()
    world.host.error_ids = {2: FINAL}
    world.do(restart_vm(StopMode.TURN_OFF))
    ended = world.run()
    assert (ended.state, world.host.power) == (OperationState.FAILED, Power.RUNNING)
    assert (lost(world), detail(ended)) == ([None], RESTARTED)


@pytest.mark.parametrize("mode", [StopMode.SHUTDOWN, StopMode.SAVE, StopMode.PAUSE])
def test_a_guest_that_was_stopped_in_order_has_lost_nothing(mode: StopMode) -> None:
    world = chained()
    world.do(stop_vm(mode))
    while not (found := world.open_step()) or not found[1].open:
        world.turn()
    world.cancel(world.vm.last_number)
    ended = world.run()
    assert (ended.state, lost(world)) == (OperationState.CANCELLED, [])
    assert detail(ended) == "All changes were rolled back."


@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED, Power.SAVED])
def test_a_revert_to_a_memory_snapshot_loses_none(power: Power) -> None:
    world = chained(power)
    restored(world, require_memory=True)
    ended = world.run()
    assert (ended.state, world.host.power, lost(world)) == (OperationState.SUCCEEDED, Power.RUNNING, [])
    assert REVERT_TO_SNAPSHOT.result(ended) == Reverted(sid(2), None, memory_lost=False)


def saved(world: World) -> None:
    """Have the preparatory start fail, so that the restore leaves the VM SAVED."""
    world.host.error_ids = {1: FINAL}


@pytest.mark.parametrize("seen", ["by its start", "by a sync before it"])
def test_a_vm_that_was_turned_off_by_hand_before_its_memory_went_on_is_said_to_have_been_started_from_disks(
    seen: str,
) -> None:
    world = chained(Power.STOPPED)
    saved(world)
    restored(world)
    world.host.power = Power.STOPPED
    if seen == "by a sync before it" and world.open_step() is None:
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    ended = world.run()
    assert (ended.state, world.host.power, world.vm.power) == (
        OperationState.SUCCEEDED,
        Power.RUNNING,
        Power.RUNNING,
    )
    assert (lost(world), detail(ended)) == ([sid(2)], COLD)
    assert REVERT_TO_SNAPSHOT.result(ended) == Reverted(sid(2), None, memory_lost=True)


def test_a_running_vm_that_was_turned_off_by_hand_right_after_the_restore_has_lost_the_memory_too() -> None:
    world = chained()
    world.do(revert_to(sid(2)))
    while not (found := world.open_step()) or found[1].plan.action != RESTORE or not found[1].open:
        world.turn()
    world.act(*found)
    world.host.power = Power.STOPPED
    lose_command(world)
    ended = world.run()
    assert (ended.state, world.host.power, lost(world)) == (OperationState.SUCCEEDED, Power.RUNNING, [sid(2)])


def test_a_caller_that_requires_the_memory_gets_a_failure_and_no_start_from_disks() -> None:
    world = chained(Power.STOPPED)
    saved(world)
    restored(world, require_memory=True)
    world.host.power = Power.STOPPED
    ended = world.run()
    assert (ended.state, world.host.power) == (OperationState.FAILED, Power.STOPPED)
    assert START not in [action for action, _, _ in world.host.effects]
    assert ended.failure is not None
    assert ended.failure.reason == "MEMORY_LOST"
    assert ended.failure.message == (
        "The disks are back at snapshot s2, but VM web01 is not running: it is STOPPED. "
        "The memory that the snapshot holds was lost, and the request requires it: VM web01 was turned off before it "
        "could go on from it. To get the memory, revert to the snapshot again. Run `snapshotctl vm start web01`."
    )
    assert (lost(world), detail(ended)) == ([sid(2)], "The memory that the snapshot holds was lost.")
    assert world.vm.snapshots[sid(2)].state is SnapshotState.READY
    world.do(revert_to(sid(2), require_memory=True))
    assert world.run().state is OperationState.SUCCEEDED


def test_memory_that_is_given_up_by_the_power_that_was_asked_for_is_not_lost() -> None:
    world = chained(Power.STOPPED)
    world.do(revert_to(sid(2), power_after=PowerAfter.AS_BEFORE))
    ended = world.run()
    assert (ended.state, world.host.power, lost(world)) == (OperationState.SUCCEEDED, Power.STOPPED, [])


def test_a_disk_snapshot_holds_no_memory_to_lose() -> None:
    world = chained()
    world.do(revert_to(sid(1), power_after=PowerAfter.RUNNING))
    ended = world.run()
    assert (ended.state, lost(world), detail(ended)) == (OperationState.SUCCEEDED, [], "")
