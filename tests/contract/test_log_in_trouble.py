"""What passes is tried again, and told meanwhile; after what does not pass, the log says that it has to end."""

import asyncio
import re
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import AppendUncertain, LogUnavailable
from snapshotd.store import sqlite_log
from snapshotd.store.errors import LogBroken, UnreadableEvent
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.contract.failing_commits import failing_commit
from tests.contract.logs import STREAM, limit, log_pages, new
from tests.integration.polling import until

PASSING = [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR_LOCK]
ENDING = [
    *(sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_CORRUPT),
    *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_ERROR, 99),
]
STATEMENTS = ["BEGIN", "INSERT", "COMMIT"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(path) as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "_PATIENCE_S", 0.0)


@pytest.mark.parametrize("at", STATEMENTS)
@pytest.mark.parametrize("code", PASSING)
async def test_what_passes_is_tried_again_and_the_caller_notices_nothing(
    log: SqliteEventLog, code: int, at: str
) -> None:
    with failing_commit(log, at=at, code=code, times=2):
        written = await log.append(STREAM, 0, [new("a")])
    assert await log.read_all(0, 10) == written
    assert log.trouble() is None


async def test_a_commit_that_passed_into_the_file_before_it_was_tried_again_is_recorded_once(
    log: SqliteEventLog,
) -> None:
    with failing_commit(log, goes_through=True, code=sqlite3.SQLITE_NOMEM, times=1):
        written = await log.append(STREAM, 0, [new("a"), new("b")])
    assert await log.read_all(0, 10) == written


@pytest.mark.parametrize("at", STATEMENTS)
@pytest.mark.parametrize("code", PASSING)
async def test_what_does_not_pass_in_time_is_told_and_the_log_goes_on_afterwards(
    log: SqliteEventLog, code: int, at: str, impatient: None
) -> None:
    certain = at != "COMMIT" or code == sqlite3.SQLITE_BUSY
    for name in ("a", "b"):
        with (
            failing_commit(log, at=at, code=code),
            pytest.raises(LogUnavailable if certain else AppendUncertain, match="snapshotd tries again by itself"),
        ):
            await log.append(STREAM, 0, [new(name)])
    trouble = log.trouble()
    assert trouble is not None
    assert trouble.reason == "STORAGE_BUSY"
    assert "Cannot write to the event log" in trouble.message
    await log.append(STREAM, 0, [new("c")])
    assert [e.event_id for e in await log.read_all(0, 10)] == ["c"]
    assert log.trouble() is None


async def test_a_log_that_another_process_has_locked_is_written_when_the_lock_is_gone(
    log: SqliteEventLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(sqlite_log, "_PATIENCE_S", 0.1)
        with pytest.raises(LogUnavailable, match="database is locked"):
            await log.append(STREAM, 0, [new("a")])
        monkeypatch.setattr(sqlite_log, "_PATIENCE_S", 60.0)
        waiting = asyncio.create_task(log.append(STREAM, 0, [new("b")]))
        other.execute("ROLLBACK")
        await waiting
    assert [e.event_id for e in await log.read_all(0, 10)] == ["b"]


@pytest.mark.parametrize("at", STATEMENTS)
@pytest.mark.parametrize("code", ENDING)
async def test_what_leaves_the_disk_in_doubt_breaks_the_log_for_good(
    log: SqliteEventLog, path: Path, code: int, at: str, caplog: pytest.LogCaptureFixture
) -> None:
    written = await log.append(STREAM, 0, [new("a")])
    breaking = asyncio.create_task(log.until_broken())
    with failing_commit(log, at=at, code=code), pytest.raises((LogUnavailable, AppendUncertain), match="injected"):
        await log.append(STREAM, 1, [new("b")])
    with pytest.raises(LogBroken, match=rf"Cannot go on: writing or reading {path} failed \(injected\)"):
        await breaking
    with pytest.raises(LogUnavailable, match="snapshotd ends") as refused:
        await log.append(STREAM, 1, [new("c")])
    with pytest.raises(LogUnavailable, match=f"^{re.escape(str(refused.value))}$"):
        await log.refuse_unwritable()
    trouble = log.trouble()
    assert trouble is not None
    assert trouble.reason == "DISK_FAILED"
    assert log.head_position() == written[0].position
    assert caplog.text.count("Cannot go on") == 1


async def test_a_defect_in_the_writer_breaks_the_log_and_leaves_nobody_waiting(log: SqliteEventLog) -> None:
    with failing_commit(log, at="INSERT", defect=KeyError("a defect")), pytest.raises(LogUnavailable, match="a defect"):
        await log.append(STREAM, 0, [new("a")])
    with pytest.raises(LogBroken, match="a defect"):
        await log.until_broken()


async def test_an_event_that_cannot_be_read_refuses_the_append_that_meets_it_and_no_other(
    log: SqliteEventLog, path: Path
) -> None:
    await log.append(STREAM, 0, [new("a")])
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE stored_events SET topic = 'of a newer release'")
        other.commit()
    with pytest.raises(UnreadableEvent, match="of a newer release"):
        await log.append(STREAM, 0, [new("a")])
    await log.append(StreamId("vm/2"), 0, [new("b")])
    assert log.trouble() is None


async def test_a_log_that_is_damaged_under_a_reader_breaks(log: SqliteEventLog, path: Path) -> None:
    for n in range(50):
        await log.append(StreamId(f"vm/{n}"), 0, [new(f"{n}" * 100)])
    for part in (path, path.with_name("events.db-wal")):
        part.write_bytes(b"\xff" * part.stat().st_size)
    with pytest.raises(LogUnavailable, match="damaged"):
        await log.read_stream(StreamId("vm/1"))
    with pytest.raises(LogBroken, match="not a database"):
        await log.until_broken()


async def test_a_full_disk_is_told_until_there_is_room_for_what_was_refused(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_log, "_PROBE_S", 0.02)
    limit(log, pages=log_pages(log) + 2)
    with failing_commit(log, times=0) as seen:
        for _ in range(2):
            with pytest.raises(LogUnavailable, match=r"there is no room for .* Free some; snapshotd then") as refused:
                await log.append(STREAM, 0, [new("x" * 100_000)])
            with pytest.raises(LogUnavailable, match=f"^{re.escape(str(refused.value))}$"):  # found, or known by now
                await log.refuse_unwritable()
        first = log.trouble()
        assert first is not None
        assert first.reason == "DISK_FULL"
        await until(lambda: sum("INTO room" in statement for statement in seen.seen) > 2)
        assert log.trouble() == first
    limit(log, pages=1_000_000)
    await until(lambda: log.trouble() is None)
    assert caplog.text.count("Cannot write to the event log") == 1
    await log.append(STREAM, 0, [new("x" * 100_000)])
    with log._connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM room")
        assert cursor.fetchone()[0] == 0


async def test_a_file_that_may_not_grow_is_a_full_disk_and_is_written_when_it_may(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "_PROBE_S", 0.02)
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(LogUnavailable, match="there is no room"):
            await log.append(STREAM, 0, [new("x" * 400_000)])
        trouble = log.trouble()
        assert trouble is not None
        assert trouble.reason == "DISK_FULL"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    await until(lambda: log.trouble() is None)
    assert len(await log.append(STREAM, 0, [new("y" * 400_000)])) == 1


def test_a_caller_whose_loop_has_ended_does_not_end_the_writer(path: Path) -> None:
    with SqliteEventLog(path) as log, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        async def leave() -> None:
            asking = asyncio.create_task(log.append(STREAM, 0, [new("a")]))
            await asyncio.sleep(0)
            asking.cancel()

        asyncio.run(leave())
        other.execute("ROLLBACK")
        assert len(asyncio.run(log.append(StreamId("vm/2"), 0, [new("b")]))) == 1
