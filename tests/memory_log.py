"""An event log that keeps all in memory, and nothing after that: for tests, and for the benchmark without a store."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import NoReturn

from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import StreamChanged
from snapshotd.ports.event_log import APPEND_BOUNDS_S, UNCHANGED, LogWork, Memento, Standing, StreamRow
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
        self._places: dict[StreamId, str] = {}
        self._marks: dict[str, set[StreamId]] = {}
        self._mementos: dict[StreamId, tuple[str, Memento]] = {}
        self._shape = ""
        self._compared: dict[StreamId, tuple[int, str]] = {}
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

    async def append(
        self, stream: StreamId, expected_version: int, events: Sequence[NewEvent], standing: Standing = UNCHANGED
    ) -> tuple[Envelope, ...]:
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
        self._stand(stream, standing)
        return appended

    def _stand(self, stream: StreamId, standing: Standing) -> None:
        if standing.place is not None:
            self._places[stream] = standing.place
        for mark in standing.removed:
            self._marks.get(mark, set()).discard(stream)
        for mark in standing.added:
            self._marks.setdefault(mark, set()).add(stream)

    async def read_stream(
        self, stream: StreamId, after_version: int = 0, limit: int | None = None
    ) -> tuple[Envelope, ...]:
        """Return a stream's envelopes after a version, at most `limit`."""
        return tuple(self._streams.get(stream, [])[after_version:][:limit])

    async def read_streams(self, after: Mapping[StreamId, int]) -> tuple[Envelope, ...]:
        """Return the envelopes of streams, each after its version."""
        return tuple(e for stream, version in sorted(after.items()) for e in self._streams.get(stream, [])[version:])

    async def rows(self, streams: Collection[StreamId]) -> tuple[StreamRow, ...]:
        """Return the rows of streams."""
        return tuple(self._row(stream) for stream in sorted(set(streams) & self._streams.keys()))

    async def rows_at(self, place: str) -> tuple[StreamRow, ...]:
        """Return the rows of the streams that belong to something."""
        return await self.rows([s for s, at in self._places.items() if place and at == place])

    async def rows_from(self, prefix: str, after: StreamId | None, limit: int) -> tuple[StreamRow, ...]:
        """Return the rows of streams whose name begins so."""
        return (await self.rows([s for s in self._streams if s.startswith(prefix) and s > (after or "")]))[:limit]

    async def marked(self, marks: Collection[str]) -> tuple[tuple[str, StreamRow], ...]:
        """Return each of these marks with the row of each stream that has it."""
        return tuple([(m, row) for m in sorted(set(marks)) for row in await self.rows(self._marks.get(m, ()))])

    async def mementos(self, streams: Collection[StreamId], shape: str) -> Mapping[StreamId, Memento]:
        """Return the mementos that there are of streams."""
        there = {stream: self._mementos[stream] for stream in streams if stream in self._mementos}
        return {stream: memento for stream, (made, memento) in there.items() if made == shape}

    def keep(self, stream: StreamId, shape: str, memento: Memento) -> None:
        """Keep a memento."""
        self._mementos[stream] = (shape, memento)

    def note_compared(self, digests: Mapping[StreamId, tuple[int, str]]) -> None:
        """Keep with which digest streams were compared."""
        self._compared |= digests

    async def standings_shape(self) -> str:
        """Return how places and marks were made."""
        return self._shape

    async def restand(self, standings: AsyncIterator[Mapping[StreamId, Standing]], shape: str) -> None:
        """Make all places and marks anew."""
        self._places.clear()
        self._marks.clear()
        async for some in standings:
            for stream, standing in some.items():
                self._stand(stream, standing)
        self._shape = shape

    def _row(self, stream: StreamId) -> StreamRow:
        version, digest = self._compared.get(stream, (0, ""))
        return StreamRow(stream, len(self._streams[stream]), self._places.get(stream, ""), digest, version)

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

    async def refuse_unwritable(self) -> None:
        """Memory is always there."""

    async def verify(self) -> None:
        """Do nothing: memory is not damaged."""

    def work(self) -> LogWork:
        """Return nothing: no time is measured."""
        return LogWork(0, (0,) * (len(APPEND_BOUNDS_S) + 1), 0.0)

    def trouble(self) -> Trouble | None:
        """Return None: memory is always there."""
        return None

    async def until_broken(self) -> NoReturn:
        """Wait for ever."""
        await asyncio.Event().wait()
        raise AssertionError
