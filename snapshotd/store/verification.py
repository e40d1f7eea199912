"""Reads a whole log, to find out whether its file is damaged, and whether a stream lacks an event. Writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from snapshotd.domain.storage_errors import LogIncomplete
from snapshotd.store.interruptible import read_through
from snapshotd.store.streams import EVENTS

_CORRUPT: Final = sqlite3.SQLITE_CORRUPT
_MADE: Final = f"SELECT 1 FROM sqlite_master WHERE name = '{EVENTS}'"  # noqa: S608  (constants, here and below)
_WITH_GAP: Final = (
    f"SELECT originator_id FROM {EVENTS} GROUP BY originator_id "  # noqa: S608
    "HAVING COUNT(*) <> MAX(originator_version) LIMIT 1"
)
_GAP: Final = (
    "SELECT expected, position FROM (SELECT row_number() OVER (ORDER BY originator_version) AS expected, "  # noqa: S608
    f"originator_version, position FROM {EVENTS} WHERE originator_id = ?) WHERE expected <> originator_version LIMIT 1"
)
_CUT: Final = (
    "SELECT stream, version, position FROM streams WHERE version > "  # noqa: S608
    f"ifnull((SELECT MAX(originator_version) FROM {EVENTS} WHERE originator_id = stream), 0) LIMIT 1"
)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file to read. Closed, a connection that may write would write what a write-ahead log holds into it."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


def refuse_damaged(path: Path) -> None:
    """Raise sqlite3.DatabaseError if a file is damaged, LogIncomplete if it lacks an event of a stream."""
    with reading(path) as connection:
        refuse_damage_in(connection)


async def look_through(path: Path) -> None:
    """Do as `refuse_damaged` in a thread, which ends soon when this is cancelled."""
    with reading(path) as connection:
        await read_through(connection, refuse_damage_in)


def refuse_damage_in(connection: sqlite3.Connection) -> None:
    """Read the whole file of a connection. Raises as `refuse_damaged` does, and sqlite3.Error if it is interrupted."""
    (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if checked != "ok":
        error = sqlite3.DatabaseError(f"it is corrupt: {checked}")
        error.sqlite_errorcode = _CORRUPT
        raise error
    if not connection.execute(_MADE).fetchone():
        return  # its first start ended before it had its tables
    for (stream,) in connection.execute(_WITH_GAP).fetchall():
        version, position = connection.execute(_GAP, (stream,)).fetchone()
        raise LogIncomplete(stream, version, position)
    for stream, version, position in connection.execute(_CUT).fetchall():
        raise LogIncomplete(stream, version, position + 1)
