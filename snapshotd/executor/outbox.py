"""Outcomes on their way to the server, kept until they are written, and again for a while after that.

The stream has no acknowledgement: what was written shortly before it broke may not have arrived, so it is sent again
after reconnecting. An outcome that comes twice is ignored.

    put ──► waiting ──written──► recent ──(the stream broke within resend_s)──► waiting
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from snapshotd.api.v1.executor_pb2 import CommandOutcome

_log = logging.getLogger(__name__)


class Outbox:
    """A bounded queue of outcomes, by dispatch id.

    Args:
        capacity: how many wait at most; the oldest is dropped beyond that. Also how many recent ones are remembered.
        resend_s: how long before a break an outcome must have been written to count as delivered, seconds.
        monotonic: the clock, seconds.
    """

    def __init__(self, capacity: int, resend_s: float, monotonic: Callable[[], float]) -> None:
        self._capacity = capacity
        self._resend_s = resend_s
        self._monotonic = monotonic
        self._waiting: OrderedDict[str, CommandOutcome] = OrderedDict()
        self._recent: OrderedDict[str, tuple[float, CommandOutcome]] = OrderedDict()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, outcome: CommandOutcome) -> None:
        """Keep an outcome until it is written."""
        self._waiting[outcome.dispatch_id] = outcome
        if len(self._waiting) > self._capacity:
            dropped, _ = self._waiting.popitem(last=False)
            _log.error("outbox is full: the outcome of dispatch %s is dropped; the server will observe it", dropped)
        self._note_fill()

    async def emptied(self) -> None:
        """Wait until nothing waits any more."""
        await self._emptied.wait()

    async def next(self) -> CommandOutcome:
        """Wait for the oldest outcome; it stays here until `written`."""
        await self._filled.wait()
        return next(iter(self._waiting.values()))

    def written(self, outcome: CommandOutcome) -> None:
        """Note that an outcome has been handed to the connection."""
        now = self._monotonic()
        if self._waiting.get(outcome.dispatch_id) is outcome:
            del self._waiting[outcome.dispatch_id]
        self._recent[outcome.dispatch_id] = (now, outcome)
        self._note_fill()
        self._forget_delivered(now)

    def broke(self) -> None:
        """Note that the connection broke: what was written lately is to be written again, first."""
        self._forget_delivered(self._monotonic())
        again = OrderedDict((dispatch_id, outcome) for dispatch_id, (_, outcome) in self._recent.items())
        self._recent.clear()
        for dispatch_id, outcome in self._waiting.items():
            again[dispatch_id] = outcome
        self._waiting = again
        self._note_fill()

    def abandon(self, dispatch_id: str) -> None:
        """Forget an outcome that nobody waits for."""
        self._waiting.pop(dispatch_id, None)
        self._recent.pop(dispatch_id, None)
        self._note_fill()

    def _note_fill(self) -> None:
        if self._waiting:
            self._filled.set()
            self._emptied.clear()
        else:
            self._filled.clear()
            self._emptied.set()

    def _forget_delivered(self, now: float) -> None:
        while self._recent:
            dispatch_id, (written_at, _) = next(iter(self._recent.items()))
            if now - written_at <= self._resend_s and len(self._recent) <= self._capacity:
                return
            del self._recent[dispatch_id]
