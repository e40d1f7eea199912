"""Snapshots are counted by age, a part of the VMs at a time: along an index, without those removed or let go."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from projections.inventory import INVENTORY, VMS
from projections.projections import SCRIPT
from projections.rows import Rows
from projections.store import open_views
from projections.tree import SNAPSHOTS, TREE
from projections.views import _snapshot_counts
from snapshotd.domain.ids import SnapshotId, VmId
from snapshotd.domain.lifecycle import SnapshotState, VmActivity
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.vm_record import VmRecord
from snapshotd.ports.plain import encode_time
from tests.fakes import START

_numbers = count(1)


def snapshot(vm_id: VmId, days: int, state: SnapshotState = SnapshotState.READY) -> Snapshot:
    """Return a snapshot that was requested some days ago."""
    at = START - timedelta(days=days)
    return Snapshot(
        vm_id=vm_id,
        snapshot_id=SnapshotId(f"{next(_numbers):08x}-1111-4111-8111-000000000000"),
        name="s",
        description="",
        with_memory=False,
        requested_with_memory=False,
        state=state,
        actor="ann",
        requested_at=at,
        updated_at=at,
    )


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_views(tmp_path / "views.db", 0, SCRIPT)) as opened:
        for index in (i for p in (INVENTORY, TREE) for table in p.tables for i in table.indexes):
            opened.execute(index)
        yield opened


def test_each_part_has_the_counts_of_its_vms_and_all_parts_those_of_all(connection: sqlite3.Connection) -> None:
    rows = Rows(connection)
    for n in range(5):
        vm_id = VmId(f"{n:08x}-3333-4333-8333-000000000000")
        rows.put(VMS, VmRecord(vm_id=vm_id, activity=VmActivity.UNREGISTERED if n == 3 else VmActivity.IDLE))
        for days in range(n):
            rows.put(SNAPSHOTS, snapshot(vm_id, days))
        rows.put(SNAPSHOTS, snapshot(vm_id, 9, SnapshotState.REMOVED))
    rows.flush()
    before = [encode_time(START - timedelta(days=days, hours=-1)) for days in (1, 2)]
    after, parts = "", list[tuple[tuple[int, ...], int]]()
    while (counts := _snapshot_counts(connection, after, 2, before)) is not None:
        parts.append((counts.older, counts.most))
        after = counts.last
    # One of 0 days; of 0 and 1; then, beside those that were let go, of 0 to 3.
    assert parts == [((1, 0, 3), 2), ((3, 2, 4), 4)]


def test_they_are_counted_along_an_index_that_has_no_others(connection: sqlite3.Connection) -> None:
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    _snapshot_counts(connection, "", 10, ["2026"])
    connection.set_trace_callback(None)
    (statement,) = [text for text in asked if "snapshots" in text]
    steps = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert any("SEARCH snapshots USING COVERING INDEX snapshots_standing" in step for step in steps), steps
    assert not any("SCAN snapshots" in step or "TEMP B-TREE" in step for step in steps), steps
