"""The watchdog: an operation is overdue when its step has taken longer than it should, and not before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from snapshotd.application.overdue import overdue_since, way_out
from snapshotd.domain.commands import NotSent, Proceed
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation
from snapshotd.operations.catalogue import KINDS
from tests.fakes import World
from tests.unit.application.cases import CASES, Case, lose_command, ready

AWAY = Failure(reason="HOST_UNREACHABLE", message="The host is away.")
GRACE = timedelta(seconds=10 + 60 + 60)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def newest(world: World) -> Operation:
    """Return the newest operation."""
    return world.vm.operations[world.vm.last_number]


def since(world: World, after: timedelta = timedelta(0)) -> datetime | None:
    """Return since when the newest operation is overdue, after a while."""
    return overdue_since(newest(world), world.now + after, world.policy)


def limit(world: World) -> timedelta:
    """Return how long its current step may take."""
    operation = newest(world)
    step = operation.current_step
    assert step is not None
    return timedelta(seconds=KINDS[operation.kind].time_limit_s(operation, step, world.policy))


@every_case
def test_an_operation_whose_host_answers_is_never_overdue(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    while newest(world).active:
        assert since(world) is None
        world.turn()
    assert since(world, timedelta(days=99)) is None


@every_case
def test_one_that_stands_still_is_overdue_when_its_step_should_be_over(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    while newest(world).active:
        may_take = limit(world) + GRACE
        # Where its host has to be looked at first, that takes its time too.
        assert since(world, may_take - timedelta(seconds=125)) is None
        overdue = since(world, may_take)
        assert overdue is not None
        assert world.now < overdue <= world.now + may_take
        assert since(world, timedelta(days=9)) == overdue, "it is always told since the same time"
        world.turn()


def issued(case: Case = CASES[0]) -> World:
    """Return a world whose step is on its way to the host."""
    world = ready(case)
    world.do(case.request)
    while (found := world.open_step()) is None or found[1].state is not StepState.ISSUED:
        world.turn()
    return world


def test_a_step_of_unknown_outcome_is_overdue_by_its_deadline_however_often_it_is_looked_at() -> None:
    world = issued()
    deadline = newest(world).step(1).deadline
    lose_command(world)
    assert deadline is not None
    for _ in range(3):
        world.do(Proceed())
        world.now += timedelta(hours=1)
        assert since(world) == deadline + GRACE


def test_a_host_that_comes_and_goes_before_anything_is_sent_does_not_put_it_off() -> None:
    world = ready(CASES[0])
    world.do(CASES[0].request)
    requested = newest(world).requested_at
    for _ in range(4):
        while (found := world.open_step()) is None or found[1].state is not StepState.ISSUED:
            world.turn()
        world.now += timedelta(minutes=10)
        world.do(NotSent(number=newest(world).number, step=1, token=found[1].token, failure=AWAY))
    assert since(world) == requested + limit(world) + GRACE


def test_each_attempt_that_was_made_has_its_own_time() -> None:
    world = issued()
    world.host.error_ids = {1: "ObjectInUse,Microsoft.HyperV.PowerShell.Commands.X"}
    world.turn()
    step = newest(world).step(1)
    assert (step.state, step.attempts) == (StepState.DUE, 1)
    assert since(world, timedelta(days=1)) == newest(world).requested_at + 2 * limit(world) + GRACE


def merging() -> World:
    """Return a world that waits for a merge."""
    case = next(c for c in CASES if c.name == "delete in the middle")
    world = ready(case)
    world.do(case.request)
    while (found := world.open_step()) is None or found[1].state is not StepState.WAITING:
        world.turn()
    return world


def test_a_merge_is_in_time_as_long_as_the_host_is_seen_at_work() -> None:
    world = merging()
    begun, stall = newest(world).step(2).started_at, timedelta(seconds=world.policy.merge_stall_s)
    assert begun is not None
    seen = world.now + timedelta(hours=9)
    assert since(world, stall + GRACE) == begun + stall + GRACE
    assert overdue_since(newest(world), seen + stall, world.policy, seen) is None
    assert overdue_since(newest(world), seen + stall + GRACE, world.policy, seen) == seen + stall + GRACE


def test_a_clock_that_is_set_back_tells_nothing_of_the_future() -> None:
    world = issued()
    for back in (timedelta(hours=1), timedelta(days=999)):
        assert since(world, -back) is None
    assert overdue_since(newest(world), datetime(1970, 1, 1, tzinfo=UTC), world.policy) is None


def test_the_way_out_is_to_cancel_while_that_is_possible_and_then_to_settle() -> None:
    world = issued()
    name = newest(world).name
    assert way_out(newest(world)).startswith(f"Cancel it (`snapshotctl operation cancel {name}`)")
    world.cancel(world.vm.last_number)
    assert f"settle it (`snapshotctl operation settle {name} given-up --reason TEXT`)" in way_out(newest(world))
    assert way_out(newest(merging())).startswith("It can no longer be cancelled.")
