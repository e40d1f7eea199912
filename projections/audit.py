"""The audit index: what each event of the log is about, and when it was. The events themselves stay in the log.

    positions:  │◄────────── complete blocks ──────────►│◄── the last ──►│
    found by:   │   postings (projections/postings.py)  │ a look at each │

An event is appended to a table, and no index is changed for it. When a block is complete, its postings are written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, get_args

from projections.postings import BLOCK, TABLE, Condition, Term, blocks_of, positions_of, write_block
from projections.projection import Projection, host_of, vm_of
from projections.reading import reading
from projections.rows import Rows, Schema
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import OperationName, SnapshotId
from snapshotd.ports.views import EventQuery
from snapshotd.store.insert import Insert

_EVENTS: Final = Insert("events", 8)
_SUBJECTS: Final = Insert("event_subjects", 3, "ON CONFLICT DO UPDATE SET is_subject = excluded.is_subject")
_OF_SNAPSHOT: Final = frozenset(
    cls for cls in get_args(e.Event) if issubclass(cls, e.SnapshotTransition | e.SnapshotFact | e.DriftDetected)
)
"""Events that are about a snapshot by themselves, whatever their operation is about."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 1 << 62
"""After all times, and beyond all positions."""
_EVERY: Final = "*"
"""Stands for all events."""
_SNAPSHOTS: Final = "s*"
"""Stands for all events that are about a snapshot by themselves."""
_IN_TIME: Final = """
SELECT block, earliest >= :since AND latest < :until FROM blocks WHERE latest >= :since AND earliest < :until
"""
"""Returns the blocks with events in a time, and whether all of their events were. There is one in 4,096 events."""
_CONDITIONS: Final = {
    "vm": "vm_id = :vm",
    "host": "host_id = :host",
    "snapshot": "(snapshot_id = :snapshot OR operation IN"
    " (SELECT operation FROM event_subjects"
    " WHERE snapshot_id = :snapshot AND (is_subject OR events.snapshot_id IS NULL)))",
    "operation": "operation = :operation",
    "actors": "actor IN (SELECT value FROM json_each(:actors))",
    "types": "type IN (SELECT value FROM json_each(:types))",
}
"""What an event of the last block meets, by what is asked for."""


def _handle(rows: Rows, envelope: Envelope) -> None:
    event, operation = envelope.event, envelope.operation
    snapshot_id = event.snapshot_id if type(event) in _OF_SNAPSHOT else None  # type: ignore[union-attr]
    if isinstance(event, e.OperationRequested):
        for touched in {event.snapshot_id, *(step.snapshot_id for step in event.steps)} - {None}:
            rows.add(_SUBJECTS, touched, operation, touched == event.snapshot_id)
    rows.add(
        _EVENTS,
        envelope.position,
        _microseconds(envelope.time),
        operation,
        vm_of(envelope) or None,
        host_of(envelope) or None,
        snapshot_id,
        envelope.actor,
        type(event).__name__,
    )


def _microseconds(time: datetime) -> int:
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _complete(connection: sqlite3.Connection, position: int) -> None:
    """Write the blocks that are complete now that the last event is at a position."""
    begin = _begin_of_last(connection)
    while begin // BLOCK < position // BLOCK:
        ((begin,),) = connection.execute("SELECT MIN(position) FROM events WHERE position >= ?", (begin,))
        block = begin // BLOCK
        if block == position // BLOCK:
            return
        between = (block * BLOCK, (block + 1) * BLOCK)
        found = connection.execute(
            "SELECT position, time, operation, vm_id, host_id, snapshot_id, actor, type FROM events"
            " WHERE position >= ? AND position < ? ORDER BY position",
            between,
        ).fetchall()
        times = [time for _, time, *_ in found]
        write_block(connection, block, ((at, _things(*about)) for at, _, *about in found))
        connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", (block, min(times), max(times)))
        begin = between[1]


def _things(
    operation: str | None, vm_id: str | None, host_id: str | None, snapshot_id: str | None, actor: str, name: str
) -> Iterator[str]:
    """Yield what an event is found by."""
    yield _EVERY
    yield f"a{actor}"
    yield f"t{name}"
    if vm_id is not None:
        yield f"v{vm_id}"
    if host_id is not None:
        yield f"h{host_id}"
    if operation is not None:
        yield f"o{operation}"
    if snapshot_id is not None:
        yield f"s{snapshot_id}"
        yield _SNAPSHOTS


def _begin_of_last(connection: sqlite3.Connection) -> int:
    """Return the position at which the last block begins at the earliest: what is before has postings."""
    ((block,),) = connection.execute("SELECT MAX(block) FROM blocks")
    return 0 if block is None else (int(block) + 1) * BLOCK


@dataclass(frozen=True, slots=True)
class _Span:
    """Between which times and positions events are looked for."""

    since: int
    until: int
    above: int
    """Only positions above it."""
    below: int
    """Only positions below it."""


def find(
    connection: sqlite3.Connection, query: EventQuery, beyond: int, limit: int, *, descending: bool
) -> tuple[int, ...]:
    """Return positions of matching events (see ports/views.py)."""
    span = _Span(
        0 if query.since is None else _microseconds(query.since),
        _LATEST if query.until is None else _microseconds(query.until),
        0 if descending else beyond,
        (beyond or _LATEST) if descending else _LATEST,
    )
    found: list[int] = []
    with reading(connection):
        connection.execute("BEGIN")  # so that no block is completed meanwhile
        try:
            last = _begin_of_last(connection)
            if descending:
                found += _in_last(connection, query, span, last, limit, descending=True)
            if len(found) < limit and (span.above < last if not descending else last):
                for position in _in_blocks(connection, query, span, descending=descending):
                    found.append(position)
                    if len(found) == limit:
                        break
            if not descending and len(found) < limit:
                found += _in_last(connection, query, span, last, limit - len(found), descending=False)
        finally:
            connection.execute("COMMIT")
    return tuple(found)


def _in_last(
    connection: sqlite3.Connection, query: EventQuery, span: _Span, last: int, limit: int, *, descending: bool
) -> Iterator[int]:
    """Yield matching events of the last block."""
    values = {
        "vm": query.vm_id,
        "host": query.host_id,
        "snapshot": query.snapshot_id,
        "operation": query.operation,
        "actors": json.dumps(query.actors) if query.actors else None,
        "types": json.dumps(query.event_types) if query.event_types else None,
    }
    where = "".join(f" AND {text}" for name, text in _CONDITIONS.items() if values[name] is not None)
    bounds = {"low": max(last - 1, span.above), "below": span.below, "since": span.since, "until": span.until}
    statement = (
        "SELECT position FROM events WHERE position > :low AND position < :below"  # noqa: S608  (constants)
        f" AND time >= :since AND time < :until{where}"
        f" ORDER BY position {'DESC' if descending else 'ASC'} LIMIT :limit"
    )
    for (position,) in connection.execute(statement, {**values, **bounds, "limit": limit}):
        yield position


def _in_blocks(connection: sqlite3.Connection, query: EventQuery, span: _Span, *, descending: bool) -> Iterator[int]:
    """Yield matching events of the blocks that have postings."""
    whole = dict(connection.execute(_IN_TIME, {"since": span.since, "until": span.until}))
    if not whole:
        return
    first = min((span.below - 1) // BLOCK, max(whole)) if descending else max((span.above + 1) // BLOCK, min(whole))
    for block, met in blocks_of(connection, _conditions(connection, query), first, descending=descending):
        if block < min(whole) if descending else block > max(whole):
            return
        bits = met & _between(block, span) if block in whole else 0
        if bits and not whole[block]:
            bits &= _in_time(connection, block, span)
        yield from positions_of(block, bits, descending=descending)


def _between(block: int, span: _Span) -> int:
    """Return the bits of a block's positions in a span."""
    bits = -1
    if span.above // BLOCK == block:
        bits &= -2 << span.above % BLOCK
    if span.below // BLOCK == block:
        bits &= (1 << span.below % BLOCK) - 1
    return bits


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


def _in_time(connection: sqlite3.Connection, block: int, span: _Span) -> int:
    """Return the bits of a block's events that were in a time."""
    bits = 0
    between = (block * BLOCK, (block + 1) * BLOCK, span.since, span.until)
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
            TABLE,
            # Between which times a block's events were. A clock can be set back, so blocks may overlap.
            "CREATE TABLE blocks (block INTEGER PRIMARY KEY, earliest NOT NULL, latest NOT NULL)",
            "CREATE TABLE events"
            " (position INTEGER PRIMARY KEY, time NOT NULL, operation, vm_id, host_id, snapshot_id, actor, type)",
            "CREATE TABLE event_subjects"
            " (snapshot_id, operation, is_subject NOT NULL, PRIMARY KEY (snapshot_id, operation)) WITHOUT ROWID",
        ),
    ),
    finish=_complete,
)
