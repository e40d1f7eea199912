"""What an error of SQLite means: one table, in which every code has its place."""

import resource
import sqlite3
from pathlib import Path

import pytest
from eventsourcing.persistence import ConnectionUnavailableError, OperationalError

from snapshotd.store.errors import Fault, detail_of, fault_of, surely_not_committed

PASSES = [
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.SQLITE_BUSY_TIMEOUT),
    *(sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR_NOMEM),
    *(sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_INTERRUPT),
]
UNTRUSTED = [
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_READ),
    *(sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_CLOSE, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_DBMOVED),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, 0, 99),
]
DAMAGED = [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ]
DEFECT = [sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_TOOBIG]


def failure(code: int) -> sqlite3.Error:
    """Return an error of SQLite."""
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        *((code, Fault.PASSES) for code in PASSES),
        *((code, Fault.UNTRUSTED) for code in UNTRUSTED),
        *((code, Fault.DAMAGED) for code in DAMAGED),
        *((code, Fault.DEFECT) for code in DEFECT),
        (sqlite3.SQLITE_FULL, Fault.FULL),
    ],
)
def test_an_extended_result_code_decides_what_an_error_means(tmp_path: Path, code: int, fault: Fault) -> None:
    path = tmp_path / "events.db"
    assert fault_of(failure(code), path) is fault
    wrapped = OperationalError("the library's own")
    wrapped.__cause__ = failure(code)
    assert fault_of(wrapped, path) is fault
    assert f"{path}" in detail_of(fault, wrapped, path)


def test_what_no_code_tells_is_not_trusted(tmp_path: Path) -> None:
    assert fault_of(KeyError("a defect"), tmp_path / "events.db") is Fault.UNTRUSTED
    assert fault_of(ConnectionUnavailableError("many readers"), tmp_path / "events.db") is Fault.PASSES


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_a_write_that_failed_for_want_of_room_is_a_full_disk(tmp_path: Path, code: int) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(bytes(1_000_000))
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        assert fault_of(failure(code), path) is Fault.FULL
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    assert fault_of(failure(code), path) is Fault.UNTRUSTED
    assert [entry.name for entry in tmp_path.iterdir()] == ["events.db"]


def test_only_what_sqlite_returns_before_the_last_frame_is_surely_not_committed() -> None:
    for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_TIMEOUT, sqlite3.SQLITE_IOERR_WRITE):
        assert surely_not_committed(failure(code))
    for code in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR):
        assert not surely_not_committed(failure(code))
