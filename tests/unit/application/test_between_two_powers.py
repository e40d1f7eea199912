"""Operations of a VM whose power is not known for a while: what waits for it, how, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.domain.commands import Proceed, RequestOperation, SyncVm, TakeAnswer
from snapshotd.domain.errors import OperationActive, WrongPower
from snapshotd.domain.events import ObservationIssued, VmPowerChanged
from snapshotd.domain.host_report import STATE_CHANGE, HostAnswer, Verdict
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import OperationState, Power, StepState, VmActivity
from snapshotd.domain.operation import Operation
from snapshotd.domain.state import replace
from snapshotd.operations.vm_stop import STOP_VIRTUAL_MACHINE
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, REMOVE, RESTORE, START, STOP, delete, revert_to, start_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import begin, chain, create, lose_command, sid
from tests.unit.application.test_disturbed import begin_and_die, newest, until_issued

NOT_KNOWN = ["Starting", "Stopping", "Saving", ""]
"""Hyper-V's words for what lies between two powers; none: a state that does not pass by itself."""


def unsettle(world: World, word: str) -> None:
    """Let the VM's power be unknown."""
    world.host.transition = word
    if not word:
        world.host.power = Power.UNKNOWN


def settle(world: World, power: Power) -> None:
    """Let the VM come to a power."""
    world.host.transition, world.host.power = "", power


def reverted(n: int, word: str) -> World:
    """Return a world in which a revert has moved the disks, and the power that it has left is not known."""
    world = World()
    chain(world)
    world.do(revert_to(sid(n)))
    until_issued(world, RESTORE)
    found = world.open_step()
    assert found is not None
    after = world.act(*found)
    unsettle(world, word)
    assert after.vm is not None
    world.turn()
    assert world.vm.power is Power.UNKNOWN
    return world


def look(world: World, times: int) -> Operation:
    """Let that many seconds pass, each with something that can happen."""
    for _ in range(times):
        world.now += timedelta(seconds=1)
        world.turn()
    return newest(world)


@pytest.mark.parametrize("word", NOT_KNOWN)
@pytest.mark.parametrize(
    ("n", "left", "then"), [(1, Power.RUNNING, [STOP]), (1, Power.STOPPED, []), (2, Power.SAVED, [START])]
)
def test_the_last_step_of_a_revert_waits_until_the_power_is_known(
    word: str, n: int, left: Power, then: list[str]
) -> None:
    world = reverted(n, word)
    last = world.vm.operations[newest(world).number].steps[-1].plan.number
    look(world, 2)
    version = world.vm.version
    waiting = look(world, 50)
    assert (waiting.state, world.vm.version) == (OperationState.RUNNING, version), (
        "a look that shows nothing is no event"
    )
    assert waiting.step(last).observing
    settle(world, left)
    before = len(world.host.effects)
    ended = world.run()
    assert ended.state is OperationState.SUCCEEDED
    assert [action for action, _, _ in world.host.effects[before:]] == then
    assert world.vm.power is (Power.STOPPED if n == 1 else Power.RUNNING)
    assert world.vm.current_id == sid(n)


@pytest.mark.parametrize("word", NOT_KNOWN)
def test_the_last_step_of_a_revert_waits_no_longer_than_it_may_take(word: str) -> None:
    world = reverted(2, word)
    look(world, 3)
    world.now += timedelta(seconds=world.policy.power_wait_s)
    ended = look(world, 1)
    assert ended.failure is not None
    assert (ended.state, ended.failure.reason) == (OperationState.FAILED, "WRONG_POWER_STATE")
    assert (world.vm.activity, world.vm.current_id) == (VmActivity.IDLE, sid(2))


def test_an_undo_waits_until_the_power_is_known() -> None:
    world = World()
    chain(world)
    world.do(revert_to(sid(1)))
    world.host.error_ids = {2: "OperationFailed,x"}
    until_issued(world, RESTORE)
    found = world.open_step()
    assert found is not None
    operation, step = found
    refused = world.act(operation, step)
    unsettle(world, "")
    refused = replace(refused, vms=(world.host.report(),))
    world.do(TakeAnswer(number=operation.number, step=step.plan.number, token=step.token, answer=refused))
    assert newest(world).undoing
    look(world, 20)
    settle(world, Power.STOPPED)
    assert world.run().state is OperationState.FAILED
    assert (world.vm.power, world.host.power) == (Power.RUNNING, Power.RUNNING)


def test_a_first_step_waits_for_a_change_that_is_under_way_and_begins_then() -> None:
    world = World()
    world.do(create(1))
    world.host.transition = "Starting"
    waiting = look(world, 30)
    assert (waiting.state, waiting.step(1).state) == (OperationState.PENDING, StepState.DUE)
    assert len([x for x in world.log if isinstance(x, ObservationIssued)]) == 1
    settle(world, Power.RUNNING)
    assert world.run().state is OperationState.SUCCEEDED
    assert Power.UNKNOWN not in [x.to_power for x in world.log if isinstance(x, VmPowerChanged)]


def hanging(request: RequestOperation, action: ActionName, *, power: Power = Power.RUNNING) -> World:
    """Return a world in which a step's outcome is unknown, and the VM stays between two powers."""
    world = World()
    chain(world)
    if power is Power.STOPPED:
        world.do(stop_vm(StopMode.TURN_OFF))
        world.run()
    world.host.effects.clear()
    world.do(request)
    until_issued(world, action)
    begin_and_die(world)
    world.host.transition = "Starting" if action == START else "Stopping"
    return world


HANGING = [
    (stop_vm(StopMode.SHUTDOWN), STOP, Power.RUNNING),
    (stop_vm(StopMode.SAVE), STOP, Power.RUNNING),
    (start_vm(), START, Power.STOPPED),
    (create(9), CREATE, Power.RUNNING),
    (revert_to(sid(2)), RESTORE, Power.RUNNING),
    (delete(sid(2)), REMOVE, Power.RUNNING),
]
each_hanging = pytest.mark.parametrize(("request_", "action", "power"), HANGING)


@each_hanging
def test_a_step_waits_for_a_vm_between_two_powers_no_longer_than_it_may_take(
    request_: RequestOperation, action: ActionName, power: Power
) -> None:
    world = hanging(request_, action, power=power)
    waiting = look(world, 60)
    assert waiting.state is OperationState.RUNNING
    deadline = next(s.deadline for s in waiting.steps if s.state is StepState.OUTCOME_UNKNOWN)
    assert deadline is not None
    world.now = deadline
    ended = look(world, 2)
    assert ended.failure is not None
    assert (ended.state, ended.failure.reason) == (OperationState.FAILED, "DEADLINE_EXCEEDED")
    assert f"VM web01 is still {world.host.transition} on the host" in ended.failure.message
    assert (world.vm.activity, world.host.effects) == (VmActivity.IDLE, [])
    late = HostAnswer(verdict=Verdict.STALE, highest_token=world.host.journal.highest_token)
    assert world.host.observe(world.host.journal.highest_token - 1) == late, "what was sent for it can act no more"


@pytest.mark.parametrize(("request_", "action", "power"), [way for way in HANGING if way[1] not in (RESTORE, REMOVE)])
def test_a_cancel_is_obeyed_when_the_step_has_had_its_time(
    request_: RequestOperation, action: ActionName, power: Power
) -> None:
    world = hanging(request_, action, power=power)
    world.cancel(newest(world).number)
    assert look(world, 5).active
    world.now += timedelta(seconds=world.policy.create_wait_s)
    assert look(world, 2).state is OperationState.CANCELLED
    settle(world, power)
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    assert (world.vm.activity, world.vm.power) == (VmActivity.IDLE, power)


def test_what_the_hypervisor_really_does_is_waited_for_past_every_deadline() -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    begin_and_die(world)
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    world.now += timedelta(days=1)
    report = replace(world.host.report(), activities=("CREATE", STATE_CHANGE))
    answer = HostAnswer(verdict=Verdict.OBSERVED, vms=(report,))
    assert world.do(TakeAnswer(number=1, step=1, token=found[1].token, answer=answer)).events == []


@pytest.mark.parametrize("so_far", ["not begun", "on its way", "at work", "unknown", "done"])
def test_a_turn_off_goes_past_a_shutdown(so_far: str) -> None:
    world = World()
    if so_far != "not begun":
        world.do(stop_vm(StopMode.TURN_OFF))
        world.run()
        world.do(start_vm())
        world.run()
    world.host.effects.clear()
    world.do(stop_vm(StopMode.SHUTDOWN))
    shutdown = newest(world).number
    if so_far != "not begun":
        until_issued(world, STOP)
    if so_far in ("at work", "unknown"):
        begin(world)
        world.host.transition = "Stopping"
    if so_far == "unknown":
        lose_command(world)
        look(world, 3)
    if so_far == "done":
        found = world.open_step()
        assert found is not None
        world.act(*found)
    world.do(stop_vm(StopMode.TURN_OFF))
    ended = look_until_over(world)
    assert world.vm.operations[shutdown].state is OperationState.CANCELLED
    assert (ended.state, ended.number) == (OperationState.SUCCEEDED, shutdown + 1)
    assert (world.host.power, world.vm.power, world.vm.activity) == (Power.STOPPED, Power.STOPPED, VmActivity.IDLE)
    assert [action for action, _, _ in world.host.effects] == [STOP], "and nothing is started in between"


def look_until_over(world: World) -> Operation:
    """Let a minute at most pass, in which all must end."""
    end = world.now + timedelta(seconds=60)
    while world.vm.active_operations:
        world.now += timedelta(seconds=1)
        world.turn(seconds=1)
        assert world.now < end, world.vm.active_operations
    return newest(world)


@pytest.mark.parametrize(
    ("active", "asked"),
    [
        (StopMode.SHUTDOWN, stop_vm(StopMode.SAVE)),
        (StopMode.SAVE, stop_vm(StopMode.TURN_OFF)),
        (StopMode.TURN_OFF, stop_vm(StopMode.SHUTDOWN)),
        (StopMode.SHUTDOWN, start_vm()),
    ],
)
def test_nothing_else_goes_past_a_stop(active: StopMode, asked: RequestOperation) -> None:
    world = World()
    world.do(stop_vm(active))
    with pytest.raises(OperationActive):
        world.do(asked)


def test_a_second_turn_off_joins_the_one_that_goes_past_the_shutdown() -> None:
    world = hanging(stop_vm(StopMode.SHUTDOWN), STOP)
    world.do(stop_vm(StopMode.TURN_OFF))
    number = world.vm.last_number
    world.do(stop_vm(StopMode.TURN_OFF))
    assert world.vm.last_number == number
    with pytest.raises(OperationActive):
        world.do(stop_vm(StopMode.SHUTDOWN))


def test_a_vm_that_an_administrators_shutdown_has_left_between_two_powers_is_turned_off() -> None:
    world = hanging(stop_vm(StopMode.SHUTDOWN), STOP)
    world.now += timedelta(days=1)
    assert look(world, 2).state is OperationState.FAILED
    assert world.vm.power is Power.UNKNOWN
    with pytest.raises(WrongPower):
        world.do(stop_vm(StopMode.SAVE))
    world.do(stop_vm(StopMode.TURN_OFF))
    assert look_until_over(world).state is OperationState.SUCCEEDED
    assert world.vm.power is world.host.power is Power.STOPPED


@pytest.mark.parametrize("state", ["Stopping", "StoppingCritical"])
@pytest.mark.parametrize("known", [False, True])
def test_a_turn_off_needs_no_sync_to_pass_a_shutdown_that_an_administrator_has_begun(
    *, known: bool, state: str
) -> None:
    world = World()
    if known:
        chain(world)
    world.host.effects.clear()
    world.host.transition = state
    assert world.vm.power is Power.RUNNING
    world.do(stop_vm(StopMode.TURN_OFF))
    assert look_until_over(world).state is OperationState.SUCCEEDED
    assert (world.host.power, world.host.transition) == (Power.STOPPED, "")


def test_a_turn_off_that_was_begun_waits_for_what_it_has_begun() -> None:
    world = hanging(stop_vm(StopMode.TURN_OFF), STOP)
    assert look(world, 60).step(1).attempts == 1
    settle(world, Power.STOPPED)
    assert look_until_over(world).state is OperationState.SUCCEEDED
    assert world.host.effects == []


def test_a_shutdown_whose_turn_off_is_cancelled_again_goes_on() -> None:
    world = World()
    world.do(stop_vm(StopMode.SHUTDOWN))
    until_issued(world, STOP)
    begin(world)
    world.host.transition = "Stopping"
    world.do(stop_vm(StopMode.TURN_OFF))
    world.cancel(world.vm.last_number)
    assert [o.kind for o in world.vm.active_operations] == [STOP_VIRTUAL_MACHINE.name]
    look(world, 5)
    settle(world, Power.STOPPED)
    assert look_until_over(world).state is OperationState.CANCELLED
    assert world.vm.operations[1].state is OperationState.CANCELLED
    assert world.host.power is Power.RUNNING, "a shutdown that is cancelled is undone"
