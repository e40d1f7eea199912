"""The snapshots of all VMs, in whatever state: what the tree is drawn from."""

from __future__ import annotations

from typing import Final

from projections.projection import Projection, vm_of
from projections.store import Rows, Table
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.snapshot import Snapshot, evolve_snapshot
from snapshotd.ports.plain import encode_time

SNAPSHOTS: Final = Table(
    "snapshots",
    Snapshot,
    key={"vm_id": lambda s: s.vm_id, "snapshot_id": lambda s: s.snapshot_id},
    columns={"requested_at": lambda s: encode_time(s.requested_at)},
)


def _handle(rows: Rows, envelope: Envelope) -> None:
    event, vm_id = envelope.event, vm_of(envelope)
    if isinstance(event, e.SnapshotEvent):
        known = rows.get(SNAPSHOTS, vm_id, event.snapshot_id)
        rows.put(SNAPSHOTS, evolve_snapshot(vm_id, known, event, envelope))


TREE: Final = Projection("tree", _handle, (SNAPSHOTS,))
