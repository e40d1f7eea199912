"""views.db: rows by projection, each with its position in the log. Can be deleted at any time: it is made again.

A row is its key, the columns that are searched by, and one JSON column with the row of ports/views.py.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

from snapshotd.domain.errors import SnapshotdError
from snapshotd.ports import plain

_log = logging.getLogger(__name__)

RowT = TypeVar("RowT")

SCHEMA: Final = 3
"""SQLite's user_version of the file; another one is dropped and made again."""
_KEPT: Final = 5_000
"""Rows kept in memory; more are forgotten, and read again."""

_SCRIPT: Final = f"""
BEGIN;
CREATE TABLE positions (projection TEXT PRIMARY KEY, position INTEGER NOT NULL);
CREATE TABLE hosts (host_id TEXT PRIMARY KEY, row TEXT NOT NULL);
CREATE TABLE vms (
    vm_id TEXT PRIMARY KEY, host_id TEXT NOT NULL, name TEXT NOT NULL, registered INTEGER NOT NULL, row TEXT NOT NULL
);
CREATE TABLE snapshots (
    vm_id TEXT NOT NULL, snapshot_id TEXT NOT NULL, requested_at TEXT NOT NULL, active_operation TEXT,
    row TEXT NOT NULL, PRIMARY KEY (vm_id, snapshot_id)
);
CREATE INDEX snapshots_active ON snapshots (active_operation) WHERE active_operation IS NOT NULL;
CREATE TABLE operations (
    vm_id TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, requested_at TEXT NOT NULL,
    active INTEGER NOT NULL, row TEXT NOT NULL, PRIMARY KEY (vm_id, number)
);
CREATE INDEX operations_newest ON operations (requested_at DESC, name DESC);
CREATE INDEX operations_active ON operations (requested_at, name) WHERE active;
CREATE TABLE operation_hosts (vm_id TEXT PRIMARY KEY, host_id TEXT NOT NULL);
CREATE TABLE events (
    position INTEGER PRIMARY KEY, vm_id TEXT, host_id TEXT, snapshot_id TEXT, operation TEXT, actor TEXT NOT NULL,
    type TEXT NOT NULL, time TEXT NOT NULL
);
CREATE INDEX events_vm ON events (vm_id, position);
CREATE INDEX events_snapshot ON events (snapshot_id, position) WHERE snapshot_id IS NOT NULL;
CREATE INDEX events_operation ON events (operation, position) WHERE operation IS NOT NULL;
CREATE INDEX events_actor ON events (actor, position);
CREATE TABLE event_subjects (operation TEXT PRIMARY KEY, snapshot_id TEXT NOT NULL);
CREATE INDEX event_subjects_snapshot ON event_subjects (snapshot_id);
PRAGMA user_version = {SCHEMA};
COMMIT;
"""


@dataclass(eq=False)
class LogLost(SnapshotdError):
    """The views hold more than the log. The log is durable before a view takes it in, so no crash leads here."""

    reason: ClassVar[str] = "LOG_LOST"
    views: str
    held: int
    log: int

    def message(self) -> str:  # noqa: D102  (said once on the root)
        return (
            f"{self.views} knows {self.held} events, and events.db beside it holds {self.log}: it was lost, emptied or "
            "replaced by an older one. Restore events.db, or delete views.db to begin anew: as another installation, "
            "which knows of no VM and no snapshot."
        )


@dataclass(eq=False)
class ViewsNotMade(SnapshotdError):
    """views.db cannot be made, or made again: something is in its place, or its directory takes no file."""

    reason: ClassVar[str] = "VIEWS_NOT_MADE"
    views: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return (
            f"{self.views} cannot be made: {self.problem}. See that its disk has room, that nothing else is in its "
            "place, and that the service may write to its directory; the views are made again from the log."
        )


class Table(Generic[RowT]):
    """One table of rows.

    Args:
        name: of the table.
        row: the dataclass that its JSON column holds.
        key: its key columns; attributes of the row.
        columns: columns that are searched by, with what they hold.
    """

    def __init__(self, name: str, row: type[RowT], key: Sequence[str], columns: Sequence[str] = ()) -> None:
        self._name = name
        self._row = row
        self._key = tuple(key)
        self._columns = (*self._key, *columns)

    def put(self, connection: sqlite3.Connection, row: RowT) -> None:
        """Write a row, over one with its key."""
        values = plain.encode(row)
        marks = ", ".join("?" * (len(self._columns) + 1))
        searched = [values[c] if c in values else getattr(row, c) for c in self._columns]
        connection.execute(
            f"INSERT OR REPLACE INTO {self._name} ({', '.join(self._columns)}, row) VALUES ({marks})",  # noqa: S608
            (*searched, json.dumps(values, separators=(",", ":"))),
        )

    def get(self, connection: sqlite3.Connection, *key: object) -> RowT | None:
        """Return the row of a key."""
        where = " AND ".join(f"{c} = ?" for c in self._key)
        found = self.find(connection, where, key)
        return found[0] if found else None

    def key_of(self, row: RowT) -> tuple[object, ...]:
        """Return a row's key."""
        return tuple(getattr(row, column) for column in self._key)

    def drop(self, connection: sqlite3.Connection, *key: object) -> None:
        """Delete the row of a key."""
        where = " AND ".join(f"{c} = ?" for c in self._key)
        connection.execute(f"DELETE FROM {self._name} WHERE {where}", key)  # noqa: S608  (constants)

    def find(self, connection: sqlite3.Connection, where: str, values: Sequence[object], rest: str = "") -> list[RowT]:
        """Return the rows that match; `where` is built from constants only."""
        cursor = connection.execute(f"SELECT row FROM {self._name} WHERE {where} {rest}", values)  # noqa: S608
        return [plain.decode_own(self._row, row) for (row,) in cursor]


class Rows:
    """Rows as handlers see and change them: kept in memory, written together when a batch has been taken in.

    One VM's row changes with each of its events; it is read and written once a batch. Only the runner writes views.db,
    so what is kept stays true until `forget`.

    Args:
        connection: views.db, to write.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._known: dict[tuple[object, ...], Any] = {}
        self._changed: dict[tuple[object, ...], tuple[Any, Any]] = {}

    def get(self, table: Table[RowT], *key: object) -> RowT | None:
        """Return the row of a key."""
        at = (table, *key)
        if at not in self._known:
            self._known[at] = table.get(self.connection, *key)
        found: RowT | None = self._known[at]
        return found

    def put(self, table: Table[RowT], row: RowT) -> None:
        """Change a row."""
        at = (table, *table.key_of(row))
        self._known[at] = row
        self._changed[at] = (table, row)

    def drop(self, table: Table[RowT], *key: object) -> None:
        """Delete a row."""
        self.flush()
        self._known[table, *key] = None
        table.drop(self.connection, *key)

    def find(self, table: Table[RowT], where: str, values: Sequence[object]) -> list[RowT]:
        """Return the rows that match; `where` is built from constants only."""
        self.flush()
        return table.find(self.connection, where, values)

    def flush(self) -> None:
        """Write what has changed."""
        for table, row in self._changed.values():
            table.put(self.connection, row)
        self._changed.clear()
        if len(self._known) > _KEPT:
            self._known.clear()

    def forget(self) -> None:
        """Forget everything: what was changed is rolled back."""
        self._known.clear()
        self._changed.clear()


def open_views(path: Path, head: int) -> sqlite3.Connection:
    """Open views.db to write, made anew where it is not usable: corrupt, or of another schema.

    Args:
        path: of the file.
        head: the log's newest position.

    Raises LogLost, ViewsNotMade.
    """
    connection = _usable(path, head)
    if connection is not None:
        return connection
    drop_views(path)
    try:
        connection = _connect(path)
        connection.executescript(_SCRIPT)
    except sqlite3.Error as error:
        raise ViewsNotMade(str(path), str(error)) from error
    return connection


def refuse_lost_log(path: Path, head: int) -> None:
    """Raise LogLost if views.db is usable and holds more than the log, which ends at `head`."""
    connection = _usable(path, head)
    if connection is not None:
        connection.close()


def _usable(path: Path, head: int) -> sqlite3.Connection | None:
    """Open a file that is there; None, and said in the log: it is not usable. Raises LogLost."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        # Closed before another file takes its place: SQLite deletes the write-ahead log by name.
        connection = _connect(path)
        try:
            reason = _fault(connection)
            held = 0 if reason else _furthest(connection)
        except sqlite3.DatabaseError:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        reason = str(error)
    else:
        if not reason and held <= head:
            return connection
        connection.close()
        if not reason:
            raise LogLost(str(path), held, head)
    _log.warning("%s is made again from the log: %s", path, reason)
    return None


def _fault(connection: sqlite3.Connection) -> str:
    """Return what makes a file unusable; empty: nothing."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema != SCHEMA:
        return f"its schema is {schema}, and this release has {SCHEMA}"
    (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if checked == "ok" else f"it is corrupt: {checked}"


def _furthest(connection: sqlite3.Connection) -> int:
    (position,) = connection.execute("SELECT COALESCE(MAX(position), 0) FROM positions").fetchone()
    return int(position)


def drop_views(path: Path) -> None:
    """Delete the file, and what SQLite keeps beside it. Raises ViewsNotMade."""
    try:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise ViewsNotMade(str(path), (error.strerror or str(error)).lower()) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    # What a power cut may take is made again from the log.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open views.db to read."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    return connection
