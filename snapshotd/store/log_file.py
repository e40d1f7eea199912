"""The file of the event log before it is opened: one process locks it, and it must be ours.

    events.db.lock    line 1: the process that owns the log
                      line 2: how events.db looked when that process last wrote it: inode, size, time; and whether it
                              was closed then, so that there is no write-ahead log

If events.db still looks so, nobody else has written it since, and its write-ahead log belongs to it. Then reading all
of it can wait until the service runs (SqliteEventLog.verify). Otherwise it was restored, copied or edited, and is read
whole before anything is written: SQLite would write what a stale write-ahead log holds into the file, for good. After a
kill, an edit that is still in the write-ahead log is not told from our own; it is found by that later reading.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from snapshotd.store.errors import Fault, LogForeign, LogInUse, StorageUnusable, fault_of
from snapshotd.store.verification import reading, refuse_damaged

APPLICATION_ID: Final = 0x534E4150
"""The application_id of our SQLite files: "SNAP"."""
SCHEMA: Final = 3
"""The user_version of our SQLite files."""
_CLOSED: Final = " closed"
_LINES: Final = 200
"""More than the lock file has bytes."""


class LogFile:
    """The file of a log, locked for this process by a file beside it.

    Args:
        path: of the log.

    Raises LogInUse and StorageUnusable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        owner, _, self._left = os.pread(self._lock, _LINES, 0).decode(errors="replace").strip().partition("\n")
        self._known = self._inode = ""
        """How the file looked when this process last wrote it, and its inode."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise LogInUse(str(path), owner) from None
        try:
            self._write(self._left)
        except OSError as error:
            self.release()
            raise StorageUnusable(f"{path}.lock", str(error.strerror)) from error

    def release(self) -> None:
        """Free the log for another process."""
        os.close(self._lock)

    def remember(self, *, closed: bool = False) -> bool:
        """Note how the file looks now, if it has changed: this process has written it.

        Return whether it is still the file that was opened. That the note cannot be written costs the next start time,
        and nothing else.
        """
        try:
            looks = _looks(self._path) + _CLOSED * closed
        except OSError:
            return False
        inode = looks.partition(" ")[0]
        if self._inode not in ("", inode):
            return False
        if looks != self._known:
            with suppress(OSError):
                self._write(looks)
                self._known, self._inode = looks, inode
        return True

    def _write(self, looks: str) -> None:
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n{looks}\n".encode(), 0)

    def check(self) -> None:
        """Mark a new file as ours. Raise LogForeign for one that is not ours, is corrupt or is of another version.

        Raises StorageUnusable for what is no file, LogIncomplete for a log that lacks an event, sqlite3.Error if it
        cannot be read. An existing file stays as it is.
        """
        path = self._path
        if not path.exists() or path.stat().st_size == 0:
            _mark(path)
            return
        if not path.is_file():
            raise StorageUnusable(str(path), "it is not a file")
        wal = path.with_name(f"{path.name}-wal")
        beside = str(wal) if wal.exists() and wal.stat().st_size else ""
        try:
            if problem := foreign(path):
                raise LogForeign(str(path), problem, beside)
            looked, closed = self._left.removesuffix(_CLOSED), self._left.endswith(_CLOSED)
            if _looks(path) != looked or (closed and beside):
                refuse_damaged(path)
        except sqlite3.Error as error:
            if fault_of(error, path) is Fault.DAMAGED:
                raise LogForeign(str(path), str(error), beside) from error
            raise  # the file could not be read, so nobody knows what it holds


def foreign(path: Path) -> str:
    """Return why a file is not a log of this release; empty: it is one. Raises sqlite3.Error."""
    with reading(path) as connection:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        return f"its application id is {application_id:#x}, not {APPLICATION_ID:#x}"
    return "" if version == SCHEMA else f"its schema is {version}, and this release writes {SCHEMA}"


def _looks(path: Path) -> str:
    """Return what changes when somebody writes a file, or puts another one in its place."""
    found = path.stat()
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _mark(path: Path) -> None:
    """Mark an empty file as ours, in one transaction: a start that ends here or later can be repeated."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
        )
    finally:
        connection.close()
