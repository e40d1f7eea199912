"""An event log that keeps all in memory, and nothing after that: for tests, and for the benchmark without a store."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NoReturn

from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import StreamChanged
from snapshotd.ports.trouble import Trouble


class MemoryLog:
    """Implements ports.event_log.EventLog.

    Args:
        envelopes: what it holds at the beginning.
    """

    def __init__(self, envelopes: Iterable[Envelope] = ()) -> None:
        self._envelopes: list[Envelope] = []
        self._positions: list[int] = []
        self._streams: dict[StreamId, list[Envelope]] = {}
        self._grown = asyncio.Event()
        self.take(envelopes)

    def take(self, envelopes: Iterable[Envelope]) -> None:
        """Take over those that are newer than all that is here, as they are: positions may leave gaps."""
        head = self.head_position()
        for envelope in envelopes:
            if envelope.position > head:
                self._envelopes.append(envelope)
                self._positions.append(envelope.position)
                self._streams.setdefault(envelope.stream, []).append(envelope)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def append(self, stream: StreamId, expected_version: int, events: Sequence[NewEvent]) -> tuple[Envelope, ...]:
        """Append at once; what is there already is answered as the first time. Raises StreamChanged."""
        known = self._streams.get(stream, [])
        if len(known) != expected_version:
            there = tuple(known[expected_version : expected_version + len(events)])
            if [e.event_id for e in there] == [e.event_id for e in events]:
                return there
            raise StreamChanged(stream, expected_version)
        head = self.head_position()
        appended = tuple(
            Envelope(
                event_id=event.event_id,
                stream=stream,
                version=expected_version + n,
                position=head + n,
                time=event.time,
                actor=event.actor,
                request_id=event.request_id,
                operation=event.operation,
                event=event.event,
            )
            for n, event in enumerate(events, 1)
        )
        self.take(appended)
        return appended

    async def read_stream(
        self, stream: StreamId, after_version: int = 0, limit: int | None = None
    ) -> tuple[Envelope, ...]:
        """Return a stream's envelopes after a version, at most `limit`."""
        return tuple(self._streams.get(stream, [])[after_version:][:limit])

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Return up to `limit` envelopes after a position."""
        first = bisect_right(self._positions, after_position)
        return tuple(self._envelopes[first : first + limit])

    async def read_at(self, positions: Sequence[int]) -> tuple[Envelope, ...]:
        """Return the envelopes at these positions. Raises KeyError."""
        there = dict(zip(self._positions, self._envelopes, strict=True))
        return tuple(there[position] for position in positions)

    def head_position(self) -> int:
        """Return the newest position."""
        return self._positions[-1] if self._positions else 0

    async def wait_past(self, position: int, timeout_s: float) -> None:
        """Return when the head is past a position, or after a time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.head_position() <= position:
                    await self._grown.wait()
        except TimeoutError:
            return

    def trouble(self) -> Trouble | None:
        """Return None: memory is always there."""
        return None

    async def until_broken(self) -> NoReturn:
        """Wait for ever."""
        await asyncio.Event().wait()
        raise AssertionError
