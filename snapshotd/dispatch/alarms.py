"""Times at which something is due: a heap, so that what is not due costs nothing.

An entry of the heap that counts no longer stays in it until its time comes, or until most of the heap is such entries.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from snapshotd.dispatch.outputs import Moment

K = TypeVar("K", bound=Hashable)

_FEW: Final = 64
"""So many entries that count no longer are never cleared away."""
_STEP_S: Final = 1.0
"""The wall clock was set if it has moved so much against the monotonic one: more than it is slewed in minutes."""


class Alarms(Generic[K]):
    """When each of many things is due, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        """Begin with none."""
        self._at: dict[K, tuple[float, int]] = {}
        """When each is due, and the entry of the heap that says so."""
        self._heap: list[tuple[float, int, K]] = []
        self._entries = 0

    def __len__(self) -> int:
        return len(self._at)

    def by(self, key: K, at_s: float) -> None:
        """Let something be due at a time, unless it is due earlier. `math.inf`: at no time."""
        known = self._at.get(key)
        if at_s == math.inf or (known is not None and known[0] <= at_s):
            return
        self._entries += 1
        self._at[key] = (at_s, self._entries)
        heapq.heappush(self._heap, (at_s, self._entries, key))
        if len(self._heap) > 2 * len(self._at) + _FEW:
            self._heap = [(at_s, entry, key) for key, (at_s, entry) in self._at.items()]
            heapq.heapify(self._heap)

    def clear(self, key: K) -> None:
        """Let something not be due any more."""
        self._at.pop(key, None)

    def any_due(self, now_s: float) -> bool:
        """Return whether something is due."""
        while self._heap and self._at.get(self._heap[0][2], _NEVER)[1] != self._heap[0][1]:
            heapq.heappop(self._heap)
        return bool(self._heap) and self._heap[0][0] <= now_s

    def due(self, now_s: float, most: int) -> list[K]:
        """Return what is due, which then is so no longer: what has been due for longest first, and `most` of it."""
        out: list[K] = []
        while len(out) < most and self.any_due(now_s):
            _, _, key = heapq.heappop(self._heap)
            del self._at[key]
            out.append(key)
        return out


_NEVER: Final = (math.inf, 0)


class WallClock:
    """Notices when the clock that people and hosts use was set, or this machine slept: what waits by it must look."""

    def __init__(self) -> None:
        """Begin without knowing either clock."""
        self._ahead_s: float | None = None

    def was_set(self, moment: Moment) -> bool:
        """Return whether it has been set since this last returned so."""
        ahead_s = moment.utc.timestamp() - moment.monotonic_s
        if self._ahead_s is not None and abs(ahead_s - self._ahead_s) < _STEP_S:
            return False
        known, self._ahead_s = self._ahead_s is not None, ahead_s
        return known
