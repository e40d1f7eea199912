"""Errors of the event log, and what an error of SQLite means for the file that it came from.

    an error ──► its extended result code ──► _FAULTS ──► PASSES, FULL    tried again; who waits is told
                                                          UNTRUSTED       nobody knows what the disk holds
                                                          DAMAGED, DEFECT the file, or our statement, is wrong

Each message says what to do.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar, Final

from eventsourcing.persistence import ConnectionUnavailableError

from snapshotd.domain.errors import SnapshotdError


class Fault(Enum):
    """What an error of SQLite means. The value is its name for programs."""

    PASSES = "STORAGE_BUSY"
    """Another user of the file, or a want of memory or file handles. Nothing was written, and it passes by itself."""
    FULL = "DISK_FULL"
    """There is no room: the disk, a quota, or a limit on the file. Nothing was written; it passes with room."""
    UNTRUSTED = "DISK_FAILED"
    """The disk failed, or something that nobody has thought of. What the disk holds, nobody knows."""
    DAMAGED = "STORAGE_DAMAGED"
    """What is in the file is no database, or not a whole one."""
    DEFECT = "STORAGE_DEFECT"
    """The file could be read and written, and the statement does not fit what is in it."""


_FAULTS: Final = {
    sqlite3.SQLITE_BUSY: Fault.PASSES,
    sqlite3.SQLITE_LOCKED: Fault.PASSES,
    sqlite3.SQLITE_PROTOCOL: Fault.PASSES,
    sqlite3.SQLITE_SCHEMA: Fault.PASSES,
    sqlite3.SQLITE_INTERRUPT: Fault.PASSES,
    sqlite3.SQLITE_NOMEM: Fault.PASSES,
    sqlite3.SQLITE_IOERR_NOMEM: Fault.PASSES,
    sqlite3.SQLITE_IOERR_BLOCKED: Fault.PASSES,
    sqlite3.SQLITE_IOERR_LOCK: Fault.PASSES,
    sqlite3.SQLITE_IOERR_RDLOCK: Fault.PASSES,
    sqlite3.SQLITE_IOERR_SHMLOCK: Fault.PASSES,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK: Fault.PASSES,
    # No file handle is free, or the file is away for a moment.
    sqlite3.SQLITE_CANTOPEN: Fault.PASSES,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_IOERR: Fault.UNTRUSTED,
    # The file ends before its last page.
    sqlite3.SQLITE_IOERR_SHORT_READ: Fault.DAMAGED,
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
    sqlite3.SQLITE_FORMAT: Fault.DAMAGED,
    sqlite3.SQLITE_ERROR: Fault.DEFECT,
    sqlite3.SQLITE_INTERNAL: Fault.DEFECT,
    sqlite3.SQLITE_CONSTRAINT: Fault.DEFECT,
    sqlite3.SQLITE_MISMATCH: Fault.DEFECT,
    sqlite3.SQLITE_MISUSE: Fault.DEFECT,
    sqlite3.SQLITE_RANGE: Fault.DEFECT,
    sqlite3.SQLITE_TOOBIG: Fault.DEFECT,
}
"""By extended result code, else by its primary one. A code that is in here with neither is UNTRUSTED."""
_DETAILS: Final = {
    Fault.PASSES: "{path}: {problem}. snapshotd tries again by itself; if this lasts, end what else uses the file",
    Fault.FULL: "there is no room for {path} ({problem}). Free some; snapshotd then goes on by itself",
    Fault.UNTRUSTED: "{path} failed ({problem}). Check the disk, and the daemon's log",
    Fault.DAMAGED: "{path} is damaged ({problem}). Check the disk, and the daemon's log",
    Fault.DEFECT: "{path} cannot be used ({problem}). Look for the cause in the daemon's log",
}
_WANTS_ROOM: Final = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""Codes of a full disk as well as of a failing one: SQLite knows ENOSPC, but no quota, and no limit on a file."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BLOCK: Final = 4096
_NOT_COMMITTED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
"""Codes of a COMMIT that ended before its last frame was in the file: SQLite writes that frame last, and then syncs."""


def fault_of(error: BaseException, path: Path) -> Fault:
    """Return what an error means for the SQLite file that it came from.

    Args:
        error: SQLite's, or the eventsourcing library's with SQLite's as its cause.
        path: of the file; the system is asked whether there is room for more of it.
    """
    if isinstance(error, ConnectionUnavailableError):  # of the library's own: too many read at once
        return Fault.PASSES
    code = _code(error)
    if code in _WANTS_ROOM and not _has_room(path):
        return Fault.FULL
    return _FAULTS.get(code) or _FAULTS.get(code & 0xFF, Fault.UNTRUSTED)


def detail_of(fault: Fault, error: BaseException, path: Path) -> str:
    """Return why a file cannot be used, and what to do, for the end of a message. It ends without a full stop."""
    return _DETAILS[fault].format(path=path, problem=str(error) or type(error).__name__)


def surely_not_committed(error: BaseException) -> bool:
    """Return whether a COMMIT that failed so has written no whole transaction, whatever happens afterwards."""
    code = _code(error)
    return code in _NOT_COMMITTED or code & 0xFF in _NOT_COMMITTED


def _code(error: BaseException) -> int:
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    return int(getattr(cause, "sqlite_errorcode", 0))


def _has_room(path: Path) -> bool:
    """Return whether another file beside this one can be written where this one and its write-ahead log end."""
    try:
        ends = [part.stat().st_size for part in (path, path.with_name(f"{path.name}-wal")) if part.exists()]
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as probe:
            os.pwrite(probe.fileno(), bytes(_BLOCK), max(ends, default=0))
    except OSError as error:
        return error.errno not in _NO_ROOM
    return True


@dataclass(eq=False)
class LogBroken(SnapshotdError):
    """The event log cannot be trusted any more. The process ends, and the next start reads what the disk holds."""

    reason: ClassVar[str] = "LOG_BROKEN"
    text: ClassVar[str] = (
        "Cannot go on: writing or reading {path} failed ({problem}), so nobody knows what the disk holds. "
        "Check the disk, then start again: the next start finds out what was recorded and what happened on the hosts."
    )
    path: str
    problem: str

    def detail(self) -> str:
        """Return why the log takes nothing, for the end of a message."""
        return f"{self.path} failed ({self.problem}), and snapshotd ends. Check the disk, then start it again"


@dataclass(eq=False)
class UnreadableEvent(SnapshotdError):
    """An event in the log that this release cannot read."""

    reason: ClassVar[str] = "LOG_UNREADABLE"
    text: ClassVar[str] = "Cannot read event {topic!r}: {problem}. Run the release that wrote it, or restore the log."
    topic: str
    problem: str


@dataclass(eq=False)
class LogInUse(SnapshotdError):
    """Another process owns the log."""

    reason: ClassVar[str] = "LOG_IN_USE"
    path: str
    owner: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot open {self.path}: it is in use by process {self.owner or 'unknown'}. Stop that process first."


NEW_INSTALLATION: Final = (
    "A new log is a new installation: hosts with journals of this one refuse it (FOREIGN_INSTALLATION)."
)
"""What whoever starts over gives up."""


@dataclass(eq=False)
class LogForeign(SnapshotdError):
    """A file that is not an event log of snapshotd, or is one of another version."""

    reason: ClassVar[str] = "LOG_FOREIGN"
    path: str
    problem: str
    wal: str = ""
    """The write-ahead log that was beside it; empty: none. SQLite reads it as a part of whatever file has the name."""

    def message(self) -> str:  # noqa: D102
        name = Path(self.path).name
        text = (
            f"Cannot use {self.path} as the event log: {self.problem}. "
            f"Restore it from a backup, or set storage.directory to another directory. {NEW_INSTALLATION}"
        )
        if not self.wal:
            return text
        return (
            f"{text} If you have just restored it, remove {name}-wal and {name}-shm, which belong to the former file."
        )


@dataclass(eq=False)
class StorageUnusable(SnapshotdError):
    """A file of ours that cannot be opened: the disk is full or failing, rights are missing, or something locks it."""

    reason: ClassVar[str] = "STORAGE_UNUSABLE"
    text: ClassVar[str] = (
        "Cannot open {path}: {problem}. Check the disk, its free space, the rights on the file, and what else uses it, "
        "then start again."
    )
    path: str
    problem: str
