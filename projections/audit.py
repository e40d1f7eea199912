"""The audit index: what each event of the log is about. The events themselves stay in the log."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from projections.projection import Projection, host_of, vm_of
from projections.store import Rows, Schema, reading
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import OperationName
from snapshotd.ports.plain import encode_time
from snapshotd.ports.views import EventQuery

_CONDITIONS: Final = {
    "vm": "vm_id = :vm",
    "host": "host_id = :host",
    # Also by the operation's snapshot, not only by each event's own: an operation's first events come before
    # OperationRequested, and some of its events are about the VM or about other snapshots. If it is about another
    # snapshot, and only touches this one, what is about other snapshots does not count.
    "snapshot": "(snapshot_id = :snapshot OR operation IN"
    " (SELECT operation FROM event_subjects"
    " WHERE snapshot_id = :snapshot AND (is_subject OR events.snapshot_id IS NULL)))",
    "operation": "operation = :operation",
    "actor": "actor = :actor",
    # With `+`, so that no index is used: the events of several actors would have to be sorted, for each page anew.
    "actors": "+actor IN (SELECT value FROM json_each(:actors))",
    "types": "type IN (SELECT value FROM json_each(:types))",
    "since": "time >= :since",
    "until": "time < :until",
    "above": "position > :above",
    "below": "position < :below",
}


def _handle(rows: Rows, envelope: Envelope) -> None:
    connection = rows.connection
    event = envelope.event
    if isinstance(event, e.OperationRequested):
        for snapshot_id in {event.snapshot_id, *(step.snapshot_id for step in event.steps)} - {None}:
            values = (envelope.operation, snapshot_id, snapshot_id == event.snapshot_id)
            connection.execute("INSERT OR REPLACE INTO event_subjects VALUES (?, ?, ?)", values)
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            envelope.position,
            vm_of(envelope),
            host_of(envelope),
            _snapshot_of(event),
            envelope.operation,
            envelope.actor,
            type(event).__name__,
            encode_time(envelope.time),
        ),
    )


def _snapshot_of(event: e.Event) -> str | None:
    """Return the snapshot that an event itself is about."""
    if isinstance(event, e.SnapshotTransition | e.SnapshotFact | e.DriftDetected):
        return event.snapshot_id
    return None


def find(
    connection: sqlite3.Connection, query: EventQuery, beyond: int, limit: int, *, descending: bool
) -> tuple[int, ...]:
    """Return positions of matching events (see ports/views.py)."""
    values = {
        "vm": query.vm_id,
        "host": query.host_id,
        "snapshot": query.snapshot_id,
        "operation": query.operation,
        "actor": query.actors[0] if len(query.actors) == 1 else None,
        "actors": json.dumps(query.actors) if len(query.actors) > 1 else None,
        "types": json.dumps(query.event_types) if query.event_types else None,
        "since": encode_time(query.since) if query.since else None,
        "until": encode_time(query.until) if query.until else None,
        "above": None if descending else beyond,
        "below": beyond or None if descending else None,
        "limit": limit,
    }
    where = " AND ".join(text for name, text in _CONDITIONS.items() if values[name] is not None) or "1"
    order = "position DESC" if descending else "position"
    statement = f"SELECT position FROM events WHERE {where} ORDER BY {order} LIMIT :limit"  # noqa: S608  (constants)
    with reading(connection):
        return tuple(position for (position,) in connection.execute(statement, values))


def operations_after(
    connection: sqlite3.Connection, position: int, limit: int
) -> tuple[tuple[int, OperationName], ...]:
    """Return the next events of operations (see ports/views.py)."""
    statement = (
        "SELECT position, operation FROM events WHERE position > ? AND operation NOTNULL ORDER BY position LIMIT ?"
    )
    with reading(connection):
        return tuple(connection.execute(statement, (position, limit)))


_SCHEMA: Final = Schema(
    "CREATE TABLE events (position INTEGER PRIMARY KEY, vm_id, host_id, snapshot_id, operation, actor, type, time)",
    "CREATE INDEX events_vm ON events (vm_id, position)",
    "CREATE INDEX events_snapshot ON events (snapshot_id, position) WHERE snapshot_id IS NOT NULL",
    "CREATE INDEX events_operation ON events (operation, position) WHERE operation IS NOT NULL",
    "CREATE INDEX events_actor ON events (actor, position)",
    "CREATE TABLE event_subjects (operation, snapshot_id, is_subject NOT NULL, PRIMARY KEY (operation, snapshot_id))",
    "CREATE INDEX event_subjects_snapshot ON event_subjects (snapshot_id)",
)
AUDIT: Final = Projection("audit", _handle, (_SCHEMA,))
