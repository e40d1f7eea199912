"""How many appends took how long. Noted by the writer's thread, read by any."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from snapshotd.ports.event_log import APPEND_BOUNDS_S, LogWork
from snapshotd.store.appending import Append, Outcome


class AppendTimes:
    """The appends that have gone through since the log was opened."""

    def __init__(self) -> None:
        self._events = 0
        self._within = [0] * (len(APPEND_BOUNDS_S) + 1)
        self._seconds = 0.0

    def note(self, appends: Sequence[Append], outcomes: Sequence[Outcome], now_s: float) -> None:
        """Note the appends of a batch that are durable by now, a time of the monotonic clock."""
        for asked, outcome in zip(appends, outcomes, strict=True):
            if isinstance(outcome, tuple):
                took_s = now_s - asked.asked_s
                self._within[bisect_left(APPEND_BOUNDS_S, took_s)] += 1
                self._seconds += took_s
                self._events += len(outcome)

    def work(self) -> LogWork:
        """Return what was noted."""
        return LogWork(self._events, tuple(self._within), self._seconds)
