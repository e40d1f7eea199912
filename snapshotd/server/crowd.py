"""How many calls a caller may have under way, and how often it may call: load is shed before memory grows.

An executor's stream counts like any call, and so does one that waits.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from snapshotd.server.access_errors import TooManyCalls
from snapshotd.server.callers import Caller

_REMEMBERED: Final = 10_000
"""Callers whose rates are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The most calls."""

    under_way: int = 10_000
    """Of all callers together."""
    under_way_each: int = 5_000
    """Of one caller."""
    per_s_each: int = 2_000
    """In a second, of one caller, on average; twice as many at once."""


@dataclass(slots=True)
class _Bucket:
    """What is left of a caller's calls, when it was last looked at."""

    left: float
    at_s: float


class Crowd:
    """The calls that are under way.

    Args:
        limits: of calls.
        now_s: returns seconds of a monotonic clock.
    """

    def __init__(self, limits: CallLimits, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now_s = now_s
        self._under_way: defaultdict[str, int] = defaultdict(int)
        self._all = 0
        self._buckets: dict[str, _Bucket] = {}

    def check(self, caller: Caller) -> None:
        """Count a call against its caller's rate. Raise TooManyCalls if it is one too many."""
        limits, subject = self._limits, caller.subject
        if self._under_way.get(subject, 0) >= limits.under_way_each:
            raise self._refused(caller, f"has {limits.under_way_each} calls under way, the most that one caller may")
        if self._all >= limits.under_way:
            raise self._refused(caller, f"comes after {limits.under_way} calls of all callers, the most that may be")
        if not self._take(subject):
            raise self._refused(caller, f"calls more than {limits.per_s_each} times a second")

    @contextmanager
    def enter(self, caller: Caller) -> Iterator[Caller]:
        """Count a call as under way until the end."""
        self._all += 1
        self._under_way[caller.subject] += 1
        try:
            yield caller
        finally:
            self._all -= 1
            self._under_way[caller.subject] -= 1
            if not self._under_way[caller.subject]:
                del self._under_way[caller.subject]

    def _take(self, subject: str) -> bool:
        """Take one call of a caller's share, if there is one left."""
        now_s, most = self._now_s(), 2.0 * self._limits.per_s_each
        bucket = self._buckets.get(subject)
        if bucket is None:
            if len(self._buckets) >= _REMEMBERED:
                # The one that was looked at least recently is full again, or nearly so.
                del self._buckets[next(iter(self._buckets))]
            bucket = _Bucket(most, now_s)
        else:
            del self._buckets[subject]
            bucket.left = min(most, bucket.left + (now_s - bucket.at_s) * self._limits.per_s_each)
            bucket.at_s = now_s
        self._buckets[subject] = bucket
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    def _refused(self, caller: Caller, problem: str) -> TooManyCalls:
        return TooManyCalls(caller.method.removeprefix("/"), caller.subject, problem)
