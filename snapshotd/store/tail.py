"""The newest events of the log, in memory: who follows it closely need not read and decode them again."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from snapshotd.domain.events import Envelope

EVENTS: Final = 4096
"""The most events that are kept."""
BYTES: Final = 16 * 1024 * 1024
"""The most that they may take in the log: an event of a large VM can have a megabyte."""


class Tail:
    """The last envelopes, without a gap between their positions. Written by one thread, read by any.

    Args:
        events: the most that are kept.
        size: the most bytes that they may take in the log.
    """

    def __init__(self, events: int = EVENTS, size: int = BYTES) -> None:
        self._most = events
        self._most_bytes = size
        self._lock = threading.Lock()
        self._envelopes: list[Envelope] = []
        self._sizes: list[int] = []
        self._bytes = 0

    def append(self, appended: Iterable[tuple[Envelope, int]]) -> None:
        """Take over durable events, each with its size in the log, by position. What is here already is left out."""
        with self._lock:
            for envelope, size in appended:
                last = self._envelopes[-1].position if self._envelopes else envelope.position - 1
                if envelope.position <= last:
                    continue
                if envelope.position > last + 1:
                    self._drop(len(self._envelopes))
                self._envelopes.append(envelope)
                self._sizes.append(size)
                self._bytes += size
            self._drop(self._too_many())

    def after(self, position: int, limit: int) -> tuple[Envelope, ...] | None:
        """Return up to `limit` events after a position; None if they may begin before what is kept."""
        with self._lock:
            if not self._envelopes or position + 1 < self._envelopes[0].position:
                return None
            first = position + 1 - self._envelopes[0].position
            return tuple(self._envelopes[first : first + limit])

    def _too_many(self) -> int:
        """Return how many of the oldest have to go."""
        number, left = max(0, len(self._envelopes) - self._most), self._bytes
        left -= sum(self._sizes[:number])
        while left > self._most_bytes:
            left -= self._sizes[number]
            number += 1
        return number

    def _drop(self, number: int) -> None:
        self._bytes -= sum(self._sizes[:number])
        del self._envelopes[:number], self._sizes[:number]
