"""What stands where the event log should be is refused with what may have put it there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from snapshotd.store.errors import LogForeign
from snapshotd.store.sqlite_log import SqliteEventLog


def write(connection: sqlite3.Connection, first: int) -> None:
    """Write some hundred pages."""
    connection.executemany("INSERT INTO more VALUES (?, ?)", [(n, "y" * 1000) for n in range(first, first + 500)])


def test_a_log_that_was_restored_beside_the_former_ones_wal_is_refused_with_what_to_remove(tmp_path: Path) -> None:
    path, wal = tmp_path / "events.db", tmp_path / "events.db-wal"
    SqliteEventLog(path).close()
    backup = path.read_bytes()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE more (a INTEGER PRIMARY KEY, b)")
    write(connection, 1)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    write(connection, 501)
    stale = wal.read_bytes()
    connection.close()
    path.write_bytes(backup)
    wal.write_bytes(stale)
    with pytest.raises(LogForeign) as refused:
        SqliteEventLog(path)
    told = str(refused.value)
    assert "If you have just restored it, remove events.db-wal and events.db-shm" in told
    assert "hosts with journals of this one refuse it (FOREIGN_INSTALLATION)" in told
    assert path.read_bytes() == backup
    for name in ("events.db-wal", "events.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    SqliteEventLog(path).close()  # what it says does help


def test_a_file_that_no_wal_stands_beside_is_refused_without_that(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_text("not a log " * 1000, encoding="utf-8")
    with pytest.raises(LogForeign) as refused:
        SqliteEventLog(path)
    assert "-wal" not in str(refused.value)
