"""The audit index: what each event of the log is about, and when it was. The events themselves stay in the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, get_args

from projections.postings import BLOCK, TABLES, Condition, Term, blocks_of, positions_of
from projections.projection import Projection, host_of, vm_of
from projections.reading import reading
from projections.rows import Insert, Rows, Schema
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import OperationName, SnapshotId
from snapshotd.ports.views import EventQuery

_EVENTS: Final = Insert("events", 3)
_SUBJECTS: Final = Insert("event_subjects", 3, "ON CONFLICT DO UPDATE SET is_subject = excluded.is_subject")
_OF_SNAPSHOT: Final = frozenset(get_args(e.SnapshotTransition | e.SnapshotFact | e.DriftDetected))
"""Events that are about a snapshot by themselves, whatever their operation is about."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = 0
_LATEST: Final = 1 << 62
"""Before and after all times, and positions."""
_IN_TIME: Final = """
SELECT block, earliest >= :since AND latest < :until FROM blocks WHERE latest >= :since AND earliest < :until
"""
"""Returns the blocks with events in a time, and whether all of their events were. There is one in 4,096 events."""
_EVERY: Final = "*"
"""Stands for all events."""
_SNAPSHOTS: Final = "s*"
"""Stands for all events that are about a snapshot by themselves."""


def _handle(rows: Rows, envelope: Envelope) -> None:
    event, position, operation = envelope.event, envelope.position, envelope.operation
    cls = type(event)
    post = rows.post
    post(_EVERY, position)
    post(f"a{envelope.actor}", position)
    post(f"t{cls.__name__}", position)
    if vm_id := vm_of(envelope):
        post(f"v{vm_id}", position)
    elif host_id := host_of(envelope):
        post(f"h{host_id}", position)
    if operation is not None:
        post(f"o{operation}", position)
    if cls in _OF_SNAPSHOT and (snapshot_id := event.snapshot_id) is not None:  # type: ignore[union-attr]
        post(f"s{snapshot_id}", position)
        post(_SNAPSHOTS, position)
    elif isinstance(event, e.OperationRequested):
        for snapshot_id in {event.snapshot_id, *(step.snapshot_id for step in event.steps)} - {None}:
            rows.add(_SUBJECTS, snapshot_id, operation, snapshot_id == event.snapshot_id)
    time = _microseconds(envelope.time)
    rows.add(_EVENTS, position, time, operation)
    rows.date(position, time)


def _microseconds(time: datetime) -> int:
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def find(
    connection: sqlite3.Connection, query: EventQuery, beyond: int, limit: int, *, descending: bool
) -> tuple[int, ...]:
    """Return positions of matching events (see ports/views.py)."""
    found: list[int] = []
    with reading(connection):
        for block, bits in _blocks(connection, query, beyond, descending=descending):
            for position in positions_of(block, bits, descending=descending):
                if len(found) == limit:
                    return tuple(found)
                found.append(position)
    return tuple(found)


def _blocks(
    connection: sqlite3.Connection, query: EventQuery, beyond: int, *, descending: bool
) -> Iterator[tuple[int, int]]:
    """Yield the blocks with events that match, and their bits."""
    since = _EARLIEST if query.since is None else _microseconds(query.since)
    until = _LATEST if query.until is None else _microseconds(query.until)
    always = (since, until) == (_EARLIEST, _LATEST)
    whole = {} if always else dict(connection.execute(_IN_TIME, {"since": since, "until": until}))
    if not always and not whole:
        return
    edge = (beyond or _LATEST) - 1 if descending else beyond + 1
    first = edge // BLOCK
    if whole:
        first = min(first, max(whole)) if descending else max(first, min(whole))
    for block, met in blocks_of(connection, _conditions(connection, query), first, descending=descending):
        bits = met
        if block == edge // BLOCK:
            bits &= (2 << edge % BLOCK) - 1 if descending else -1 << edge % BLOCK
        if whole and (block < min(whole) if descending else block > max(whole)):
            return
        if not always and not whole.get(block):
            bits &= _in_time(connection, block, since, until) if block in whole else 0
        if bits:
            yield block, bits


def _conditions(connection: sqlite3.Connection, query: EventQuery) -> list[Condition]:
    """Return what an event must meet besides the time, what few events meet first."""
    conditions: list[Condition] = []
    if query.operation is not None:
        conditions.append((Term((f"o{query.operation}",)),))
    if query.snapshot_id is not None:
        conditions.append(_about_snapshot(connection, query.snapshot_id))
    if query.vm_id is not None:
        conditions.append((Term((f"v{query.vm_id}",)),))
    if query.host_id is not None:
        conditions.append((Term((f"h{query.host_id}",)),))
    if query.actors:
        conditions.append((Term(tuple(f"a{actor}" for actor in query.actors)),))
    if query.event_types:
        conditions.append((Term(tuple(f"t{name}" for name in query.event_types)),))
    return conditions or [(Term((_EVERY,)),)]


def _about_snapshot(connection: sqlite3.Connection, snapshot_id: SnapshotId) -> Condition:
    """Return the condition that an event is about a snapshot.

    Also by the operation's snapshot, not only by each event's own: an operation's first events come before
    OperationRequested, and some of its events are about the VM or about other snapshots. If it is about another
    snapshot, and only touches this one, what is about other snapshots does not count.
    """
    found = connection.execute(
        "SELECT operation, is_subject FROM event_subjects WHERE snapshot_id = ?", (snapshot_id,)
    ).fetchall()
    own = tuple(f"o{operation}" for operation, is_subject in found if is_subject)
    touching = tuple(f"o{operation}" for operation, is_subject in found if not is_subject)
    return (Term((f"s{snapshot_id}", *own)), Term(touching, unless=_SNAPSHOTS))


def _in_time(connection: sqlite3.Connection, block: int, since: int, until: int) -> int:
    """Return the bits of a block's events that were in a time."""
    bits = 0
    between = (block * BLOCK, (block + 1) * BLOCK, since, until)
    for (position,) in connection.execute(
        "SELECT position FROM events WHERE position >= ? AND position < ? AND time >= ? AND time < ?", between
    ):
        bits |= 1 << position % BLOCK
    return bits


def operations_after(
    connection: sqlite3.Connection, position: int, limit: int
) -> tuple[tuple[int, OperationName], ...]:
    """Return the next events of operations (see ports/views.py)."""
    statement = (
        "SELECT position, operation FROM events WHERE position > ? AND operation NOTNULL ORDER BY position LIMIT ?"
    )
    with reading(connection):
        return tuple(connection.execute(statement, (position, limit)))


AUDIT: Final = Projection(
    "audit",
    _handle,
    (
        Schema(
            *TABLES,
            "CREATE TABLE events (position INTEGER PRIMARY KEY, time NOT NULL, operation)",
            "CREATE TABLE event_subjects"
            " (snapshot_id, operation, is_subject NOT NULL, PRIMARY KEY (snapshot_id, operation)) WITHOUT ROWID",
        ),
    ),
)
