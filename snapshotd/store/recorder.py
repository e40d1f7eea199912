"""The table of events in SQLite, as a recorder of the eventsourcing library: its four columns and the envelope's.

The position is an explicit INTEGER PRIMARY KEY. (The stock table has an implicit rowid, which a VACUUM may renumber.)
Rows are written once and never changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory, Mapper, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteConnection, SQLiteFactory
from eventsourcing.utils import Environment

from snapshotd.domain.events import Envelope, NewEvent, subject_of, transition_of
from snapshotd.domain.ids import OperationName, StreamId
from snapshotd.ports.plain import decode_time, encode_time
from snapshotd.store.codec import decode, encode

_COLUMNS = (
    "originator_id, originator_version, topic, state, event_id, time, actor, request_id, operation, subject, "
    "from_state, to_state"
)


@dataclass(frozen=True)
class StoredEnvelope(StoredEvent):
    """A stored event of the library, with the envelope's columns in the order of the table."""

    columns: tuple[str, ...] = ()


class EnvelopeMapper(Mapper[str]):
    """Maps envelopes to rows: plain JSON under explicit topics. Keeps the library out of the domain."""

    def to_stored_event(self, domain_event: Any) -> StoredEnvelope:  # noqa: ANN401  (the library's protocol is not ours)
        """Return the row of an envelope. The table assigns the position."""
        envelope: Envelope = domain_event
        topic, data = encode(envelope.event)
        columns = (
            envelope.event_id,
            encode_time(envelope.time),
            envelope.actor,
            envelope.request_id,
            envelope.operation or "",
            subject_of(envelope),
            *transition_of(envelope.event),
        )
        return StoredEnvelope(
            originator_id=envelope.stream,
            originator_version=envelope.version,
            topic=topic,
            state=data.encode(),
            columns=columns,
        )

    def to_envelope(self, row: sqlite3.Row) -> Envelope:
        """Return the envelope of a row. Raises UnreadableEvent."""
        return Envelope(
            event_id=row["event_id"],
            stream=StreamId(row["originator_id"]),
            version=row["originator_version"],
            position=row["position"],
            time=decode_time(row["time"]),
            actor=row["actor"],
            request_id=row["request_id"],
            operation=OperationName(row["operation"]) if row["operation"] else None,
            event=decode(row["topic"], row["state"]),
        )


class EnvelopeRecorder(SQLiteApplicationRecorder):
    """The table and the statements on it. The caller provides connection and transaction (store/sqlite_log.py)."""

    def construct_create_table_statements(self) -> list[str]:
        """Return the schema."""
        return [
            (
                f"CREATE TABLE IF NOT EXISTS {self.events_table_name} ("
                "position INTEGER PRIMARY KEY, originator_id TEXT NOT NULL, originator_version INTEGER NOT NULL, "
                "topic TEXT NOT NULL, state TEXT NOT NULL, event_id TEXT NOT NULL UNIQUE, time TEXT NOT NULL, "
                "actor TEXT NOT NULL, request_id TEXT NOT NULL, operation TEXT NOT NULL, subject TEXT NOT NULL, "
                "from_state TEXT NOT NULL, to_state TEXT NOT NULL, UNIQUE (originator_id, originator_version))"
            ),
            "CREATE TABLE IF NOT EXISTS installation (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL)",
            # Empty, but while a log that was full finds out whether there is room again.
            "CREATE TABLE IF NOT EXISTS room (one INTEGER PRIMARY KEY CHECK (one = 1), filler BLOB NOT NULL)",
        ]

    def installation_id(self, fresh: str) -> str:
        """Return the id of this log. If it has none yet, it gets `fresh`."""
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute("INSERT OR IGNORE INTO installation (one, id) VALUES (1, ?)", (fresh,))
            cursor.execute("SELECT id FROM installation")
            return str(cursor.fetchone()[0])

    def insert(self, connection: SQLiteConnection, events: Sequence[StoredEnvelope]) -> list[int]:
        """Insert rows in the caller's transaction; return their positions."""
        positions = []
        marks = ",".join("?" * 12)
        for event in events:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO {self.events_table_name} ({_COLUMNS}) VALUES ({marks})",  # noqa: S608  (constants)
                    (
                        event.originator_id,
                        event.originator_version,
                        event.topic,
                        event.state.decode(),
                        *event.columns,
                    ),
                )
                position = cursor.lastrowid
                assert position is not None
                positions.append(position)
        return positions

    def version(self, connection: SQLiteConnection, stream: StreamId) -> int:
        """Return the stream's newest version; 0 for an unknown one."""
        row = self.one(connection, "MAX(originator_version)", "originator_id = ?", (stream,))
        return int(row[0] or 0)

    def one(self, connection: SQLiteConnection, what: str, where: str, values: Sequence[object]) -> sqlite3.Row:
        """Return the first row that matches. `what` and `where` must be built from constants."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {what} FROM {self.events_table_name} WHERE {where}", values)  # noqa: S608
            row: sqlite3.Row = cursor.fetchone()
            return row

    def rows(self, where: str, values: Sequence[object], order: str, limit: int = -1) -> list[sqlite3.Row]:
        """Return the rows that match, read by a connection of the pool."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(
                f"SELECT * FROM {self.events_table_name} WHERE {where} ORDER BY {order} LIMIT ?",  # noqa: S608
                (*values, limit),
            )
            return list(cursor.fetchall())


class EnvelopeFactory(SQLiteFactory):
    """The library's factory of recorders; it makes ours."""

    application_recorder_class = EnvelopeRecorder


class EventLogApplication(Application[str]):
    """The library's application over one SQLite file, with our factory, mapper and recorder."""

    env: ClassVar[dict[str, str]] = {"ORIGINATOR_ID_TYPE": "text"}
    mapper: EnvelopeMapper
    recorder: EnvelopeRecorder

    def __init__(self, path: str) -> None:
        super().__init__({"SQLITE_DBNAME": path, "CREATE_TABLE": "y"})

    def construct_env(self, name: str, env: Any = None) -> Environment:  # noqa: ANN401
        """Return the given settings only. The stock method adds the environment of the process."""
        return Environment(name, {**self.env, **(env or {})})

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Return the factory of our recorder."""
        return EnvelopeFactory(env)

    def construct_mapper(self) -> EnvelopeMapper:
        """Return our mapper."""
        return EnvelopeMapper(transcoder=self.construct_transcoder())


def envelopes(stream: StreamId, after_version: int, events: Sequence[NewEvent]) -> Iterator[Envelope]:
    """Yield new events in envelopes. Their positions are not known yet."""
    for version, new in enumerate(events, after_version + 1):
        yield Envelope(
            event_id=new.event_id,
            stream=stream,
            version=version,
            position=0,
            time=new.time,
            actor=new.actor,
            request_id=new.request_id,
            operation=new.operation,
            event=new.event,
        )
