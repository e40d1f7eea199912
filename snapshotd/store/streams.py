"""What the log keeps beside its events: a row of each stream, the marks it is found by, and caches of its fold.

    streams     version and position of the newest event, and what the stream belongs to   in the append's transaction
    marks       mark ──► streams that have it                                              in the append's transaction
    mementos    a fold at one version, as text                                             some time afterwards
    made_of     how rows, marks and events of this file were made                          before the first of them

All of it can be made again from the events (application/replay.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from snapshotd.domain.ids import StreamId
from snapshotd.ports.event_log import Memento, Standing, StreamRow
from snapshotd.store.insert import Insert, Statement

EVENTS: Final = "stored_events"
"""The table of events."""

_STREAMS: Final = (
    "CREATE TABLE IF NOT EXISTS streams (stream TEXT PRIMARY KEY, version INTEGER NOT NULL, position INTEGER NOT NULL, "
    "place TEXT NOT NULL, digest TEXT NOT NULL DEFAULT '', compared_version INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
)
_MEMENTOS: Final = (
    "CREATE TABLE IF NOT EXISTS mementos (stream TEXT PRIMARY KEY, shape TEXT NOT NULL, version INTEGER NOT NULL, "
    "fold TEXT NOT NULL)"
)
TABLES: Final = (
    _STREAMS,
    "CREATE INDEX IF NOT EXISTS streams_place ON streams (place, stream) WHERE place <> ''",
    "CREATE TABLE IF NOT EXISTS marks (mark TEXT, stream TEXT, PRIMARY KEY (mark, stream)) WITHOUT ROWID",
    _MEMENTOS,
    "CREATE TABLE IF NOT EXISTS made_of (what TEXT, shape TEXT, PRIMARY KEY (what, shape)) WITHOUT ROWID",
)

_NEWER: Final = "ON CONFLICT (stream) DO UPDATE SET version = excluded.version, position = excluded.position"
_STAYS: Final = Insert("streams (stream, version, position, place)", 4, _NEWER)
_PLACED: Final = Insert("streams (stream, version, position, place)", 4, f"{_NEWER}, place = excluded.place")
_ADD: Final = Insert("marks", 2, "ON CONFLICT DO NOTHING")
_REMOVE: Final = "DELETE FROM marks WHERE mark = ? AND stream = ?"
_MEMENTO: Final = "INSERT OR REPLACE INTO mementos VALUES (?, ?, ?, ?)"
_COMPARED: Final = "UPDATE streams SET compared_version = ?, digest = ? WHERE stream = ?"
MADE_OF: Final = "SELECT shape FROM made_of WHERE what = ?"
TOPIC: Final = "topic"
"""What `made_of` calls the name that events were written under."""
STANDINGS: Final = "standings"
"""What `made_of` calls places and marks."""
_MADE: Final = "INSERT OR IGNORE INTO made_of VALUES (?, ?)"
VERSION: Final = "SELECT version FROM streams WHERE stream = ?"

_SELECT: Final = "SELECT stream, version, place, digest, compared_version FROM streams "
_NAMED: Final = "(SELECT value FROM json_each(?))"
"""As one value, because the number of values in a statement is limited."""
AT: Final = f"{_SELECT}WHERE place = ? AND place <> '' ORDER BY stream"
AMONG: Final = f"{_SELECT}WHERE stream IN {_NAMED} ORDER BY stream"
FROM: Final = f"{_SELECT}WHERE stream > ? AND stream < ? ORDER BY stream LIMIT ?"
MARKED: Final = (
    "SELECT marks.mark, streams.stream, version, place, digest, compared_version FROM marks "  # noqa: S608  (constants)
    f"JOIN streams ON streams.stream = marks.stream WHERE marks.mark IN {_NAMED} ORDER BY marks.mark, streams.stream"
)
EVENTS_AFTER: Final = (
    f"SELECT {EVENTS}.* FROM json_each(?) AS wanted JOIN {EVENTS} "  # noqa: S608  (constants)
    "ON originator_id = wanted.key AND originator_version > wanted.value ORDER BY originator_id, originator_version"
)
MEMENTOS: Final = f"SELECT stream, version, fold FROM mementos WHERE stream IN {_NAMED} AND shape = ?"  # noqa: S608


def events(where: str, order: str) -> str:
    """Return the statement that finds events; `where` and `order` are built from constants."""
    return f"SELECT * FROM {EVENTS} WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608


def made_of(what: str, shape: str) -> Statement:
    """Return what keeps how a part of this file was made."""
    return (_MADE, (what, shape))


def appended(appends: Iterable[tuple[StreamId, int, int, Standing]]) -> Iterator[Statement]:
    """Yield what writes the rows of streams: each with its version, its position and what else changes."""
    newest: dict[StreamId, tuple[int, int, str | None]] = {}
    marks: list[tuple[StreamId, Standing]] = []
    for stream, version, position, standing in appends:
        place = standing.place if standing.place is not None else newest.get(stream, (0, 0, None))[2]
        newest[stream] = version, position, place
        if standing.added or standing.removed:
            marks.append((stream, standing))
    yield from _PLACED.statements([(stream, *row) for stream, row in newest.items() if row[2] is not None])
    yield from _STAYS.statements([(stream, *row[:2], "") for stream, row in newest.items() if row[2] is None])
    # In the order of the appends: one stream may gain a mark and lose it in the same transaction.
    for stream, standing in marks:
        for mark in standing.removed:
            yield _REMOVE, (mark, stream)
        yield from _ADD.statements([(mark, stream) for mark in standing.added])


def cleared() -> Iterator[Statement]:
    """Yield what takes all places and marks away, and how they were made."""
    yield "DELETE FROM marks", ()
    yield "UPDATE streams SET place = '' WHERE place <> ''", ()
    yield "DELETE FROM made_of WHERE what = ?", (STANDINGS,)


def restood(standings: Mapping[StreamId, Standing]) -> Iterator[Statement]:
    """Yield what writes places and marks of streams that have none."""
    for stream, standing in standings.items():
        yield "UPDATE streams SET place = ? WHERE stream = ?", (standing.place or "", stream)
        yield from _ADD.statements([(mark, stream) for mark in standing.added])


def memento(stream: StreamId, shape: str, kept: Memento) -> Statement:
    """Return what keeps a memento."""
    return (_MEMENTO, (stream, shape, kept.version, kept.text))


def compared(digests: Mapping[StreamId, tuple[int, str]]) -> Iterator[Statement]:
    """Yield what keeps with which digest streams were compared."""
    for stream, (version, digest) in digests.items():
        yield _COMPARED, (version, digest, stream)


def listed(names: Collection[str]) -> str:
    """Return names as the one value that the statements above take."""
    return json.dumps(list(names))


def row_of(found: Sequence[Any]) -> StreamRow:
    """Return a stream's row."""
    stream, version, place, digest, compared_version = found
    return StreamRow(StreamId(stream), version, place, digest, compared_version)


def end_of(prefix: str) -> str:
    """Return what comes after every name that begins so."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
