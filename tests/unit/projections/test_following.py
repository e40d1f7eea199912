"""The runner and its file: what stops a projection and what does not, and from where it goes on."""

from __future__ import annotations

import asyncio
import importlib
import linecache
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from projections.projection import Projection
from projections.projections import ALL, SCRIPT, Projections
from projections.rebuild import rebuild
from projections.rows import Rows, Table
from projections.runner import Runner
from projections.store import LogLost, ViewsNotMade, open_views, script_of
from snapshotd.domain.events import Envelope
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import LogUnavailable, ViewBehind, ViewStopped, ViewsUnreadable
from snapshotd.ports.views import EventQuery, PageQuery, ProjectionState
from tests.integration.polling import until
from tests.memory_log import MemoryLog
from tests.unit.projections.comparing import dump
from tests.unit.projections.failing import failing_connections
from tests.unit.projections.histories import history
from tests.unit.projections.oracle import compare


async def test_a_handler_that_fails_stops_its_projection_and_no_other(tmp_path: Path) -> None:
    world = history(1, 4)
    log = MemoryLog(world.envelopes)
    bad = world.envelopes[5].position
    taken: list[int] = []

    def fail(_: Rows, envelope: Envelope) -> None:
        if envelope.position == bad:
            raise ValueError("a defect")

    def count(_: Rows, envelope: Envelope) -> None:
        taken.append(envelope.position)

    connection = open_views(tmp_path / "views.db", log.head_position(), SCRIPT)
    runner = Runner(log, connection, [Projection("failing", fail), Projection("counting", count)])
    while await runner.catch_up():
        pass
    failing, counting = runner.progress()
    assert (failing.state, failing.position) == (ProjectionState.STOPPED, world.envelopes[4].position)
    assert failing.failure == "ValueError: a defect"
    assert (counting.state, counting.position) == (ProjectionState.FOLLOWING, log.head_position())
    assert taken == [e.position for e in world.envelopes]
    with pytest.raises(ViewStopped):
        await runner.reached(bad)
    await runner.reached(world.envelopes[4].position)
    runner.close()
    taken.clear()
    again = Runner(log, connection, [Projection("failing", count)])
    while await again.catch_up():
        pass
    assert taken == [e.position for e in world.envelopes[5:]]
    again.close()
    connection.close()


async def test_who_waits_for_a_view_that_stops_is_told_at_once(tmp_path: Path) -> None:
    world, log = history(1, 4), MemoryLog()

    def fail(_: Rows, envelope: Envelope) -> None:
        raise ValueError(f"a defect at {envelope.position}")

    connection = open_views(tmp_path / "views.db", 0, SCRIPT)
    runner = Runner(log, connection, [Projection("failing", fail)])
    reading = asyncio.create_task(runner.reached(world.envelopes[2].position))
    assert await runner.catch_up() is False
    assert not reading.done()
    log.take(world.envelopes)
    await runner.catch_up()
    with pytest.raises(ViewStopped, match=r"failing view: it stopped after position 0 .* a defect at 2"):
        await asyncio.wait_for(reading, 5)
    runner.close()
    connection.close()


async def test_who_waits_too_long_is_told_which_view_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.runner._REACHED_S", 0.01)
    log = MemoryLog(history(1, 2).envelopes)
    projections = Projections(log, tmp_path / "views.db")
    await projections.catch_up()
    await projections.views.reached(log.head_position())
    with pytest.raises(ViewBehind, match=f"the tree view yet: it is at position {log.head_position()}, not 9999"):
        await projections.views.reached(9999)
    projections.close()


@pytest.mark.slow
async def test_a_full_disk_stops_no_projection_and_the_views_follow_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = history(1, 30)
    log = MemoryLog(world.envelopes)
    await rebuild(log, tmp_path / "right.db")
    path = tmp_path / "views.db"
    connection = open_views(path, log.head_position(), SCRIPT)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    runner = Runner(log, connection, ALL)
    following = asyncio.create_task(runner.run())
    await until(lambda: runner.trouble is not None)
    trouble = runner.trouble
    assert trouble
    assert trouble.reason == "DISK_FULL"
    assert re.fullmatch(
        f"Cannot write the views: there is no room for {path} .* then goes on by itself.", trouble.message
    )
    assert {(p.position, p.state) for p in runner.progress()} == {(0, ProjectionState.BEHIND)}
    assert {(p.failure, p.stopped_at) for p in runner.progress()} == {(trouble.message, trouble.since)}
    with pytest.raises(
        ViewBehind, match=r"the tree view yet: it is at position 0, not 1\. Cannot write the views: there"
    ):
        await runner.reached(1)
    assert caplog.text.count("the views stay behind") == 1
    connection.execute("PRAGMA max_page_count = 1000000")
    await until(lambda: runner.trouble is None)
    await asyncio.wait_for(runner.reached(log.head_position()), 10)
    await until(lambda: {(p.state, p.failure) for p in runner.progress()} == {(ProjectionState.FOLLOWING, "")})
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    runner.close()
    connection.close()
    assert dump(path) == dump(tmp_path / "right.db")


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, "DISK_FAILED", r"failed \(injected\)\. Check the disk"),
        (sqlite3.SQLITE_READONLY, "DISK_FAILED", r"failed \(injected\)\. Check the disk"),
        (sqlite3.SQLITE_CORRUPT, "STORAGE_DAMAGED", "is damaged .* Meanwhile they are made again from the log"),
        (sqlite3.SQLITE_BUSY, "STORAGE_BUSY", "snapshotd tries again by itself"),
    ],
)
@pytest.mark.parametrize("at", ["BEGIN", "INSERT", "COMMIT"])
async def test_what_no_event_is_to_blame_for_stops_no_projection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, code: int, reason: str, said: str
) -> None:
    monkeypatch.setattr("projections.runner._POLL_S", 0.01)
    monkeypatch.setattr("projections.runner._REACHED_S", 0.05)
    log = MemoryLog(history(1, 2).envelopes)
    with monkeypatch.context() as patch:
        failing = failing_connections(patch, "", code)
        connection = open_views(tmp_path / "views.db", log.head_position(), SCRIPT)
    runner = Runner(log, connection, ALL)
    failing.at = at
    following = asyncio.create_task(runner.run())
    await until(lambda: runner.trouble is not None)
    assert runner.trouble is not None
    assert runner.trouble.reason == reason
    assert {p.state for p in runner.progress()} == {ProjectionState.BEHIND}
    with pytest.raises(ViewBehind, match=said):
        await runner.reached(1)
    failing.at = ""
    await until(lambda: runner.trouble is None)
    await runner.reached(log.head_position())
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    runner.close()
    connection.close()


class UnreadLog(MemoryLog):
    """A log that cannot be read while `unread` says why."""

    unread: Exception | None = None

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Read, or fail."""
        if self.unread is not None:
            raise self.unread
        return await super().read_all(after_position, limit)


@pytest.mark.parametrize(
    ("unread", "reason", "said"),
    [
        (LogUnavailable("events.db failed"), "LOG_UNAVAILABLE", "Cannot read the event log into the views: .* failed"),
        (KeyError("a defect"), "INTERNAL", "snapshotd has a defect .*KeyError: 'a defect'"),
    ],
)
async def test_a_log_that_cannot_be_read_ends_nothing_and_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unread: Exception,
    reason: str,
    said: str,
) -> None:
    monkeypatch.setattr("projections.runner._POLL_S", 0.01)
    log = UnreadLog(history(1, 2).envelopes)
    log.unread = unread
    projections = Projections(log, tmp_path / "views.db")
    following = asyncio.create_task(projections.run())
    await until(lambda: projections.views.trouble() is not None)
    trouble = projections.views.trouble()
    assert trouble is not None
    assert trouble.reason == reason
    with pytest.raises(ViewBehind, match=said):
        await projections.views.reached(1)
    assert caplog.text.count("the views stay behind") == 1
    assert ("Traceback" in caplog.text) == (reason == "INTERNAL")
    log.unread = None
    await until(lambda: projections.views.trouble() is None)
    await projections.views.reached(log.head_position())
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    projections.close()


async def test_a_read_waits_until_the_views_are_there(tmp_path: Path) -> None:
    world, log = history(1, 3), MemoryLog()
    projections = Projections(log, tmp_path / "views.db")
    reading = asyncio.create_task(projections.views.reached(world.envelopes[-1].position))
    log.take(world.envelopes[:4])
    await projections.catch_up()
    assert not reading.done()
    log.take(world.envelopes)
    await projections.catch_up()
    await asyncio.wait_for(reading, 5)
    projections.close()


@pytest.mark.parametrize("spoil", ["corrupt", "corrupt inside", "schema"])
async def test_a_file_that_is_not_usable_is_made_again(
    tmp_path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    world, path = history(1, 5), tmp_path / "views.db"
    log = MemoryLog(world.envelopes)
    await rebuild(log, path)
    right = dump(path)
    assert not caplog.text
    if spoil == "corrupt":
        path.write_bytes(b"not a database" * 1000)
    elif spoil == "corrupt inside":
        whole = path.read_bytes()
        path.write_bytes(whole[:16384] + b"\xff" * 4096 + whole[20480:])
    else:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 0")  # as without its -wal
        connection.commit()
        connection.close()
    projections = Projections(log, path)
    await projections.catch_up()
    projections.close()
    assert dump(path) == right
    assert "views.db again from the log" in caplog.text
    assert spoil != "schema" or "made by another release, or is incomplete" in caplog.text


async def test_a_large_file_that_is_damaged_inside_is_made_again_while_the_views_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("projections.store._SMALL", 0)
    world, path = history(1, 5), tmp_path / "views.db"
    log = MemoryLog(world.envelopes)
    await rebuild(log, path)
    right, whole = dump(path), path.read_bytes()
    path.write_bytes(whole[:16384] + b"\xff" * 4096 + whole[20480:])
    projections = Projections(log, path)
    assert {p.position for p in projections.views.progress()} == {log.head_position()}
    following = asyncio.create_task(projections.run())
    await until(lambda: "views.db again from the log" in caplog.text)
    await projections.views.reached(log.head_position())
    await compare(projections.views, world.envelopes)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    projections.close()
    assert dump(path) == right


@pytest.mark.parametrize("at", ["INSERT", "COMMIT"])
async def test_a_file_that_turns_out_to_be_damaged_when_it_is_written_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr("projections.runner._POLL_S", 0.01)
    world, path = history(1, 5), tmp_path / "views.db"
    with monkeypatch.context() as patch:
        failing = failing_connections(patch, "", sqlite3.SQLITE_CORRUPT)
        projections = Projections(MemoryLog(world.envelopes), path)
    failing.at = at
    following = asyncio.create_task(projections.run())
    await until(lambda: {p.position for p in projections.views.progress()} == {world.envelopes[-1].position})
    await compare(projections.views, world.envelopes)
    assert projections.views.trouble() is None
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    projections.close()


async def test_a_damaged_file_is_made_again_once_however_many_find_it_and_not_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world, path = history(1, 5), tmp_path / "views.db"
    projections = Projections(MemoryLog(world.envelopes), path)
    following = asyncio.create_task(projections.run())
    await projections.views.reached(world.envelopes[-1].position)
    await until(lambda: "look through the views" not in {task.get_name() for task in asyncio.all_tasks()})

    async def read() -> object:
        try:
            return await projections.views.hosts(PageQuery(order=(("host_id", False),), limit=10))
        except ViewsUnreadable as error:
            return error

    for file in (path, path.with_name("views.db-wal")):
        if file.exists():
            file.write_bytes(b"\xff" * file.stat().st_size)
    found = await asyncio.gather(*(read() for _ in range(20)))
    assert "Meanwhile they are made again from the log" in str(found[0])
    await until(lambda: "views.db again from the log" in caplog.text)
    assert not isinstance(await read(), ViewsUnreadable)
    await compare(projections.views, world.envelopes)
    await asyncio.sleep(0.1)
    assert caplog.text.count("views.db again from the log") == 1
    projections._runner.damage.put_nowait("the disk damages all")
    await asyncio.sleep(0.1)
    assert caplog.text.count("views.db again from the log") == 1
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    projections.close()


async def test_a_large_file_that_is_damaged_inside_does_not_say_that_the_log_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.store._SMALL", 0)
    world, path = history(1, 5), tmp_path / "views.db"
    await rebuild(MemoryLog(world.envelopes), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:16384] + b"\xff" * 4096 + whole[20480:])
    shorter = MemoryLog(world.envelopes[:3])
    projections = Projections(shorter, path)
    await projections.catch_up()
    await compare(projections.views, world.envelopes[:3])
    projections.close()


@dataclass(frozen=True, slots=True)
class Row:
    """A row."""

    key: str
    at: Time | None = None


@dataclass(frozen=True, slots=True)
class OtherWords:
    """A row with other words about it."""

    key: str
    at: Time | None = None


@dataclass(frozen=True, slots=True)
class AnotherType:
    """A row."""

    key: str
    at: str | None = None


@dataclass(frozen=True, slots=True)
class OneMore:
    """A row."""

    key: str
    at: Time | None = None
    more: int = 0


async def test_what_was_rolled_back_with_a_failing_batch_is_counted_once(tmp_path: Path) -> None:
    log = MemoryLog(history(1, 1).envelopes[:6])
    table = Table("rows", OneMore, key={"key": lambda row: row.key}, columns={})

    def count_and_fail(rows: Rows, envelope: Envelope) -> None:
        known = rows.get(table, "all") or OneMore("all")
        rows.put(table, replace(known, more=known.more + 1))
        if envelope.position == log.head_position():
            raise ValueError("a defect")

    connection = open_views(tmp_path / "views.db", log.head_position(), script_of([table]))
    runner = Runner(log, connection, [Projection("counting", count_and_fail)])
    while await runner.catch_up():
        pass
    runner.close()
    assert table.get(connection, "all") == OneMore("all", more=5)
    connection.close()


@pytest.mark.parametrize("written", [False, True])
def test_what_is_forgotten_is_read_again_and_never_written(tmp_path: Path, *, written: bool) -> None:
    table = Table("rows", OneMore, key={"key": lambda row: row.key}, columns={})
    connection = open_views(tmp_path / "views.db", 0, script_of([table]))
    rows = Rows(connection)
    if written:
        rows.put(table, OneMore("all", more=1))
        rows.flush()
    rows.put(table, OneMore("all", more=2))
    assert rows.get(table, "all") == OneMore("all", more=2)
    rows.forget()
    there = OneMore("all", more=1) if written else None
    assert rows.get(table, "all") == there
    rows.flush()
    assert table.get(connection, "all") == there
    connection.close()


def script_for(cls: type, *, column: str = "at") -> str:
    """Return the script of a file with one table of such rows."""
    cls.__name__ = cls.__qualname__ = "Row"
    table = Table("rows", cls, key={"key": lambda row: row.key}, columns={column: lambda row: row.at})
    return script_of([table])


def test_the_file_is_another_one_exactly_if_rows_or_columns_are_others(tmp_path: Path) -> None:
    script = script_for(Row)
    assert script_for(OtherWords) == script
    others = [script_for(AnotherType), script_for(OneMore), script_for(Row, column="moment")]
    assert len({script, *others}) == 4
    for other in others:
        path = tmp_path / "views.db"
        connection = open_views(path, 1, script)
        connection.execute("INSERT INTO positions VALUES ('p', 1)")
        connection.close()
        again = open_views(path, 1, other)
        assert again.execute("SELECT * FROM positions").fetchall() == []
        again.close()
        path.unlink()


def test_the_file_is_another_one_if_a_fold_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_fold.py").write_text("def evolve(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = script_of([], [importlib.import_module("a_fold")])
    assert script_of([], [importlib.import_module("a_fold")]) == before
    (tmp_path / "a_fold.py").write_text("def evolve(): return 2\n")
    linecache.clearcache()
    assert script_of([], [importlib.import_module("a_fold")]) != before


async def test_a_file_that_holds_more_than_the_log_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    world, path = history(1, 5), tmp_path / "views.db"
    await rebuild(MemoryLog(world.envelopes), path)
    before, shorter = dump(path), MemoryLog(world.envelopes[:3])
    known = f"knows {world.envelopes[-1].position} events, and the log holds {shorter.head_position()}. "
    with pytest.raises(LogLost, match=f"{known}Restore events.db.*FOREIGN_INSTALLATION"):
        Projections(shorter, path)
    assert dump(path) == before


def test_a_place_where_no_file_can_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(ViewsNotMade, match=r"Cannot make .*nosuch/views\.db: unable to open database file"):
        open_views(tmp_path / "nosuch" / "views.db", 0, SCRIPT)


async def test_a_call_amid_its_pages_waits_for_views_that_are_made_again(tmp_path: Path) -> None:
    world = history(1, 40)
    log = MemoryLog(world.envelopes)
    projections = Projections(log, tmp_path / "views.db")
    await projections.catch_up()
    everything = await projections.views.event_positions(EventQuery(), 0, 1 << 20, descending=False)
    await projections._make_again()
    again = asyncio.create_task(projections.views.event_positions(EventQuery(), 0, 1 << 20, descending=False))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not again.done()
    await projections.catch_up()
    assert await again == everything
    projections.close()
