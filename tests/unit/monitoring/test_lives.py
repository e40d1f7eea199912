"""What is told to those who watch is what the folds say, wherever in a history they begin to follow it."""

from __future__ import annotations

import pytest

from snapshotd.domain.events import DriftDetected
from snapshotd.domain.operation import Operation
from snapshotd.monitoring.following import Follower
from snapshotd.monitoring.lives import News, OperationEnded, StepEnded
from tests.memory_log import MemoryLog
from tests.unit.projections.histories import RecordedWorld, history


def operations_of(world: RecordedWorld) -> dict[str, Operation]:
    """Return all operations of a history as they ended; folds forget those that ended long ago."""
    return {o.name: o for position in sorted(world.folds) for o in world.folds[position].operations.values()}


async def told(world: RecordedWorld, begin: int) -> list[News]:
    """Return what is told of a history to who begins after a number of its events, right after a decision."""
    log, news = MemoryLog(world.envelopes[:begin]), list[News]()
    follower = Follower(log, [news.append])
    position = log.head_position()
    follower.begin(world.folds[position].active_operations if position else ())
    log.take(world.envelopes[begin:])
    await follower.catch_up()
    return news


@pytest.mark.parametrize("seed", range(3))
async def test_what_has_ended_is_told_once_with_its_outcome_and_its_times(seed: int) -> None:
    world = history(seed, 40)
    operations = operations_of(world)
    news = await told(world, 0)
    ended = [n for n in news if isinstance(n, OperationEnded)]
    assert sorted(n.life.name for n in ended) == sorted(o.name for o in operations.values() if not o.active)
    for one in ended:
        operation = operations[one.life.name]
        assert (one.life.kind, one.outcome, one.ended_at) == (operation.kind, operation.state, operation.ended_at)
        assert one.took_s == (one.ended_at - operation.requested_at).total_seconds()
    steps = [n for n in news if isinstance(n, StepEnded)]
    assert len(steps) == sum(s.state.at_rest for o in operations.values() for s in o.steps)
    for step in steps:
        folded = operations[step.life.name].step(step.step)
        assert (step.action, step.outcome) == (folded.plan.action, folded.state)
        assert step.begun_at == folded.started_at
    drifts = [e.event.kind for e in world.envelopes if isinstance(e.event, DriftDetected)]
    assert [n.kind for n in news if isinstance(n, DriftDetected)] == drifts


@pytest.mark.parametrize("seed", range(3))
async def test_who_begins_in_the_middle_is_told_the_rest_with_the_same_times(seed: int) -> None:
    world = history(seed, 40)
    whole = await told(world, 0)
    amid = [p for p in sorted(world.folds) if world.folds[p].active_operations]
    for position in amid[:: max(1, len(amid) // 8)]:
        begin = next(n for n, e in enumerate(world.envelopes, 1) if e.position == position)
        rest = await told(world, begin)
        assert rest
        kept = whole[len(whole) - len(rest) :]
        assert [(type(n), getattr(n, "took_s", None)) for n in rest] == [
            (type(n), getattr(n, "took_s", None)) for n in kept
        ]
