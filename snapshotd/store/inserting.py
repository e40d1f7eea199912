"""Writes the rows of a batch of appends: the events, the rows and marks of their streams, and what is kept beside.

Only the log's writer writes, so it knows the version of each stream that it has written, and gives out the positions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final

from eventsourcing.sqlite import SQLiteConnection

from snapshotd.domain.ids import StreamId
from snapshotd.ports.event_log import Standing
from snapshotd.store import streams
from snapshotd.store.appending import Append, Batch, Outcome
from snapshotd.store.recorder import INSERT, envelope_of

_KNOWN: Final = 20_000
"""Streams whose version is known; when there are more, all are forgotten, and read again."""


class Inserting:
    """Inserts batches, each in a transaction of the caller's.

    Args:
        position: of the newest durable event.
        topics: the names that events were ever written under.
        conflict: returns the outcome of an append that expects another version than there is.
    """

    def __init__(self, position: int, topics: set[str], conflict: Callable[[Append], Outcome]) -> None:
        self._position = position
        self._topics = topics
        self._conflict = conflict
        self._versions: dict[StreamId, int] = {}
        """The newest version of streams, as committed."""
        self._next: dict[StreamId, int] = {}
        """Likewise, once the batch is."""
        self._new_topics: set[str] = set()

    def insert(self, connection: SQLiteConnection, batch: Batch) -> list[Outcome]:
        """Insert all rows of a batch; return the outcomes if that is committed.

        The positions follow the newest one that is durable: of a batch that is rolled back nobody has seen any.
        """
        outcomes: list[Outcome] = []
        rows: list[tuple[object, ...]] = []
        changed: list[tuple[StreamId, int, int, Standing]] = []
        self._next, self._new_topics, position = {}, batch.topics() - self._topics, self._position
        for asked in batch.appends:
            stream = asked.stream
            version = self._version(connection, stream)
            if version != asked.expected:
                outcomes.append(self._conflict(asked))
                continue
            first = position + 1
            for position, row in enumerate(asked.rows, first):
                rows.append((position, *row))
            self._next[stream] = version = version + len(asked.rows)
            changed.append((stream, version, position, asked.standing))
            numbered = zip(
                range(asked.expected + 1, version + 1), range(first, position + 1), asked.events, strict=True
            )
            outcomes.append(tuple(envelope_of(stream, v, p, event) for v, p, event in numbered))
        with connection.cursor() as cursor:
            for statement, values in chain(
                INSERT.statements(rows),
                streams.appended(changed),
                (streams.made_of(streams.TOPIC, topic) for topic in self._new_topics),
                *(kept.statements for kept in batch.kept),
            ):
                cursor.execute(statement, values)
        return outcomes

    def committed(self) -> None:
        """Note that the last batch is durable."""
        self._versions |= self._next
        self._topics |= self._new_topics

    def rolled_back(self) -> None:
        """Note that the last batch is not, or may not be."""
        self._versions.clear()

    def reached(self, position: int) -> None:
        """Note that a position is durable."""
        self._position = max(self._position, position)

    def _version(self, connection: SQLiteConnection, stream: StreamId) -> int:
        """Return the newest version of a stream, with what this batch has inserted; 0 for an unknown one."""
        if stream in self._next:
            return self._next[stream]
        if stream not in self._versions:
            if len(self._versions) > _KNOWN:
                self._versions.clear()
            with connection.cursor() as cursor:
                cursor.execute(streams.VERSION, (stream,))
                row = cursor.fetchone()
            self._versions[stream] = int(row[0]) if row else 0
        return self._versions[stream]
