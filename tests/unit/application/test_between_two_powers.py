"""Operations of a VM whose power is not known for a while: what waits for it, how, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from snapshotd.domain.commands import TakeAnswer
from snapshotd.domain.events import ObservationIssued, VmPowerChanged
from snapshotd.domain.lifecycle import OperationState, Power, StepState, VmActivity
from snapshotd.domain.operation import Operation
from tests.asking import RESTORE, START, STOP, revert_to
from tests.fakes import World
from tests.unit.application.cases import chain, create, sid
from tests.unit.application.test_disturbed import newest, until_issued

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
