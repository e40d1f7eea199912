"""What an event log must do, whatever it is built on; and what the one on SQLite does besides."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import LogUnavailable, StreamChanged
from snapshotd.ports.event_log import EventLog
from snapshotd.store.errors import LogForeign, LogInUse, StorageUnusable
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.contract.logs import STREAM, limit, log_pages, new
from tests.memory_log import MemoryLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def stored(path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(path) as opened:
        yield opened


@pytest.fixture(params=["in memory", "on SQLite"])
def log(request: pytest.FixtureRequest) -> EventLog:
    if request.param == "in memory":
        return MemoryLog()
    opened: SqliteEventLog = request.getfixturevalue("stored")
    return opened


async def test_what_was_appended_is_read_back_in_order(log: EventLog) -> None:
    first = await log.append(STREAM, 0, [new("a"), new("b")])
    await log.append(StreamId("vm/2"), 0, [new("c")])
    second = await log.append(STREAM, 2, [new("d")])
    assert await log.read_stream(STREAM) == first + second
    assert [e.version for e in first + second] == [1, 2, 3]
    everything = await log.read_all(0, 10)
    assert [e.event_id for e in everything] == ["a", "b", "c", "d"]
    assert [e.position for e in everything] == sorted({e.position for e in everything})
    assert log.head_position() == everything[-1].position
    assert await log.read_all(everything[1].position, 1) == everything[2:3]
    assert await log.read_stream(STREAM, after_version=2) == second
    assert await log.read_stream(STREAM, after_version=1, limit=1) == first[1:]


async def test_events_are_read_by_their_positions_in_the_order_asked(log: EventLog) -> None:
    for n in range(40):
        await log.append(StreamId(f"vm/{n}"), 0, [new(f"e{n}")])
    everything = await log.read_all(0, 100)
    chosen = [everything[n] for n in (39, 3, 17, 0)]
    assert await log.read_at([e.position for e in chosen]) == tuple(chosen)
    assert await log.read_at([]) == ()
    assert await log.read_at([e.position for e in everything]) == everything
    with pytest.raises(KeyError):
        await log.read_at([everything[0].position, log.head_position() + 1])


async def test_an_append_past_the_expected_version_is_refused_whole(log: EventLog) -> None:
    await log.append(STREAM, 0, [new("a")])
    for expected in (0, 2):
        with pytest.raises(StreamChanged):
            await log.append(STREAM, expected, [new("b"), new("c")])
    assert len(await log.read_stream(STREAM)) == 1


async def test_the_same_append_again_is_answered_as_the_first_time(log: EventLog) -> None:
    first = await log.append(STREAM, 0, [new("a"), new("b")])
    assert await log.append(STREAM, 0, [new("a"), new("b")]) == first
    assert len(await log.read_all(0, 10)) == 2


async def test_of_many_writers_to_one_stream_one_wins_each_version(log: EventLog) -> None:
    async def write(n: int) -> bool:
        try:
            await log.append(STREAM, 0, [new(f"w{n}")])
        except StreamChanged:
            return False
        return True

    assert sum(await asyncio.gather(*(write(n) for n in range(50)))) == 1
    assert len(await log.read_stream(STREAM)) == 1


async def test_one_conflict_does_not_take_the_others_of_its_batch_down(log: EventLog) -> None:
    appends = [log.append(StreamId(f"vm/{n}"), n % 2, [new(f"e{n}")]) for n in range(40)]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert [isinstance(o, StreamChanged) for o in outcomes] == [n % 2 == 1 for n in range(40)]
    assert len(await log.read_all(0, 100)) == 20


async def test_a_waiter_is_woken_by_an_append(log: EventLog) -> None:
    waiting = asyncio.create_task(log.wait_past(log.head_position(), timeout_s=60))
    await asyncio.sleep(0)
    await log.append(STREAM, 0, [new("a")])
    await asyncio.wait_for(waiting, 5)
    await log.wait_past(log.head_position(), timeout_s=0.01)


async def test_what_memory_answers_is_what_the_file_holds(path: Path) -> None:
    with SqliteEventLog(path) as log:
        for n in range(5):
            await log.append(StreamId(f"vm/{n}"), 0, [new(f"a{n}"), new(f"b{n}")])
        answered = [await log.read_all(after, limit) for after in range(12) for limit in (1, 100)]
    with SqliteEventLog(path) as log:
        assert [await log.read_all(after, limit) for after in range(12) for limit in (1, 100)] == answered
        await log.append(StreamId("vm/0"), 2, [new("c")])
        assert [e.event_id for e in await log.read_all(8, 100)] == ["a4", "b4", "c"]
        assert [e.event_id for e in await log.read_all(10, 100)] == ["c"]


async def test_what_was_acknowledged_is_there_after_a_restart(path: Path) -> None:
    with SqliteEventLog(path) as log:
        written = await log.append(STREAM, 0, [new("a")])
    with SqliteEventLog(path) as log:
        assert await log.read_stream(STREAM) == written
        assert log.head_position() == written[0].position
        await log.append(STREAM, 1, [new("b")])


def test_what_was_acknowledged_is_there_after_sigkill(path: Path) -> None:
    program = (
        "import asyncio, os, signal\n"
        "from pathlib import Path\n"
        "from snapshotd.store.sqlite_log import SqliteEventLog\n"
        "from tests.contract.logs import STREAM, new\n"
        f"log = SqliteEventLog(Path({str(path)!r}))\n"
        "asyncio.run(log.append(STREAM, 0, [new('a'), new('b')]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, env={**os.environ, "PYTHONPATH": "."})
    assert ended.returncode == -9
    with SqliteEventLog(path) as log:
        assert [e.event_id for e in asyncio.run(log.read_stream(STREAM))] == ["a", "b"]


def test_a_second_owner_is_told_who_the_first_one_is(stored: SqliteEventLog, path: Path) -> None:
    with pytest.raises(LogInUse, match=str(os.getpid())):
        SqliteEventLog(path)


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look like one" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LogForeign):
        SqliteEventLog(path)
    assert path.read_bytes() == content
    path.unlink()
    SqliteEventLog(path).close()


def test_a_file_that_cannot_be_opened_is_not_taken_for_a_foreign_one(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageUnusable, match="it is not a file"):
        SqliteEventLog(path)
    path.rmdir()
    SqliteEventLog(path).close()


@pytest.mark.parametrize("pragma", ["application_id = 7", "user_version = 99"])
def test_a_database_that_is_not_ours_or_of_another_version_is_refused(path: Path, pragma: str) -> None:
    SqliteEventLog(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(LogForeign):
        SqliteEventLog(path)


async def test_a_full_disk_refuses_the_append_and_the_log_goes_on_when_there_is_room(stored: SqliteEventLog) -> None:
    await stored.append(STREAM, 0, [new("a")])
    limit(stored, pages=log_pages(stored))
    with pytest.raises(LogUnavailable, match="full"):
        await stored.append(STREAM, 1, [new("x" * 100_000)])
    limit(stored, pages=1_000_000)
    await stored.append(STREAM, 1, [new("b")])
    assert [e.event_id for e in await stored.read_stream(STREAM)] == ["a", "b"]


async def test_the_table_can_be_read_by_a_person(stored: SqliteEventLog, path: Path) -> None:
    await stored.append(STREAM, 0, [new("a")])
    connection = sqlite3.connect(path)
    row = connection.execute("SELECT originator_id, topic, state, actor, subject FROM stored_events").fetchone()
    connection.close()
    assert row == ("vm/1", "snapshotd.vm.journal_identified:1", '{"journal_id":"a"}', "ann", "vm")


async def test_who_follows_the_log_sees_no_event_before_its_appender_is_answered(
    stored: SqliteEventLog, path: Path
) -> None:
    """Else a client is told of an end by a view, and refused by a decision that does not know of it yet."""
    appending = asyncio.create_task(stored.append(STREAM, 0, [new("a")]))
    await asyncio.sleep(0)
    with closing(sqlite3.connect(path)) as other:
        while not other.execute("SELECT COUNT(*) FROM stored_events").fetchone()[0]:
            pass  # the loop stands still meanwhile, so nobody has been answered
    assert stored.head_position() == 0
    assert await stored.read_all(0, 10) == ()
    assert await stored.read_all(0, 10) == await appending
    assert stored.head_position() == 1
