"""An event log that keeps nothing: the same path without a store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from snapshotd.domain.errors import StreamChanged
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId


class MemoryLog:
    """Implements ports.event_log.EventLog in memory."""

    def __init__(self) -> None:
        """Begin empty."""
        self._envelopes: list[Envelope] = []
        self._streams: dict[StreamId, list[Envelope]] = {}
        self._grown = asyncio.Event()

    async def append(self, stream: StreamId, expected_version: int, events: Sequence[NewEvent]) -> tuple[Envelope, ...]:
        """Append at once. Raises StreamChanged."""
        known = self._streams.setdefault(stream, [])
        if len(known) != expected_version:
            raise StreamChanged(stream, expected_version)
        appended = []
        for event in events:
            envelope = Envelope(
                event_id=event.event_id,
                stream=stream,
                version=len(known) + 1,
                position=len(self._envelopes) + 1,
                time=event.time,
                actor=event.actor,
                request_id=event.request_id,
                operation=event.operation,
                event=event.event,
            )
            known.append(envelope)
            self._envelopes.append(envelope)
            appended.append(replace(envelope))
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return tuple(appended)

    async def read_stream(self, stream: StreamId, after_version: int = 0) -> tuple[Envelope, ...]:
        """Return a stream's envelopes after a version."""
        return tuple(self._streams.get(stream, [])[after_version:])

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Return up to `limit` envelopes after a position."""
        return tuple(self._envelopes[after_position : after_position + limit])

    def head_position(self) -> int:
        """Return the newest position."""
        return len(self._envelopes)

    async def wait_past(self, position: int, timeout_s: float) -> None:
        """Return when the head is past a position, or after a time."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self._envelopes) <= position:
                    await self._grown.wait()
        except TimeoutError:
            return
