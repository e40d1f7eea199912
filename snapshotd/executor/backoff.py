"""The delay before the next attempt: doubled each time, with jitter, so that executors do not retry in step."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Delays that grow from `first_s` to `longest_s` seconds.

    Args:
        random: returns a new number from 0 to 1 each time.
    """

    def __init__(self, first_s: float, longest_s: float, random: Callable[[], float]) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._random = random
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the next delay, between half of its full length and all of it."""
        delay = self._next_s * (0.5 + 0.5 * self._random())
        self._next_s = min(self._next_s * 2, self._longest_s)
        return delay

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._next_s = self._first_s
