"""views.db: rows by projection, each with its position in the log. Can be deleted at any time: it is made again."""

from __future__ import annotations

import hashlib
import inspect
import logging
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Final

from projections.reading import damage_of
from projections.rows import Schema
from snapshotd.domain.errors import SnapshotdError
from snapshotd.ports import plain
from snapshotd.store.errors import NEW_INSTALLATION, Fault, fault_of

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 5.0
"""How long opening the file is tried while something is in the way that passes."""
_PAUSE_S: Final = 0.1
_STATEMENTS: Final = 1024
"""Statements that stay prepared: each table has one for each number of rows that are written together."""
_SMALL: Final = 16 * 1024 * 1024
"""Bytes. A file up to this size is checked when it is opened; a larger one would delay the start."""


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


def script_of(schemas: Iterable[Schema], folds: Iterable[ModuleType] = ()) -> str:
    """Return the script that makes views.db. When it changes, the file is dropped, and made again.

    It holds the shape of what is written into the rows, the indexes (which the runner makes), and a digest of the
    modules that fold events into them, so nobody has to raise a number.
    """
    schemas = tuple(schemas)
    shape = plain.shape(tuple(row for schema in schemas for row in schema.rows))
    positions = "CREATE TABLE positions (projection PRIMARY KEY, position NOT NULL)"
    statements = (positions, *(statement for schema in schemas for statement in schema.statements))
    indexes = "".join(f"-- {index}\n" for schema in schemas for index in schema.indexes)
    sources = hashlib.sha256("".join(inspect.getsource(module) for module in folds).encode()).hexdigest()
    return f"BEGIN;\n-- {shape}\n-- {sources}\n{indexes}" + "".join(f"{statement};\n" for statement in statements)


def _version(script: str) -> int:
    """Return the user_version of a file that a script has made: 31 bits of its digest."""
    return int.from_bytes(hashlib.sha256(script.encode()).digest()[:4]) >> 1


def open_views(path: Path, head: int, script: str) -> sqlite3.Connection:
    """Open views.db to write. Make it again if it is damaged, or of another schema.

    Whether a large file is damaged inside is not looked at: that is `damage_found`.

    Args:
        path: of the file.
        head: the log's newest position.
        script: what makes it (`script_of`).

    Raises LogLost, ViewsNotMade, ViewsNotOpened.
    """
    connection = _usable(path, head, script)
    return connection if connection is not None else make_views(path, script)


def make_views(path: Path, script: str) -> sqlite3.Connection:
    """Make views.db, in place of what is there, and open it to write. Raises ViewsNotMade."""
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
        unusable = _fault(connection, script)
        held = 0 if unusable else _furthest(connection)
        if held > head or path.stat().st_size <= _SMALL:  # nobody is told of a lost log by a damaged file
            unusable = unusable or damage_of(connection)
    except sqlite3.Error:
        connection.close()
        raise
    if not unusable and held <= head:
        return connection
    # Before another file takes its place: SQLite deletes the write-ahead log by name.
    connection.close()
    if not unusable:
        raise LogLost(str(path), held, head)
    _log.warning("Making %s again from the log: %s", path, unusable)
    return None


def _fault(connection: sqlite3.Connection, script: str) -> str:
    """Return why a file is unusable; empty if it is usable."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    return "" if schema == _version(script) else "it was made by another release, or is incomplete"


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
    connection = sqlite3.connect(
        path, check_same_thread=False, isolation_level=None, timeout=_PATIENCE_S, cached_statements=_STATEMENTS
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # What a power cut may take is made again from the log.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -32768")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
