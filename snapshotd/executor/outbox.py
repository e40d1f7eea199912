"""Outcomes on their way to the server, kept until they are written and for a while after that.

The stream has no acknowledgement. An outcome that was written shortly before the stream broke may not have arrived, so
it is sent again after reconnecting. The server ignores an outcome that comes twice.

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
        capacity: the most outcomes that wait; beyond that the oldest is dropped. Also the most recent ones remembered.
        resend_s: an outcome counts as delivered if it was written more than so many seconds before a break.
        monotonic: the clock, in seconds.
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
            _log.error("outbox is full: the outcome of dispatch %s is dropped; the server will ask the host", dropped)
        self._note_fill()

    async def emptied(self) -> None:
        """Wait until the outbox is empty."""
        await self._emptied.wait()

    async def next(self) -> CommandOutcome:
        """Return the oldest outcome, as soon as there is one. It stays here until `written`."""
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
        """Note that the connection broke: recent outcomes are written again, before all others."""
        self._forget_delivered(self._monotonic())
        again = OrderedDict((dispatch_id, outcome) for dispatch_id, (_, outcome) in self._recent.items())
        self._recent.clear()
        for dispatch_id, outcome in self._waiting.items():
            again[dispatch_id] = outcome
        self._waiting = again
        self._note_fill()

    def abandon(self, dispatch_id: str) -> None:
        """Drop an outcome that nobody waits for."""
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
