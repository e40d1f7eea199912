"""The table of events in SQLite, as a recorder of the eventsourcing library: its four columns and the envelope's.

The position is an explicit INTEGER PRIMARY KEY. (The stock table has an implicit rowid, which a VACUUM may renumber.)
Rows are written once and never changed. What the log keeps beside them is in store/streams.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeAlias

from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory, Mapper
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteFactory
from eventsourcing.utils import Environment

from snapshotd.domain.events import Envelope, NewEvent, subject_of, transition_of
from snapshotd.domain.ids import OperationName, StreamId
from snapshotd.ports.plain import decode_time, encode_time
from snapshotd.store.codec import decode, encode
from snapshotd.store.insert import Insert
from snapshotd.store.streams import EVENTS, TABLES

Row: TypeAlias = tuple[str | int, ...]
"""An event as the table holds it, without its position: the columns in their order."""
TOPIC: Final = 2
"""The place of an event's topic in a Row."""
DATA: Final = 3
"""Which of them is the event itself."""

INSERT: Final = Insert(EVENTS, 14)
"""Takes a position, then a Row."""


def row_of(stream: StreamId, version: int, new: NewEvent) -> Row:
    """Return the row of an event that will have this version in its stream."""
    topic, data = encode(new.event)
    return (
        stream,
        version,
        topic,
        data,
        new.event_id,
        encode_time(new.time),
        new.actor,
        new.request_id,
        new.operation or "",
        subject_of(new.event),
        *transition_of(new.event),
        new.on_behalf_of,
    )


def envelope_of(stream: StreamId, version: int, position: int, new: NewEvent) -> Envelope:
    """Return an event in its envelope."""
    return Envelope(
        event_id=new.event_id,
        stream=stream,
        version=version,
        position=position,
        time=new.time,
        actor=new.actor,
        request_id=new.request_id,
        operation=new.operation,
        event=new.event,
        on_behalf_of=new.on_behalf_of,
    )


class EnvelopeMapper(Mapper[str]):
    """Maps rows to envelopes: plain JSON under explicit topics. Keeps the library out of the domain."""

    def to_envelope(self, row: sqlite3.Row) -> Envelope:
        """Return the envelope of a row. Raises UnreadableEvent."""
        position, stream, version, topic, state, event_id, time, actor, request_id, operation, _, _, _, behalf = row
        return Envelope(
            event_id=event_id,
            stream=StreamId(stream),
            version=version,
            position=position,
            time=decode_time(time),
            actor=actor,
            request_id=request_id,
            operation=OperationName(operation) if operation else None,
            event=decode(topic, state),
            on_behalf_of=behalf,
        )


class EnvelopeRecorder(SQLiteApplicationRecorder):
    """The tables, and reading them. The log's writer writes them (store/sqlite_log.py)."""

    def construct_create_table_statements(self) -> list[str]:
        """Return the schema."""
        return [
            (
                f"CREATE TABLE IF NOT EXISTS {EVENTS} ("
                "position INTEGER PRIMARY KEY, originator_id TEXT NOT NULL, originator_version INTEGER NOT NULL, "
                "topic TEXT NOT NULL, state TEXT NOT NULL, event_id TEXT NOT NULL, time TEXT NOT NULL, "
                "actor TEXT NOT NULL, request_id TEXT NOT NULL, operation TEXT NOT NULL, subject TEXT NOT NULL, "
                "from_state TEXT NOT NULL, to_state TEXT NOT NULL, on_behalf_of TEXT NOT NULL, "
                "UNIQUE (originator_id, originator_version))"
            ),
            *TABLES,
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

    def select(self, statement: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return what a statement finds, read by a connection of the pool."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(statement, values)
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
