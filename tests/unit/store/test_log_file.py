"""What stands where the event log should be is refused with what may have put it there."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from snapshotd.domain.storage_errors import AppendUncertain, LogIncomplete
from snapshotd.store import log_file, sqlite_log, verification
from snapshotd.store.errors import LogBroken, LogForeign, UnreadableEvent
from snapshotd.store.log_file import LogFile
from snapshotd.store.sqlite_log import SqliteEventLog
from snapshotd.store.verification import refuse_damaged
from tests.contract.logs import STREAM, new


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


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole before they were opened."""
    read: list[Path] = []

    def refuse(path: Path) -> None:
        read.append(path)
        refuse_damaged(path)

    monkeypatch.setattr(log_file, "refuse_damaged", refuse)
    return read


async def test_only_a_file_that_somebody_else_has_touched_is_read_whole_at_the_start(
    tmp_path: Path, checks: list[Path]
) -> None:
    path = tmp_path / "events.db"
    with SqliteEventLog(path) as log:
        await log.append(STREAM, 0, [new("a")])
    SqliteEventLog(path).close()
    assert checks == []
    path.touch()
    SqliteEventLog(path).close()
    assert checks == [path]
    copy = path.read_bytes()
    path.unlink()
    path.write_bytes(copy)
    SqliteEventLog(path).close()
    assert checks == [path, path]


def test_after_a_kill_the_write_ahead_log_is_known_to_belong_to_the_file(tmp_path: Path, checks: list[Path]) -> None:
    path = tmp_path / "events.db"
    program = (
        "import asyncio, os, signal\n"
        "from pathlib import Path\n"
        "from snapshotd.store.sqlite_log import SqliteEventLog\n"
        "from tests.contract.logs import STREAM, new\n"
        f"log = SqliteEventLog(Path({str(path)!r}))\n"
        "for n in range(60):\n"
        "    asyncio.run(log.append(STREAM, n, [new(str(n) + 'x' * 100_000)]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, env={**os.environ, "PYTHONPATH": "."})
    assert path.with_name("events.db-wal").stat().st_size
    SqliteEventLog(path).close()
    assert checks == []


async def test_what_was_not_read_at_the_start_breaks_the_log_when_it_turns_out_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with SqliteEventLog(path) as log:
        await log.append(STREAM, 0, [new("a"), new("b")])
    with SqliteEventLog(path) as log:
        await log.verify()
        assert log.trouble() is None
        with closing(sqlite3.connect(path)) as spoiler:
            spoiler.execute("DELETE FROM stored_events WHERE originator_version = 1")
            spoiler.commit()
        await log.verify()
        with pytest.raises(LogBroken, match=f"it lacks version 1 of {STREAM}"):
            await log.until_broken()


@pytest.mark.parametrize(("version", "lacks"), [(1, 1), (2, 2), (3, 3)])
async def test_a_log_that_lacks_an_event_of_a_stream_is_refused_be_it_the_newest(
    tmp_path: Path, version: int, lacks: int
) -> None:
    path = tmp_path / "events.db"
    with SqliteEventLog(path) as log:
        await log.append(STREAM, 0, [new("a"), new("b"), new("c")])
    with closing(sqlite3.connect(path)) as spoiler:
        spoiler.execute("DELETE FROM stored_events WHERE originator_version = ?", (version,))
        spoiler.commit()
    with pytest.raises(LogIncomplete, match=f"lacks version {lacks} of {STREAM}"):
        SqliteEventLog(path)


async def test_a_reading_of_the_file_that_passes_breaks_nothing_and_one_that_is_given_up_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    async def look(_: Path) -> None:
        looks.append(1)
        if len(looks) == 1:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error

    monkeypatch.setattr(sqlite_log, "_VERIFY_AGAIN_S", 0.0)
    with SqliteEventLog(tmp_path / "events.db") as log:
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_log, "look_through", look)
            await log.verify()
        assert (len(looks), log.trouble()) == (2, None)
        endless = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
        monkeypatch.setattr(verification, "refuse_damage_in", lambda connection: connection.execute(endless).fetchone())
        given_up = asyncio.create_task(log.verify())
        await asyncio.sleep(0.05)
        given_up.cancel()
        await asyncio.wait_for(asyncio.gather(given_up, return_exceptions=True), 10)
        assert log.trouble() is None


async def test_an_edit_in_a_write_ahead_log_beside_a_log_that_was_closed_is_read_before_the_start(
    tmp_path: Path, checks: list[Path]
) -> None:
    path = tmp_path / "events.db"
    with SqliteEventLog(path) as log:
        await log.append(STREAM, 0, [new("a"), new("b"), new("c")])
    with closing(sqlite3.connect(path)) as spoiler:
        spoiler.execute("DELETE FROM stored_events WHERE originator_version = 2")
        spoiler.commit()
        with pytest.raises(LogIncomplete, match=f"lacks version 2 of {STREAM}"):
            SqliteEventLog(path)
    assert checks == [path]


async def test_a_log_whose_file_was_removed_takes_no_more_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with SqliteEventLog(path) as log:
        await log.append(STREAM, 0, [new("a")])
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(AppendUncertain, match="was removed, or another file has taken its place"):
            await log.append(STREAM, 1, [new("b")])
        with pytest.raises(LogBroken):
            await log.until_broken()


async def test_a_lock_file_that_cannot_be_written_costs_the_next_start_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: list[Path]
) -> None:
    path = tmp_path / "events.db"

    def full(_: LogFile, __: str) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with SqliteEventLog(path) as log:
        with monkeypatch.context() as patched:
            patched.setattr(LogFile, "_write", full)
            for n in range(40):
                await log.append(STREAM, n, [new(f"{n}{'x' * 200_000}")])
        assert log.trouble() is None
        monkeypatch.setattr(LogFile, "_write", full)
    monkeypatch.undo()
    SqliteEventLog(path).close()


def test_a_log_with_events_of_a_newer_release_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    SqliteEventLog(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("INSERT INTO made_of VALUES ('topic', 'snapshotd.vm.teleported:1')")
        newer.commit()
    with pytest.raises(UnreadableEvent, match="the log may be of a newer release"):
        SqliteEventLog(path)
