"""A restart: one operation, of a stop and a start."""

from __future__ import annotations

import pytest

from snapshotd.domain.errors import CancelTooLate, OperationActive, WrongPower
from snapshotd.domain.events import VmActivityChanged
from snapshotd.domain.lifecycle import OperationState, Power, StepState, VmActivity
from snapshotd.steps.vm_stop import StopMode
from tests.asking import START, STOP, restart_vm, start_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import begin

FINAL = "NotEnoughMemory,X"


def until_open(world: World, action: str) -> None:
    """Let time pass until a step of an action is issued."""
    while not (found := world.open_step()) or not found[1].open or found[1].plan.action != action:
        world.turn()


def test_a_restart_is_seen_to_stop_and_then_to_start() -> None:
    world = World()
    world.do(restart_vm())
    assert world.run().state is OperationState.SUCCEEDED
    moves = [(e.from_state, e.to_state) for e in world.log if isinstance(e, VmActivityChanged)]
    idle, stopping, starting = VmActivity.IDLE, VmActivity.STOPPING, VmActivity.STARTING
    assert moves == [(idle, stopping), (stopping, starting), (starting, idle)]


def test_a_vm_that_was_shut_down_meanwhile_is_only_started() -> None:
    world = World()
    world.do(restart_vm())
    world.host.power = Power.STOPPED
    ended = world.run()
    assert (ended.state, world.host.power) == (OperationState.SUCCEEDED, Power.RUNNING)
    assert [action for action, _, _ in world.host.effects] == [START]


def test_a_guest_that_does_not_shut_down_keeps_running() -> None:
    world = World()
    world.host.error_ids = {1: FINAL}
    world.do(restart_vm())
    ended = world.run()
    assert (ended.state, world.host.power, world.host.effects) == (OperationState.FAILED, Power.RUNNING, [])


def test_a_vm_that_cannot_be_started_again_is_said_to_be_off() -> None:
    world = World()
    world.host.error_ids = {2: FINAL, 3: FINAL}
    world.do(restart_vm(StopMode.TURN_OFF))
    ended = world.run()
    assert [s.state for s in ended.steps] == [StepState.DONE, StepState.FAILED, StepState.FAILED]
    assert (ended.state, world.vm.power) == (OperationState.FAILED, Power.STOPPED)
    assert ended.failure is not None
    assert ended.failure.message.startswith("VM web01 is off. ")
    assert ended.failure.message.endswith("To start it, run `snapshotctl vm start web01`.")


@pytest.mark.parametrize("timeout_s", [None, 3600.0])
@pytest.mark.parametrize("transition", ["", "Stopping"])
def test_a_turn_off_goes_past_the_shutdown_of_a_restart_and_nothing_is_started(
    transition: str, timeout_s: float | None
) -> None:
    world = World()
    world.do(restart_vm(timeout_s=timeout_s))
    until_open(world, STOP)
    begin(world)
    world.host.transition = transition
    world.do(stop_vm(StopMode.TURN_OFF))
    ended = world.run()
    assert world.vm.operations[1].state is OperationState.CANCELLED
    assert (ended.number, ended.state, world.host.power) == (2, OperationState.SUCCEEDED, Power.STOPPED)
    assert [action for action, _, _ in world.host.effects] == [STOP]


def test_no_turn_off_goes_past_the_start_of_a_restart() -> None:
    world = World()
    world.do(restart_vm())
    until_open(world, START)
    with pytest.raises(OperationActive):
        world.do(stop_vm(StopMode.TURN_OFF))


def test_a_restart_can_be_cancelled_until_its_start_is_issued() -> None:
    world = World()
    world.do(restart_vm())
    until_open(world, START)
    with pytest.raises(CancelTooLate):
        world.cancel(1)
    assert world.run().state is OperationState.SUCCEEDED


def test_a_restart_that_is_cancelled_after_its_stop_starts_the_vm_again() -> None:
    world = World()
    world.do(restart_vm())
    until_open(world, STOP)
    world.cancel(1)
    ended = world.run()
    assert (ended.state, world.host.power) == (OperationState.CANCELLED, Power.RUNNING)
    assert [action for action, _, _ in world.host.effects] == [STOP, START]


@pytest.mark.parametrize(
    ("power", "mode", "accepted"),
    [
        (Power.RUNNING, StopMode.SHUTDOWN, True),
        (Power.PAUSED, StopMode.TURN_OFF, True),
        (Power.PAUSED, StopMode.SHUTDOWN, False),
        (Power.SAVED, StopMode.TURN_OFF, False),
        (Power.STOPPED, StopMode.TURN_OFF, False),
        (Power.UNKNOWN, StopMode.TURN_OFF, False),
    ],
)
def test_only_a_vm_that_runs_is_restarted_or_a_paused_one_by_a_turn_off(
    power: Power, mode: StopMode, *, accepted: bool
) -> None:
    world = World(power=power)
    if accepted:
        world.do(restart_vm(mode))
        assert world.run().state is OperationState.SUCCEEDED
        assert world.host.power is Power.RUNNING
        return
    with pytest.raises(WrongPower) as refused:
        world.do(restart_vm(mode))
    assert str(refused.value).startswith("Cannot restart VM web01: its power state is ")


def test_a_second_restart_joins_the_first_and_a_start_is_refused_meanwhile() -> None:
    world = World()
    world.do(restart_vm())
    world.do(restart_vm())
    assert world.vm.last_number == 1
    with pytest.raises(OperationActive):
        world.do(start_vm())
