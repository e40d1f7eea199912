"""The reading half of the event log on SQLite: of the newest events from memory, else in a thread."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence

from eventsourcing.persistence import PersistenceError

from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.ports.event_log import LogWork, Memento, StreamRow
from snapshotd.store import streams
from snapshotd.store.append_times import AppendTimes
from snapshotd.store.condition import Condition
from snapshotd.store.recorder import EventLogApplication
from snapshotd.store.tail import Tail


class LogReading:
    """What is read of a log.

    Args:
        application: the library's, over the file.
        condition: of the log; a read may find that the file is damaged.
        head: position of the newest event.
    """

    def __init__(self, application: EventLogApplication, condition: Condition, head: int) -> None:
        self._application = application
        self._condition = condition
        self._tail = Tail()
        self._times = AppendTimes()
        self._head = head
        """Position of the newest event that is shown: nobody who follows the log sees a later one."""

    def work(self) -> LogWork:
        """Return what was appended since the log was opened."""
        return self._times.work()

    def head_position(self) -> int:
        """Return the position of the newest durable event."""
        return self._head

    async def read_stream(
        self, stream: StreamId, after_version: int = 0, limit: int | None = None
    ) -> tuple[Envelope, ...]:
        """Return a stream's envelopes after a version, in order, at most `limit`."""
        where, most = "originator_id = ? AND originator_version > ?", -1 if limit is None else limit
        return await self._events(where, (stream, after_version), "originator_version", most)

    async def read_streams(self, after: Mapping[StreamId, int]) -> tuple[Envelope, ...]:
        """Return the envelopes of streams, each after its version; those of one stream are in order."""
        return await asyncio.to_thread(lambda: self._envelopes(self._select(streams.EVENTS_AFTER, json.dumps(after))))

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Return up to `limit` envelopes after a position, in order."""
        if (newest := self._tail.after(after_position, limit)) is not None:
            return newest
        return await self._events("position > ? AND position <= ?", (after_position, self._head), "position", limit)

    async def read_at(self, positions: Sequence[int]) -> tuple[Envelope, ...]:
        """Return the envelopes at these positions, in the order asked. Raises KeyError where there is none."""
        # As one value, because the number of values in a statement is limited.
        where, wanted = "position IN (SELECT value FROM json_each(?))", json.dumps(list(positions))
        found = {e.position: e for e in await self._events(where, (wanted,), "position", -1)}
        return tuple(found[position] for position in positions)

    async def rows(self, names: Collection[StreamId]) -> tuple[StreamRow, ...]:
        """Return the rows of streams; those that are not on record are left out."""
        return await self._rows(streams.AMONG, streams.listed(names))

    async def rows_at(self, place: str) -> tuple[StreamRow, ...]:
        """Return the rows of the streams that belong to something, by their names."""
        return await self._rows(streams.AT, place)

    async def rows_from(self, prefix: str, after: StreamId | None, limit: int) -> tuple[StreamRow, ...]:
        """Return the rows of streams whose name begins so, by their names: the next ones after a name."""
        return await self._rows(streams.FROM, after or prefix, streams.end_of(prefix), limit)

    async def marked(self, marks: Collection[str]) -> tuple[tuple[str, StreamRow], ...]:
        """Return each of these marks with the row of each stream that has it, by mark and name."""
        found = await asyncio.to_thread(self._select, streams.MARKED, streams.listed(marks))
        return tuple((row[0], streams.row_of(row[1:])) for row in found)

    async def mementos(self, names: Collection[StreamId], shape: str) -> Mapping[StreamId, Memento]:
        """Return the mementos that there are of streams, of one shape."""
        found = await asyncio.to_thread(self._select, streams.MEMENTOS, streams.listed(names), shape)
        return {StreamId(stream): Memento(version, text) for stream, version, text in found}

    async def standings_shape(self) -> str:
        """Return how places and marks were made; empty: nobody has said."""
        found = await asyncio.to_thread(self._select, streams.MADE_OF, streams.STANDINGS)
        return str(found[0][0]) if found else ""

    async def _rows(self, statement: str, *values: object) -> tuple[StreamRow, ...]:
        return tuple(map(streams.row_of, await asyncio.to_thread(self._select, statement, *values)))

    async def _events(self, where: str, values: Sequence[object], order: str, limit: int) -> tuple[Envelope, ...]:
        statement = streams.events(where, order)
        return await asyncio.to_thread(lambda: self._envelopes(self._select(statement, *values, limit)))

    def _envelopes(self, rows: Iterable[sqlite3.Row]) -> tuple[Envelope, ...]:
        return tuple(map(self._application.mapper.to_envelope, rows))

    def _select(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Return what a statement finds. Raises LogUnavailable if it cannot be read."""
        try:
            return self._application.recorder.select(statement, values)
        except (sqlite3.Error, PersistenceError) as error:
            raise LogUnavailable(self._condition.unread(error)) from error
