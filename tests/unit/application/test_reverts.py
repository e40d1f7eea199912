"""Reverts with options: a safety snapshot first, and the power afterwards."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.domain.commands import GiveUpLook, RequestOperation
from snapshotd.domain.errors import (
    AlreadyExists,
    InvalidArgument,
    OperationActive,
    PowerChangeRefused,
    SnapshotdError,
    WrongPower,
)
from snapshotd.domain.events import CurrentMoved, VmActivityChanged
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.snapshot_errors import (
    SnapshotLimitReached,
)
from snapshotd.domain.state import replace
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT, Params, PowerAfter
from snapshotd.server.operation_messages import metadata_message
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, RESTORE, START, STOP, create_snapshot, revert_to, stop_vm
from tests.fakes import World
from tests.unit.application.cases import SAFETY, chain, create, lose_command, sid
from tests.unit.steps.standing import with_power

FINAL = "OperationFailed,X"


def chained(power: Power = Power.RUNNING, policy: Policy | None = None) -> World:
    """Return a world with a chain of three, of which the second has memory."""
    world = World(policy=policy)
    chain(world)
    if power is Power.STOPPED:
        world.do(stop_vm(StopMode.TURN_OFF))
        world.run()
        world.host.effects.clear()
    return world


def issued(world: World, action: str) -> None:
    """Let time pass until a step of an action is issued."""
    while not (found := world.open_step()) or not found[1].open or found[1].plan.action != action:
        world.turn()


@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED])
def test_a_safety_snapshot_holds_the_memory_of_a_running_vm(power: Power) -> None:
    world = chained(power)
    world.do(revert_to(sid(1), safety=SAFETY))
    world.run()
    safety = world.vm.snapshots[SAFETY]
    assert (safety.name, safety.state, safety.parent_id) == ("before-revert-s1", SnapshotState.READY, sid(3))
    assert safety.description == "Taken before the revert to s1."
    assert safety.with_memory is safety.requested_with_memory is (power is Power.RUNNING)


def test_the_vm_is_seen_to_be_snapshotted_before_anything_is_lost() -> None:
    world = chained()
    world.log.clear()
    world.do(revert_to(sid(1), safety=SAFETY))
    world.run()
    moves = [e.to_state for e in world.log if isinstance(e, VmActivityChanged)]
    snapshotting, stopping, reverting = VmActivity.SNAPSHOTTING, VmActivity.STOPPING, VmActivity.REVERTING
    assert moves == [snapshotting, stopping, reverting, VmActivity.IDLE]
    assert [e.to_snapshot_id for e in world.log if isinstance(e, CurrentMoved)] == [SAFETY, sid(1)]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("s1", "before-revert-s1_2"),
        ("x" * 250, "before-revert-" + "x" * 241),
    ],
)
def test_the_default_name_is_free_and_fits(target: str, said: str) -> None:
    world = chained()
    world.do(create_snapshot(sid(5), "before-revert-s1"))
    world.run()
    world.do(create_snapshot(sid(6), "x" * 250))
    world.run()
    wanted = next(s.snapshot_id for s in world.vm.snapshots.values() if s.name == target)
    world.do(revert_to(wanted, safety=SAFETY))
    assert world.vm.snapshots[SAFETY].name == said


@pytest.mark.parametrize(
    ("asked", "power", "policy", "refused", "said"),
    [
        (revert_to(sid(1), safety=SAFETY, safety_name="s2"), Power.RUNNING, Policy(), AlreadyExists, "s2"),
        (revert_to(sid(1), safety=SAFETY, safety_name=" x"), Power.RUNNING, Policy(), InvalidArgument, "blank"),
        (revert_to(sid(1), safety=SAFETY), Power.RUNNING, Policy(max_per_vm=3), SnapshotLimitReached, "3"),
        (
            revert_to(sid(1), safety=SAFETY),
            Power.PAUSED,
            Policy(),
            WrongPower,
            "Cannot take a safety snapshot of VM web01: its power state is PAUSED. It must be RUNNING or STOPPED.",
        ),
        (revert_to(sid(1), require_memory=True), Power.RUNNING, Policy(), InvalidArgument, "s1 holds disks only"),
        (
            revert_to(sid(2), require_memory=True, power_after=PowerAfter.AS_BEFORE),
            Power.STOPPED,
            Policy(),
            InvalidArgument,
            "power_after would leave it STOPPED",
        ),
    ],
)
def test_what_forbids_a_revert_with_options(
    asked: RequestOperation, power: Power, policy: Policy, refused: type[SnapshotdError], said: str
) -> None:
    world = chained(policy=policy)
    world.vm = with_power(world.vm, power)
    with pytest.raises(refused) as why:
        world.do(asked)
    assert said.casefold() in str(why.value).casefold()
    assert SAFETY not in world.vm.snapshots


def test_a_safety_snapshot_is_kept_when_the_revert_fails_and_the_guest_runs_again() -> None:
    world = chained()
    world.host.error_ids = {4: FINAL}
    world.do(revert_to(sid(1), safety=SAFETY))
    ended = world.run()
    assert [s.state for s in ended.steps if s.plan.undoes is None][-2:] == [StepState.FAILED, StepState.SKIPPED]
    assert (ended.state, world.vm.current_id, world.host.power) == (OperationState.FAILED, SAFETY, Power.RUNNING)
    assert {s.state for s in world.vm.snapshots.values()} == {SnapshotState.READY}
    assert [action for action, _, _ in world.host.effects] == [CREATE, STOP, START]


def test_a_revert_whose_safety_snapshot_cannot_be_taken_has_changed_nothing() -> None:
    world = chained()
    world.host.error_ids = {1: FINAL}
    world.do(revert_to(sid(1), safety=SAFETY))
    ended = world.run()
    assert (ended.state, world.host.effects, world.host.power) == (OperationState.FAILED, [], Power.RUNNING)
    assert ended.failure is not None
    assert ended.failure.message.startswith("Nothing was reverted, since taking the safety snapshot did not succeed. ")
    assert world.vm.snapshots[SAFETY].state is SnapshotState.ERROR
    assert (world.vm.snapshots[sid(1)].state, world.vm.current_id) == (SnapshotState.READY, sid(3))


def test_a_safety_snapshot_that_nobody_knows_of_leaves_the_target_as_it_was() -> None:
    world = chained()
    world.do(revert_to(sid(1), safety=SAFETY))
    issued(world, CREATE)
    lose_command(world)
    world.turn()
    found = world.open_step()
    assert found is not None
    failure = Failure(reason="HOST_UNREACHABLE", message="Nobody is there.")
    world.do(GiveUpLook(number=found[0].number, step=1, token=found[1].token, failure=failure))
    assert world.vm.snapshots[SAFETY].state is SnapshotState.ERROR
    assert world.vm.snapshots[sid(1)].state is SnapshotState.READY
    assert (world.vm.activity, world.host.effects) == (VmActivity.IDLE, [])


def test_a_revert_that_is_cancelled_keeps_the_safety_snapshot_that_it_has_taken() -> None:
    world = chained()
    world.do(revert_to(sid(1), safety=SAFETY))
    issued(world, STOP)
    world.cancel(world.vm.last_number)
    ended = world.run()
    assert (ended.state, world.vm.current_id, world.host.power) == (OperationState.CANCELLED, SAFETY, Power.RUNNING)
    assert world.vm.snapshots[SAFETY].state is SnapshotState.READY


def test_a_revert_that_is_cancelled_during_its_safety_snapshot_has_nothing_to_roll_back() -> None:
    world = chained()
    world.do(revert_to(sid(1), safety=SAFETY))
    issued(world, CREATE)
    world.cancel(world.vm.last_number)
    ended = world.run()
    assert (ended.state, world.vm.current_id) == (OperationState.CANCELLED, SAFETY)
    assert metadata_message(ended, None, 0).outcome_detail == ""
    assert [action for action, _, _ in world.host.effects] == [CREATE]


def test_a_target_that_is_gone_by_the_time_the_safety_snapshot_is_taken_turns_nothing_off() -> None:
    world = chained()
    world.do(revert_to(sid(1), safety=SAFETY))
    issued(world, CREATE)
    world.host.remove(world.vm.snapshots[sid(1)].checkpoint_id or "")  # type: ignore[arg-type]  # it has one
    world.host.merge()
    lose_command(world)
    ended = world.run()
    assert ended.state is OperationState.FAILED
    assert STOP not in [action for action, _, _ in world.host.effects]
    assert world.host.power is Power.RUNNING


@pytest.mark.parametrize("target", [1, 2, 3])
@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED])
def test_a_revert_is_undone_by_a_revert_to_its_safety_snapshot(target: int, power: Power) -> None:
    world = chained(power)
    below = world.host.leaf
    world.do(revert_to(sid(target), safety=SAFETY))
    world.run()
    world.do(revert_to(SAFETY))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.power is world.vm.power is power
    assert world.vm.current_id == SAFETY
    assert world.host.parents[world.host.leaf] == below, "the disk stands on what was written before the revert"


def test_a_second_request_for_the_same_revert_joins_it_though_its_safety_snapshot_has_another_id() -> None:
    world = chained()
    world.do(revert_to(sid(1), safety=SAFETY))
    number = world.vm.last_number
    world.do(revert_to(sid(1), safety=sid(7)))
    assert (world.vm.last_number, sid(7) in world.vm.snapshots) == (number, False)
    for other in (revert_to(sid(1)), revert_to(sid(1), safety=sid(7), safety_name="x"), revert_to(sid(2))):
        with pytest.raises(OperationActive):
            world.do(other)


@pytest.mark.parametrize(
    ("target", "power", "wanted", "refused"),
    [
        (1, Power.RUNNING, PowerAfter.AS_SNAPSHOT, True),
        (1, Power.RUNNING, PowerAfter.AS_BEFORE, False),
        (1, Power.RUNNING, PowerAfter.RUNNING, False),
        (1, Power.STOPPED, PowerAfter.RUNNING, True),
        (1, Power.STOPPED, PowerAfter.AS_BEFORE, False),
        (2, Power.STOPPED, PowerAfter.AS_SNAPSHOT, True),
        (2, Power.STOPPED, PowerAfter.AS_BEFORE, False),
    ],
)
def test_a_power_change_that_is_refused_is_one_of_the_power_in_the_end(
    target: int, power: Power, wanted: PowerAfter, *, refused: bool
) -> None:
    world = chained(power)
    asked = revert_to(sid(target), refuse_power_change=True, power_after=wanted)
    if refused:
        with pytest.raises(PowerChangeRefused):
            world.do(asked)
        return
    world.do(asked)
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.power is world.vm.power is power


@pytest.mark.parametrize("power", [Power.PAUSED, Power.SAVED])
@pytest.mark.parametrize("target", [1, 2])
def test_a_vm_that_did_not_run_ends_stopped_as_before(target: int, power: Power) -> None:
    world = chained()
    world.do(stop_vm(StopMode.PAUSE if power is Power.PAUSED else StopMode.SAVE))
    world.run()
    world.do(revert_to(sid(target), power_after=PowerAfter.AS_BEFORE))
    assert world.run().state is OperationState.SUCCEEDED
    assert (world.host.power, world.vm.current_id) == (Power.STOPPED, sid(target))


def test_a_revert_to_the_current_snapshot_throws_away_what_was_written_since() -> None:
    world = chained()
    written = world.host.leaf
    below = world.host.parents[written]
    world.do(revert_to(sid(3)))
    assert world.run().state is OperationState.SUCCEEDED
    assert written not in world.host.chain(world.host.leaf)
    assert world.host.parents[world.host.leaf] == below


def test_what_was_recorded_before_there_were_options_is_read() -> None:
    old = Recorded(1, {"snapshot_id": sid(1), "refuse_power_change": True})
    params = REVERT_TO_SNAPSHOT.params.read(old)
    assert params == Params(SnapshotId(sid(1)), refuse_power_change=True)


@pytest.mark.parametrize(("days", "warned"), [(29, False), (30, True), (400, True)])
def test_an_old_snapshot_is_warned_of(days: int, *, warned: bool) -> None:
    world = chained()
    at = world.vm.snapshots[sid(1)].requested_at + timedelta(days=days)
    said = REVERT_TO_SNAPSHOT.warns(world.vm, revert_to(sid(1)), world.policy, at)
    text = (
        f"The snapshot is {days} days old. The guest's domain trust, licences and clock may be out of date afterwards."
    )
    assert said == ((text,) if warned else ())
    hour = replace(world.policy, old_after_s=3600.0)
    (young,) = REVERT_TO_SNAPSHOT.warns(world.vm, revert_to(sid(1)), hour, at - timedelta(days=days - 1, hours=1))
    assert young.startswith("The snapshot is 23 hours old.")


def test_a_plan_says_what_a_safety_snapshot_costs() -> None:
    world = chained()
    asked = revert_to(sid(2), safety=SAFETY)
    (cost,) = REVERT_TO_SNAPSHOT.warns(world.vm, asked, world.policy, world.now)
    assert cost.startswith(
        "The safety snapshot stays, and counts towards the limit: 4 of 10 then. It holds the VM's memory"
    )
    seen = REVERT_TO_SNAPSHOT.preview(world.vm, asked)
    assert not seen.memory_lost
    assert seen.warnings == (
        "What was written to the disks since the current snapshot is kept in the safety snapshot only.",
    )


def test_a_plan_says_that_memory_is_not_used_for_a_vm_that_ends_stopped() -> None:
    world = chained(Power.STOPPED)
    seen = REVERT_TO_SNAPSHOT.preview(world.vm, revert_to(sid(2), power_after=PowerAfter.AS_BEFORE))
    assert seen.power is Power.STOPPED
    assert seen.warnings[1] == "The memory that the snapshot holds is not used: the VM ends STOPPED."


def test_all_steps_of_a_revert_with_options_happen_once_when_the_vm_is_created_anew() -> None:
    world = chained()
    world.do(create(9))
    world.run()
    world.host.effects.clear()
    world.do(revert_to(sid(9), safety=SAFETY, power_after=PowerAfter.RUNNING))
    world.run(lose=True)
    assert [action for action, _, _ in world.host.effects] == [CREATE, STOP, RESTORE, START]
