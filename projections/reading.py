"""Connections that the views are read by, and the one error for whatever goes wrong on them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from snapshotd.domain.storage_errors import ViewsUnreadable
from snapshotd.store.errors import Fault, detail_of, fault_of

MADE_AGAIN: Final = "Meanwhile they are made again from the log"
"""What becomes of damaged views, for the end of a message."""


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
        fault = fault_of(error, path)
        detail = detail_of(fault, error, path)
        if fault is Fault.DAMAGED:
            raise ViewsUnreadable(f"{detail}. {MADE_AGAIN}", damaged=True) from error
        raise ViewsUnreadable(detail) from error


def path_of(connection: sqlite3.Connection) -> Path:
    """Return the file of a connection."""
    return Path(next(file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"))


def damage_of(connection: sqlite3.Connection) -> str:
    """Return what is wrong inside a file; empty if nothing is. Reads all of it."""
    (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if checked == "ok" else f"it is corrupt: {checked}"


def damage_found(connection: Reader) -> str:
    """Return what is wrong inside a file; empty: nothing is. Raises sqlite3.Error if that cannot be found out."""
    path = path_of(connection)
    try:
        return damage_of(connection)
    except sqlite3.Error as error:
        if fault_of(error, path) is not Fault.DAMAGED:
            raise
        return str(error)
