"""The audit index: which events of the log are about what. The events themselves stay in the log."""

from __future__ import annotations

import sqlite3
from typing import Final

from projections.projection import Projection, host_of, vm_of
from projections.store import Rows
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.ports.plain import encode_time
from snapshotd.ports.views import EventQuery


def _handle(rows: Rows, envelope: Envelope) -> None:
    connection = rows.connection
    event = envelope.event
    if isinstance(event, e.OperationRequested) and event.snapshot_id is not None:
        values = (envelope.operation, event.snapshot_id)
        connection.execute("INSERT OR REPLACE INTO event_subjects VALUES (?, ?)", values)
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            envelope.position,
            vm_of(envelope),
            host_of(envelope),
            _snapshot_of(connection, envelope),
            envelope.operation,
            envelope.actor,
            type(event).__name__,
            encode_time(envelope.time),
        ),
    )


def _snapshot_of(connection: sqlite3.Connection, envelope: Envelope) -> str | None:
    """Return the snapshot that an event is about, or that its operation works on."""
    event = envelope.event
    if isinstance(event, e.SnapshotTransition | e.SnapshotReparented):
        return event.snapshot_id
    if isinstance(event, e.DriftDetected):
        return event.snapshot_id
    row = connection.execute(
        "SELECT snapshot_id FROM event_subjects WHERE operation = ?", (envelope.operation,)
    ).fetchone()
    return str(row[0]) if row else None


def find(
    connection: sqlite3.Connection, query: EventQuery, beyond: int, limit: int, *, descending: bool
) -> tuple[int, ...]:
    """Return positions of matching events (see ports/views.py)."""
    conditions: list[tuple[str, object]] = [
        ("vm_id = ?", query.vm_id),
        ("host_id = ?", query.host_id),
        ("snapshot_id = ?", query.snapshot_id),
        ("operation = ?", query.operation),
        ("actor = ?", query.actor),
        ("type = ?", query.event_type),
        ("time >= ?", encode_time(query.since) if query.since else None),
        ("time < ?", encode_time(query.until) if query.until else None),
        ("position < ?" if descending else "position > ?", beyond if beyond or not descending else None),
    ]
    kept = [(text, value) for text, value in conditions if value is not None]
    where = " AND ".join(text for text, _ in kept) or "1"
    order = "position DESC" if descending else "position"
    cursor = connection.execute(
        f"SELECT position FROM events WHERE {where} ORDER BY {order} LIMIT ?",  # noqa: S608  (constants)
        (*(value for _, value in kept), limit),
    )
    return tuple(position for (position,) in cursor)


AUDIT: Final = Projection("audit", _handle)
