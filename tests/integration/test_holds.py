"""Holds over the API: what callers see of them, and what they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.domain.errors import (
    InvalidArgument,
    NotFound,
)
from snapshotd.domain.snapshot_errors import (
    SnapshotHeld,
)
from tests.fakes import VM_ID
from tests.integration.quiet_server import CALLER, Running, run
from tests.integration.writing import write
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld


async def one_snapshot(running: Running) -> str:
    """Have a VM with one snapshot on record; return the snapshot's name."""
    world = RecordedWorld()
    world.do(create(0))
    world.run()
    (snapshot_id,) = world.vm.snapshots
    await write(running.log, world.envelopes)
    await running.backend.views.reached(running.log.head_position())
    return f"virtualMachines/{VM_ID}/snapshots/{snapshot_id}"


async def test_a_hold_shows_on_the_snapshot_until_it_is_released_and_refuses_a_delete(tmp_path: Path) -> None:
    async with run(tmp_path) as running:
        name = await one_snapshot(running)
        held = await running.snapshots.HoldSnapshot(pb.HoldSnapshotRequest(name=name, reason=" for ann "), CALLER)
        assert (held.hold.actor, held.hold.reason) == ("anonymous", "for ann")
        assert await running.snapshots.GetSnapshot(pb.GetSnapshotRequest(name=name), CALLER) == held
        with pytest.raises(SnapshotHeld):
            await running.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=name), CALLER)
        with pytest.raises(SnapshotHeld):
            await running.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=name, validate_only=True), CALLER)
        released = await running.snapshots.ReleaseSnapshot(pb.ReleaseSnapshotRequest(name=name), CALLER)
        assert not released.HasField("hold")
        assert (await running.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=name), CALLER)).name


@pytest.mark.parametrize("reason", ["x" * 256, "two\nlines", "\x1b[31m"])
async def test_a_reason_is_one_line_of_at_most_255_characters(tmp_path: Path, reason: str) -> None:
    async with run(tmp_path) as running:
        name = await one_snapshot(running)
        with pytest.raises(InvalidArgument) as refused:
            await running.snapshots.HoldSnapshot(pb.HoldSnapshotRequest(name=name, reason=reason), CALLER)
        assert refused.value.field == "reason"


async def test_what_is_not_there_is_neither_held_nor_released(tmp_path: Path) -> None:
    async with run(tmp_path) as running:
        name = (await one_snapshot(running))[:-1] + "9"
        with pytest.raises(NotFound, match="snapshot"):
            await running.snapshots.HoldSnapshot(pb.HoldSnapshotRequest(name=name), CALLER)
        with pytest.raises(NotFound, match="snapshot"):
            await running.snapshots.ReleaseSnapshot(pb.ReleaseSnapshotRequest(name=name), CALLER)
