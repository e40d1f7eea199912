"""What the journal on the host says is done is done, whatever others have made of the VM since: that is drift."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import CancelOperation, RequestOperation
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.state import replace
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, REMOVE, RENAME, RESTORE, START, STOP, delete, revert_to, start_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import chain, create, sid
from tests.unit.application.test_disturbed import act_and_lose_the_answer, causes, drifted, newest, until_issued


def undone_by_hand(world: World, action: ActionName, before: Power) -> None:
    """Have an administrator take back what a step has done."""
    host = world.host
    if action in (START, STOP):
        host.power = before
    elif action == CREATE:
        assert host.current is not None
        host.remove(host.current)
        host.merge()
    elif action == RENAME:
        host.checkpoints = {i: replace(c, name="by hand") for i, c in host.checkpoints.items()}
    elif action == RESTORE:
        host.apply(CheckpointId(list(host.checkpoints)[-1]))
    else:
        assert action == REMOVE
        gone = CheckpointId("cccccccc-0000-4000-8000-000000000099")
        host.checkpoints[gone] = replace(next(iter(host.checkpoints.values())), checkpoint_id=gone, name="back")


WAYS = [
    (Power.RUNNING, stop_vm(StopMode.SHUTDOWN), STOP),
    (Power.RUNNING, stop_vm(StopMode.SAVE), STOP),
    (Power.STOPPED, start_vm(), START),
    (Power.RUNNING, create(9), CREATE),
    (Power.RUNNING, create(9), RENAME),
    (Power.RUNNING, revert_to(sid(2)), RESTORE),
    (Power.RUNNING, delete(sid(2)), REMOVE),
]


@pytest.mark.parametrize("late", [False, True], ids=["in time", "past the deadline"])
@pytest.mark.parametrize(("power", "request_", "action"), WAYS)
def test_an_effect_is_never_denied_because_somebody_else_took_it_back(
    power: Power, request_: RequestOperation, action: ActionName, *, late: bool
) -> None:
    world = World()
    chain(world)
    if power is Power.STOPPED:
        world.do(stop_vm(StopMode.TURN_OFF))
        world.run()
    world.host.dies_unnamed = action == RENAME
    world.do(request_)
    until_issued(world, action)
    found = world.open_step()
    assert found is not None
    number, at = found[0].number, found[1].plan.number
    act_and_lose_the_answer(world)
    undone_by_hand(world, action, power)
    effects = list(world.host.effects)
    if late:
        world.now += timedelta(days=1)
    while world.vm.operations[number].step(at).state is StepState.OUTCOME_UNKNOWN:
        world.turn()
    assert world.vm.operations[number].step(at).state is StepState.DONE
    assert world.host.effects == effects, "nothing is asked of the host again"
    assert world.run().state is OperationState.SUCCEEDED


@pytest.mark.parametrize(("power", "request_", "action"), WAYS[:3])
def test_a_power_that_a_step_has_brought_about_is_on_record_before_what_came_after_it(
    power: Power, request_: RequestOperation, action: ActionName
) -> None:
    world = World(power=power)
    world.do(request_)
    until_issued(world, action)
    act_and_lose_the_answer(world)
    reached = world.host.power
    world.host.power = power
    assert world.run().state is OperationState.SUCCEEDED
    assert causes(world) == [(reached, "step"), (power, "drift")]
    assert drifted(world) == [e.DriftKind.POWER_STATE_CHANGED]


def test_a_stop_that_was_done_and_taken_back_is_not_undone_once_more() -> None:
    world = World()
    world.do(stop_vm(StopMode.TURN_OFF))
    until_issued(world, STOP)
    act_and_lose_the_answer(world)
    world.host.power = Power.RUNNING
    world.do(CancelOperation(name=newest(world).name))
    assert world.run().state is OperationState.CANCELLED
    assert [action for action, _, _ in world.host.effects] == [STOP]


def test_a_snapshot_whose_checkpoint_was_made_and_removed_by_hand_was_taken_and_is_missing() -> None:
    world = World()
    world.do(create(1, memory=True))
    until_issued(world, CREATE)
    act_and_lose_the_answer(world)
    (made,) = world.host.checkpoints
    undone_by_hand(world, CREATE, Power.RUNNING)
    assert world.run().state is OperationState.SUCCEEDED
    own = world.vm.snapshots[sid(1)]
    assert own.failure is not None
    assert (own.state, own.failure.reason) == (SnapshotState.ERROR, "CHECKPOINT_MISSING")
    assert (own.checkpoint_id, own.with_memory) == (made, True)


def test_a_checkpoint_that_was_made_is_known_by_its_id_whatever_name_somebody_gave_it() -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    act_and_lose_the_answer(world)
    (made,) = world.host.checkpoints
    world.host.checkpoints[made] = replace(world.host.checkpoints[made], name="by hand")
    world.host.take("somebody else's")
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.snapshots[sid(1)].checkpoint_id == made


def test_a_checkpoint_that_was_made_and_whose_id_is_gone_is_never_made_again() -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    act_and_lose_the_answer(world)
    world.host.journal = replace(world.host.journal, output={})
    undone_by_hand(world, CREATE, Power.RUNNING)
    ended = world.run()
    assert ended.failure is not None
    assert ended.failure.reason == "OUTCOME_UNDETERMINED"
    assert [action for action, _, _ in world.host.effects] == [CREATE]
