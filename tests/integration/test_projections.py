"""The views over the real log: followed while it grows, and by a process that is killed in the middle."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from projections.projections import Projections
from projections.rebuild import rebuild
from snapshotd.domain.events import SnapshotTransition
from snapshotd.ports.views import ProjectionState
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.fakes import VM_ID
from tests.integration.polling import until
from tests.integration.writing import write
from tests.unit.projections import whole
from tests.unit.projections.comparing import dump
from tests.unit.projections.histories import history
from tests.unit.projections.oracle import compare

ROOT = Path(__file__).resolve().parents[2]
FOLLOWER = """
import asyncio, sys
from pathlib import Path
from projections import runner
from projections.projections import Projections
from snapshotd.store.sqlite_log import SqliteEventLog

runner._BATCH = runner._MOST = 3
log = SqliteEventLog(Path(sys.argv[1]))
asyncio.run(Projections(log, Path(sys.argv[2])).run())
"""
"""Follows a log until it is killed, with so many transactions that a kill falls into the middle."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(tmp_path / "events.db") as opened:
        yield opened


def furthest(path: Path) -> int:
    """Return the position of the views in a file; 0: there are none yet."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (position,) = connection.execute("SELECT COALESCE(MAX(position), 0) FROM positions").fetchone()
            return int(position)
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
async def test_what_has_been_appended_is_in_the_views_as_soon_as_they_have_reached_it(
    log: SqliteEventLog, tmp_path: Path
) -> None:
    world = history(11, 30)
    projections = Projections(log, tmp_path / "views.db")
    following = asyncio.create_task(projections.run())
    written = 0
    for number, envelope in enumerate(world.envelopes, 1):
        if envelope.position not in world.folds:
            continue
        await write(log, world.envelopes[written:number])
        written = number
        await projections.views.reached(log.head_position())
        await compare(projections.views, world.envelopes[:number])
    await until(lambda: {p.state for p in projections.views.progress()} == {ProjectionState.FOLLOWING})
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    projections.close()


@pytest.mark.slow
@pytest.mark.kill
async def test_views_whose_follower_was_killed_again_and_again_equal_rebuilt_ones(tmp_path: Path) -> None:
    world, chance = history(12, 60), random.Random(12)
    events, views = tmp_path / "events.db", tmp_path / "views.db"
    with SqliteEventLog(events) as log:
        await write(log, world.envelopes)
        head = log.head_position()
    stops = []
    for share in (0.1, 0.35, 0.6):
        wanted = int(head * share) + chance.randrange(5)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", FOLLOWER, events, views, cwd=ROOT)
        try:
            await until(lambda wanted=wanted: furthest(views) >= wanted)  # type: ignore[misc]
        finally:
            process.kill()
            await process.wait()
        stops.append(furthest(views))
    assert 0 < stops[0] <= stops[1] <= stops[2], (stops, head)
    assert stops[0] < head, stops
    with SqliteEventLog(events) as log:
        projections = Projections(log, views)
        assert {p.position for p in projections.views.progress()} == {stops[2]}
        await projections.catch_up()
        await compare(projections.views, world.envelopes)
        ever = {x.event.snapshot_id for x in world.envelopes if isinstance(x.event, SnapshotTransition)}
        assert {s.snapshot_id for s in await whole.snapshots(projections.views, VM_ID)} == ever
        projections.close()
        assert await rebuild(log, tmp_path / "rebuilt.db") == head
    assert dump(views) == dump(tmp_path / "rebuilt.db")
