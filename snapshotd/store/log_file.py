"""The file of the event log before it is opened: one process locks it, and it must be ours and whole."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from snapshotd.store.errors import Fault, LogForeign, LogInUse, StorageUnusable, fault_of

APPLICATION_ID: Final = 0x534E4150
"""The application_id of our SQLite files: "SNAP"."""
SCHEMA: Final = 1
"""The user_version of our SQLite files."""


def take_lock(path: Path) -> int:
    """Lock the log for this process, by a file beside it. Raises LogInUse and StorageUnusable."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 20).decode(errors="replace").strip()
        os.close(handle)
        raise LogInUse(str(path), owner) from None
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError as error:
        os.close(handle)
        raise StorageUnusable(f"{path}.lock", str(error.strerror)) from error
    return handle


def check_file(path: Path) -> None:
    """Mark a new file as ours. Raise LogForeign for one that is not ours, is corrupt or is of another version.

    Raises StorageUnusable for what is no file, sqlite3.Error if it cannot be read. An existing file stays as it is.
    """
    if not path.exists() or path.stat().st_size == 0:
        _mark(path)
        return
    if not path.is_file():
        raise StorageUnusable(str(path), "it is not a file")
    wal = path.with_name(f"{path.name}-wal")
    beside = str(wal) if wal.exists() and wal.stat().st_size else ""
    try:
        # Read-only: closed, it would write what a stale write-ahead log holds into the file, for good.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        if fault_of(error, path) is Fault.DAMAGED:
            raise LogForeign(str(path), str(error), beside) from error
        raise  # the file could not be read, so nobody knows what it holds
    if application_id != APPLICATION_ID:
        problem = f"its application id is {application_id:#x}, not {APPLICATION_ID:#x}"
    elif version != SCHEMA:
        problem = f"its schema is {version}, and this release writes {SCHEMA}"
    elif checked != "ok":
        problem = f"it is corrupt: {checked}"
    else:
        return
    raise LogForeign(str(path), problem, beside)


def _mark(path: Path) -> None:
    """Mark an empty file as ours, in one transaction: a start that ends here or later can be repeated."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
        )
    finally:
        connection.close()
