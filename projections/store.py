"""views.db: rows by projection, each with its position in the log. Can be deleted at any time: it is made again.

A row is its key, the columns that are searched by, and one JSON column with a value of the domain.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final, Generic, TypeVar

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.storage_errors import ViewsUnreadable
from snapshotd.ports import plain
from snapshotd.ports.views import PageQuery
from snapshotd.store.errors import NEW_INSTALLATION, Fault, detail_of, fault_of

_log = logging.getLogger(__name__)

RowT = TypeVar("RowT")

_PATIENCE_S: Final = 5.0
"""How long opening the file is tried while something is in the way that passes."""
_PAUSE_S: Final = 0.1
_KEPT: Final = 5_000
"""Rows kept in memory; more are forgotten, and read again."""


@dataclass(eq=False)
class LogLost(SnapshotdError):
    """The views hold more than the log. The log is durable before a view takes it in, so no crash causes this."""

    reason: ClassVar[str] = "LOG_LOST"
    views: str
    held: int
    log: int

    def message(self) -> str:  # noqa: D102  (said once on the root)
        return (
            f"Cannot use {Path(self.views).with_name('events.db')}: {self.views} knows {self.held} events, and the "
            f"log holds {self.log}. Restore events.db from a backup, or move both files away to start over. "
            f"{NEW_INSTALLATION}"
        )


@dataclass(eq=False)
class ViewsNotMade(SnapshotdError):
    """views.db cannot be made, or made again: something is in its place, or its directory takes no file."""

    reason: ClassVar[str] = "VIEWS_NOT_MADE"
    views: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return (
            f"Cannot make {self.views}: {self.problem}. Check the disk, its free space and the rights on its directory."
        )


@dataclass(eq=False)
class ViewsNotOpened(SnapshotdError):
    """views.db is there and cannot be read just now. What it holds is not known to be wrong, so it is left as it is."""

    reason: ClassVar[str] = "VIEWS_NOT_OPENED"
    views: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return (
            f"Cannot open {self.views}: {self.problem}. Check the disk, the rights on the file, and what else uses it, "
            "then start again."
        )


class Schema:
    """The tables of a projection: the statements that make them, and the types of what is written into them."""

    def __init__(self, *statements: str, rows: tuple[type, ...] = ()) -> None:
        self.statements = statements
        self.rows = rows


class Table(Schema, Generic[RowT]):
    """One table of rows.

    Args:
        name: of the table.
        row: the dataclass that its JSON column holds.
        key: what a row is found by, column by column.
        columns: what is searched by besides.
        indexes: statements that make its indexes.
    """

    def __init__(
        self,
        name: str,
        row: type[RowT],
        *,
        key: Mapping[str, Callable[[RowT], object]],
        columns: Mapping[str, Callable[[RowT], object]],
        indexes: Sequence[str] = (),
    ) -> None:
        self._row = row
        self._key = tuple(key.values())
        self._columns = (*key.values(), *columns.values())
        names = (*key, *columns, "row")
        create = f"CREATE TABLE {name} ({', '.join(names)}, PRIMARY KEY ({', '.join(key)})) WITHOUT ROWID"
        super().__init__(create, *indexes, rows=(row,))
        self._select = f"SELECT row FROM {name} WHERE "  # noqa: S608  (constants, here and below)
        self._get = self._select + " AND ".join(f"{column} = ?" for column in key)
        self._put = f"INSERT OR REPLACE INTO {name} VALUES ({', '.join('?' * len(names))})"  # noqa: S608

    def put(self, connection: sqlite3.Connection, row: RowT) -> None:
        """Write a row, in place of the one with its key."""
        connection.execute(self._put, (*(column(row) for column in self._columns), plain.encode_text(row)))

    def get(self, connection: sqlite3.Connection, *key: object) -> RowT | None:
        """Return the row of a key."""
        return next(iter(self._read(connection, self._get, key)), None)

    def key_of(self, row: RowT) -> tuple[object, ...]:
        """Return a row's key."""
        return tuple(column(row) for column in self._key)

    def find(
        self, connection: sqlite3.Connection, where: str, values: Sequence[object] = (), rest: str = ""
    ) -> tuple[RowT, ...]:
        """Return the rows that match; `where` and `rest` are built from constants only."""
        return self._read(connection, f"{self._select}{where} {rest}", values)

    def page(
        self, connection: sqlite3.Connection, where: str, values: Sequence[object], page: PageQuery
    ) -> tuple[RowT, ...]:
        """Return the rows of a page that match. The fields of its order are columns of the table."""
        after = page.after or ()
        if after:
            beyond, compared = _beyond(page.order, after)
            where, values = f"{where} AND ({beyond})", (*values, *compared)
        by = ", ".join(f"{field} DESC" if falls else field for field, falls in page.order)
        return self.find(connection, where, (*values, page.limit), f"ORDER BY {by} LIMIT ?")

    def _read(self, connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> tuple[RowT, ...]:
        with reading(connection):
            return tuple(plain.decode_own(self._row, row) for (row,) in connection.execute(statement, values))


def _beyond(order: Sequence[tuple[str, bool]], after: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a row comes after a place in an order, and the values that it compares with."""
    fields, directions = [field for field, _ in order], {falls for _, falls in order}
    if len(directions) == 1:  # as one comparison, which an index can answer
        sign = "<" if True in directions else ">"
        return f"({', '.join(fields)}) {sign} ({', '.join('?' * len(fields))})", tuple(after)
    terms: list[str] = []
    values: list[str] = []
    for n, (field, falls) in enumerate(order):
        same = "".join(f"{earlier} = ? AND " for earlier in fields[:n])
        terms.append(f"({same}{field} {'<' if falls else '>'} ?)")
        values += after[: n + 1]
    return " OR ".join(terms), tuple(values)


def script_of(schemas: Iterable[Schema], folds: Iterable[ModuleType] = ()) -> str:
    """Return the script that makes views.db. When it changes, the file is dropped, and made again.

    It holds the shape of what is written into the rows, and a digest of the modules that fold events into them, so
    nobody has to raise a number.
    """
    schemas = tuple(schemas)
    shape = plain.shape(tuple(row for schema in schemas for row in schema.rows))
    positions = "CREATE TABLE positions (projection PRIMARY KEY, position NOT NULL)"
    statements = (positions, *(statement for schema in schemas for statement in schema.statements))
    sources = hashlib.sha256("".join(inspect.getsource(module) for module in folds).encode()).hexdigest()
    return f"BEGIN;\n-- {shape}\n-- {sources}\n" + "".join(f"{statement};\n" for statement in statements)


def _version(script: str) -> int:
    """Return the user_version of a file that a script has made: 31 bits of its digest."""
    return int.from_bytes(hashlib.sha256(script.encode()).digest()[:4]) >> 1


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


def open_views(path: Path, head: int, script: str) -> sqlite3.Connection:
    """Open views.db to write. Make it again if it is damaged, or of another schema.

    Args:
        path: of the file.
        head: the log's newest position.
        script: what makes it (`script_of`).

    Raises LogLost, ViewsNotMade, ViewsNotOpened.
    """
    connection = _usable(path, head, script)
    if connection is not None:
        return connection
    drop_views(path)
    try:
        connection = _connect(path)
        connection.executescript(f"{script}PRAGMA user_version = {_version(script)};\nCOMMIT;")
    except sqlite3.Error as error:
        raise ViewsNotMade(str(path), str(error)) from error
    return connection


def refuse_lost_log(path: Path, head: int, script: str) -> None:
    """Raise LogLost if views.db is usable and holds more than the log, which ends at `head`."""
    connection = _usable(path, head, script)
    if connection is not None:
        connection.close()


def _usable(path: Path, head: int, script: str) -> sqlite3.Connection | None:
    """Return the open file; None if it is missing, damaged or of another schema (which is logged).

    What passes is tried again for a while. Raises LogLost, ViewsNotOpened.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return None
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return _opened(path, head, script)
        except sqlite3.Error as error:
            fault = fault_of(error, path)
            if fault in (Fault.DAMAGED, Fault.DEFECT):
                _log.warning("Making %s again from the log: %s", path, error)
                return None
            if fault is not Fault.PASSES or time.monotonic() >= until_s:
                raise ViewsNotOpened(str(path), str(error)) from error
            time.sleep(_PAUSE_S)


def _opened(path: Path, head: int, script: str) -> sqlite3.Connection | None:
    """Return the open file; None if it is not usable (which is logged). Raises LogLost, sqlite3.Error."""
    connection = _connect(path)
    try:
        reason = _fault(connection, script)
        held = 0 if reason else _furthest(connection)
    except sqlite3.Error:
        connection.close()
        raise
    if not reason and held <= head:
        return connection
    # Before another file takes its place: SQLite deletes the write-ahead log by name.
    connection.close()
    if not reason:
        raise LogLost(str(path), held, head)
    _log.warning("Making %s again from the log: %s", path, reason)
    return None


def _fault(connection: sqlite3.Connection, script: str) -> str:
    """Return why a file is unusable; empty if it is usable."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema != _version(script):
        return "it was made by another release, or is incomplete"
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
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=_PATIENCE_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # What a power cut may take is made again from the log.
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class Reader(sqlite3.Connection):
    """A connection that the views are read by."""


def open_reader(path: Path) -> Reader:
    """Open views.db to read."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, factory=Reader)
    connection.execute("PRAGMA query_only = 1")
    return connection


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """Raise ViewsUnreadable in place of an error of SQLite's on a Reader; the runner judges its own errors."""
    try:
        yield
    except sqlite3.Error as error:
        if not isinstance(connection, Reader):
            raise
        path = path_of(connection)
        raise ViewsUnreadable(detail_of(fault_of(error, path), error, path)) from error


def path_of(connection: sqlite3.Connection) -> Path:
    """Return the file of a connection."""
    return Path(next(file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"))
