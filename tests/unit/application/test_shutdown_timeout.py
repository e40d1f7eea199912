"""A shutdown with a timeout: the VM is turned off after it, as a step of its own. Without one, it never is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.domain.commands import LoseOutcome, NotSent
from snapshotd.domain.lifecycle import OperationState, Power, StepState, VmActivity
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.operations.catalogue import KINDS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import STOP, stop_vm
from tests.fakes import World
from tests.unit.application.cases import begin, chain

TIMEOUT_S = 90.0
DEADLINE = Failure(reason="DEADLINE_EXCEEDED", message="The script was ended at its deadline.")


def asked(world: World, timeout_s: float | None = TIMEOUT_S) -> tuple[Operation, Step]:
    """Ask for a shutdown, and let time pass until it is issued; return it."""
    world.do(stop_vm(StopMode.SHUTDOWN, timeout_s))
    while not (found := world.open_step()) or not found[1].open:
        world.turn()
    return found


def run_out(world: World, operation: Operation, step: Step) -> None:
    """Let a shutdown's script work until its deadline, and be ended then."""
    begin(world)
    assert step.deadline is not None
    world.now = step.deadline
    world.do(LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=DEADLINE))


@pytest.mark.parametrize("transition", ["", "Stopping"])
def test_a_vm_that_is_not_off_after_the_timeout_is_turned_off(transition: str) -> None:
    world = World()
    operation, step = asked(world)
    assert step.deadline == world.now + timedelta(seconds=TIMEOUT_S)
    world.host.transition = transition
    run_out(world, operation, step)
    ended = world.run()
    assert [(s.state, s.attempts) for s in ended.steps] == [(StepState.FAILED, 1), (StepState.DONE, 1)]
    assert ended.state is OperationState.SUCCEEDED
    assert world.vm.power is world.host.power is Power.STOPPED
    assert world.vm.activity is VmActivity.IDLE
    assert KINDS[ended.kind].remark(ended) == (
        "Its guest did not shut down (DEADLINE_EXCEEDED), so the VM was turned off. "
        "What the guest held in memory is lost."
    )


def test_a_guest_that_shuts_down_in_time_is_not_turned_off() -> None:
    world = World()
    world.do(stop_vm(StopMode.SHUTDOWN, TIMEOUT_S))
    ended = world.run()
    assert [s.state for s in ended.steps] == [StepState.DONE, StepState.SKIPPED]
    assert (ended.state, KINDS[ended.kind].remark(ended)) == (OperationState.SUCCEEDED, "")


def test_a_guest_that_cannot_be_shut_down_is_turned_off_at_once() -> None:
    world = World()
    world.host.error_ids = {1: "NoShutdownIntegrationComponent,X"}
    world.do(stop_vm(StopMode.SHUTDOWN, TIMEOUT_S))
    ended = world.run()
    assert [s.state for s in ended.steps] == [StepState.FAILED, StepState.DONE]
    assert world.host.power is Power.STOPPED


def test_without_a_timeout_a_shutdown_never_becomes_a_power_cut() -> None:
    world = World()
    operation, step = asked(world, timeout_s=None)
    assert step.deadline == world.now + timedelta(seconds=world.policy.power_wait_s)
    run_out(world, operation, step)
    ended = world.run()
    assert (ended.state, len(ended.steps), world.host.power) == (OperationState.FAILED, 1, Power.RUNNING)


def test_the_timeout_counts_from_the_first_attempt() -> None:
    world = World()
    world.host.error_ids = {1: "ObjectInUse,X"}
    world.do(stop_vm(StopMode.SHUTDOWN, TIMEOUT_S))
    first: Step | None = None
    while (step := world.vm.operations[world.vm.last_number].step(1)).state is not StepState.FAILED:
        if step.deadline is not None:
            first = first or step
            assert step.deadline == first.deadline
        world.turn()
    assert first is not None
    assert 1 < step.attempts < world.policy.max_attempts
    assert world.run().state is OperationState.SUCCEEDED
    assert [action for action, _, _ in world.host.effects] == [STOP]


def test_the_time_in_which_nothing_could_be_sent_does_not_count() -> None:
    world = World()
    operation, step = asked(world)
    unsent = Failure(reason="HOST_UNREACHABLE", message="Nobody is there.")
    world.do(NotSent(number=operation.number, step=1, token=step.token, failure=unsent))
    world.now += timedelta(hours=5)
    world.host.error_ids = {1: "ObjectInUse,X"}
    while world.vm.operations[operation.number].step(1).attempts < 2:
        world.turn(seconds=1)
    world.host.error_ids = {}
    ended = world.run()
    assert [s.state for s in ended.steps] == [StepState.DONE, StepState.SKIPPED]


@pytest.mark.parametrize("transition", ["", "Stopping"])
def test_a_turn_off_goes_past_a_shutdown_with_a_timeout(transition: str) -> None:
    world = World()
    chain(world)
    operation, _ = asked(world)
    begin(world)
    world.host.transition = transition
    world.do(stop_vm(StopMode.TURN_OFF))
    ended = world.run()
    passed = world.vm.operations[operation.number]
    assert (passed.state, [s.state for s in passed.steps]) == (
        OperationState.CANCELLED,
        [StepState.FAILED, StepState.SKIPPED],
    )
    assert (ended.number, ended.state) == (operation.number + 1, OperationState.SUCCEEDED)
    assert [action for action, _, _ in world.host.effects] == [STOP]


def test_a_shutdown_with_a_timeout_that_is_cancelled_turns_nothing_off() -> None:
    world = World()
    operation, step = asked(world)
    world.cancel(operation.number)
    run_out(world, operation, step)
    ended = world.run()
    assert (ended.state, ended.step(2).state) == (OperationState.CANCELLED, StepState.SKIPPED)
    assert world.host.power is Power.RUNNING
