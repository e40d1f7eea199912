"""Opening views.db: it is made again only if it is damaged. What passes is waited for, and the rest is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Timer

import pytest

from projections import store
from projections.projections import SCRIPT, Projections
from projections.rebuild import rebuild
from projections.store import ViewsNotOpened, open_views, refuse_lost_log
from tests.memory_log import MemoryLog
from tests.unit.projections.comparing import dump
from tests.unit.projections.failing import failing_connections
from tests.unit.projections.histories import history


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Have another user keep the whole file to itself."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("SELECT * FROM positions").fetchall()
        yield other


async def test_a_file_that_another_process_has_locked_is_left_as_it_is_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "_PATIENCE_S", 0.1)
    world, path = history(1, 5), tmp_path / "views.db"
    log = MemoryLog(world.envelopes)
    await rebuild(log, path)
    before, file = dump(path), path.stat().st_ino
    with locked(path):
        for use in (open_views, refuse_lost_log):
            with pytest.raises(ViewsNotOpened, match=f"Cannot open {path}: database is locked. Check .* what else"):
                use(path, log.head_position(), SCRIPT)
    assert (dump(path), path.stat().st_ino) == (before, file)
    assert not caplog.text


async def test_a_file_that_is_locked_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    world, path = history(1, 5), tmp_path / "views.db"
    log = MemoryLog(world.envelopes)
    await rebuild(log, path)
    file = path.stat().st_ino
    with locked(path) as other:
        Timer(0.2, other.close).start()
        projections = Projections(log, path)
    assert {p.position for p in projections.views.progress()} == {log.head_position()}
    projections.close()
    assert path.stat().st_ino == file


@pytest.mark.parametrize(
    ("code", "made_again"),
    [
        (sqlite3.SQLITE_IOERR_READ, False),
        (sqlite3.SQLITE_IOERR_FSYNC, False),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_PERM, False),
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_IOERR_SHORT_READ, True),
    ],
)
async def test_only_a_damaged_file_is_made_again_and_another_error_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, made_again: bool
) -> None:
    world, path = history(1, 5), tmp_path / "views.db"
    log = MemoryLog(world.envelopes)
    await rebuild(log, path)
    before = dump(path)
    with monkeypatch.context() as patch:
        failing_connections(patch, "PRAGMA quick_check", code)
        if made_again:
            open_views(path, log.head_position(), SCRIPT).close()
        else:
            with pytest.raises(ViewsNotOpened, match=f"Cannot open {path}: injected. Check the disk"):
                open_views(path, log.head_position(), SCRIPT)
    assert (dump(path) == before) is not made_again


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL])
def test_what_passes_is_tried_again_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(store, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(store, "_PAUSE_S", 0.001)
    path = tmp_path / "views.db"
    open_views(path, 0, SCRIPT).close()
    with monkeypatch.context() as patch:
        failing = failing_connections(patch, "PRAGMA journal_mode", code)
        with pytest.raises(ViewsNotOpened):
            open_views(path, 0, SCRIPT)
        assert failing.tried > 1
        failing.at = ""
        open_views(path, 0, SCRIPT).close()
