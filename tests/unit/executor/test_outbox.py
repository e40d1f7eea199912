"""Outcomes are kept until they are written, and again for a while after that."""

from __future__ import annotations

import asyncio

from snapshotd.api.v1.executor_pb2 import CommandOutcome
from snapshotd.executor.outbox import Outbox


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def outcome(dispatch_id: str) -> CommandOutcome:
    return CommandOutcome(dispatch_id=dispatch_id)


async def take(outbox: Outbox) -> list[str]:
    """Write all that waits; return the dispatch ids in order."""
    taken = []
    while len(outbox):
        first = await outbox.next()
        outbox.written(first)
        taken.append(first.dispatch_id)
    return taken


async def test_outcomes_leave_in_order_and_only_when_written() -> None:
    outbox = Outbox(10, 30, Time())
    outbox.put(outcome("a"))
    outbox.put(outcome("b"))
    assert (await outbox.next()).dispatch_id == "a"
    assert (await outbox.next()).dispatch_id == "a"
    assert await take(outbox) == ["a", "b"]


async def test_what_was_written_shortly_before_a_break_is_written_again_first() -> None:
    time = Time()
    outbox = Outbox(10, 30, time)
    outbox.put(outcome("old"))
    await take(outbox)
    time.now = 25
    outbox.put(outcome("recent"))
    await take(outbox)
    outbox.put(outcome("new"))
    time.now = 31
    outbox.broke()
    assert await take(outbox) == ["recent", "new"]


async def test_beyond_its_capacity_the_oldest_is_dropped() -> None:
    outbox = Outbox(2, 30, Time())
    for name in "abc":
        outbox.put(outcome(name))
    assert await take(outbox) == ["b", "c"]


async def test_what_was_written_is_remembered_within_the_capacity_only() -> None:
    outbox = Outbox(2, 30, Time())
    for name in "abc":
        outbox.put(outcome(name))
        await take(outbox)
    outbox.broke()
    assert await take(outbox) == ["b", "c"]


async def test_an_abandoned_outcome_is_forgotten_waiting_or_written() -> None:
    outbox = Outbox(10, 30, Time())
    outbox.put(outcome("written"))
    await take(outbox)
    outbox.put(outcome("waiting"))
    outbox.abandon("written")
    outbox.abandon("waiting")
    outbox.broke()
    assert len(outbox) == 0
    await asyncio.wait_for(outbox.emptied(), 1)


async def test_one_who_waits_is_woken_by_the_first_outcome_and_by_the_last() -> None:
    outbox = Outbox(10, 30, Time())
    waiting = asyncio.create_task(outbox.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put(outcome("a"))
    first = await asyncio.wait_for(waiting, 1)
    empty = asyncio.create_task(outbox.emptied())
    await asyncio.sleep(0)
    assert not empty.done()
    outbox.written(first)
    await asyncio.wait_for(empty, 1)
