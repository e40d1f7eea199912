"""What the log's writer is asked for, and how it answers: many appends at a time, by one call of each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, TypeVar

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.ports.event_log import Standing
from snapshotd.store.insert import Statement
from snapshotd.store.recorder import DATA, TOPIC, Row

Call: TypeAlias = tuple[asyncio.AbstractEventLoop, Callable[[], None]]
"""What is to be called, and on which event loop."""
T = TypeVar("T")
Outcome: TypeAlias = tuple[Envelope, ...] | SnapshotdError


@dataclass(frozen=True, slots=True, eq=False)
class Append:
    """One append that waits for its commit."""

    stream: StreamId
    expected: int
    events: tuple[NewEvent, ...]
    rows: tuple[Row, ...]
    standing: Standing
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[Envelope, ...]]
    asked_s: float
    """When, by the monotonic clock."""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return sum(len(part) for row in self.rows for part in row if isinstance(part, str))

    def settle(self, outcome: Outcome) -> None:
        """Hand the outcome to the caller. Runs on the caller's event loop."""
        settle(self.future, outcome)


@dataclass(frozen=True, slots=True, eq=False)
class Keeping:
    """What is written beside the events."""

    statements: Sequence[Statement]
    done: Callable[[SnapshotdError | None], None] = lambda _: None
    """Is told that it is durable, or why not, in the writer's thread."""


@dataclass(slots=True)
class Batch:
    """What is committed together."""

    appends: list[Append] = field(default_factory=list)
    kept: list[Keeping] = field(default_factory=list)
    last: bool = False
    """The log is closed after it."""

    def add(self, taken: Append | Keeping | None) -> None:
        """Add what was asked for; None: there will be no more."""
        match taken:
            case Append():
                self.appends.append(taken)
            case Keeping():
                self.kept.append(taken)
            case None:
                self.last = True

    def topics(self) -> set[str]:
        """Return the names that its events are written under."""
        return {str(row[TOPIC]) for asked in self.appends for row in asked.rows}

    def settled(self, outcomes: Sequence[Outcome]) -> list[Call]:
        """Return the calls that answer the appends."""
        pairs = zip(self.appends, outcomes, strict=True)
        return [(asked.loop, partial(asked.settle, outcome)) for asked, outcome in pairs]

    def durable(self, outcomes: Sequence[Outcome]) -> list[tuple[Envelope, int]]:
        """Return the events that are in the log now, each with the size of its data."""
        return [
            (envelope, len(str(row[DATA])))
            for asked, outcome in zip(self.appends, outcomes, strict=True)
            if isinstance(outcome, tuple)
            for envelope, row in zip(outcome, asked.rows, strict=True)
        ]


def settle(future: asyncio.Future[T], outcome: T | SnapshotdError) -> None:
    """Hand an outcome to whoever waits for it. Runs on the event loop of the future."""
    if future.done():
        return  # whoever waited was cancelled; what is durable stays
    if isinstance(outcome, SnapshotdError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def call_each(calls: Iterable[Call]) -> bool:
    """Make calls on their event loops, all of one loop at once, since each wakes it.

    Return whether each loop takes its calls. One that has ended is skipped.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for loop, call in calls:
        by_loop.setdefault(loop, []).append(call)
    taken = True
    for loop, together in by_loop.items():
        try:
            loop.call_soon_threadsafe(_all, together)
        except RuntimeError:
            if not loop.is_closed():
                raise
            taken = False
    return taken


def _all(calls: Iterable[Callable[[], None]]) -> None:
    for call in calls:
        call()
