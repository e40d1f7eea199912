"""How many calls a caller may have under way, and how often it may call: load is shed before memory grows.

An executor's stream counts like any call, and so does one that waits.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
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

    def of_machine(self, most: int) -> int:
        """Return how many of the calls that one caller may make those on one machine may who need not say who they are.

        They all count as one caller: else one of them could leave the others' health checks no place.
        """
        return max(1, most // 20)


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
        limits, shares = self._limits, self._shares(caller)
        for share, most, _ in shares:
            if self._under_way.get(share, 0) >= most:
                raise self._refused(caller, f"has {most} calls under way, the most that one caller may")
        if self._all >= limits.under_way:
            raise self._refused(caller, f"comes after {limits.under_way} calls of all callers, the most that may be")
        for share, _, per_s in shares:
            if not self._take(share, per_s):
                raise self._refused(caller, f"calls more than {per_s} times a second")

    @contextmanager
    def enter(self, caller: Caller) -> Iterator[Caller]:
        """Count a call as under way until the end."""
        shares = [share for share, _, _ in self._shares(caller)]
        self._all += 1
        for share in shares:
            self._under_way[share] += 1
        try:
            yield caller
        finally:
            self._all -= 1
            for share in shares:
                self._under_way[share] -= 1
                if not self._under_way[share]:
                    del self._under_way[share]

    def _shares(self, caller: Caller) -> Sequence[tuple[str, int, int]]:
        """Return what a call counts against, each with the most under way and in a second; the narrowest first."""
        limits = self._limits
        own = (caller.subject, limits.under_way_each, limits.per_s_each)
        if not caller.machine:
            return (own,)
        narrow = limits.of_machine(limits.under_way_each), limits.of_machine(limits.per_s_each)
        return (f"{caller.subject} at {caller.machine}", *narrow), own

    def _take(self, share: str, per_s: int) -> bool:
        """Take one call of a share, if there is one left."""
        now_s, most = self._now_s(), 2.0 * per_s
        bucket = self._buckets.get(share)
        if bucket is None:
            if len(self._buckets) >= _REMEMBERED:
                # The one that was looked at least recently is full again, or nearly so.
                del self._buckets[next(iter(self._buckets))]
            bucket = _Bucket(most, now_s)
        else:
            del self._buckets[share]
            bucket.left = min(most, bucket.left + (now_s - bucket.at_s) * per_s)
            bucket.at_s = now_s
        self._buckets[share] = bucket
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    def _refused(self, caller: Caller, problem: str) -> TooManyCalls:
        return TooManyCalls(caller.method.removeprefix("/"), caller.subject, problem)
