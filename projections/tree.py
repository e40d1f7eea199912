"""The snapshots of all VMs, in whatever state: what the tree is drawn from; and the copies of their disks."""

from __future__ import annotations

from typing import Final, get_args

from projections.projection import Projection, vm_of
from projections.rows import Rows, Table
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.lifecycle import SnapshotState, VolumeSnapshotState
from snapshotd.domain.snapshot import Snapshot, evolve_snapshot
from snapshotd.domain.volume_snapshot import VolumeSnapshot, evolve_volume_snapshot
from snapshotd.ports.views import SNAPSHOT_FIELDS, VOLUME_SNAPSHOT_FIELDS

SNAPSHOTS: Final = Table(
    "snapshots",
    Snapshot,
    key={"vm_id": lambda s: s.vm_id, "snapshot_id": lambda s: s.snapshot_id},
    columns={"removed": lambda s: s.state is SnapshotState.REMOVED, **SNAPSHOT_FIELDS},
    indexes=(
        "CREATE INDEX snapshots_of_vm ON snapshots (vm_id, create_time, name)",
        # With all that counting them needs, `removed` included: otherwise each row is looked up.
        "CREATE INDEX snapshots_standing ON snapshots (vm_id, create_time, name, removed) WHERE NOT removed",
        "CREATE INDEX snapshots_by_time ON snapshots (create_time, name)",
    ),
)

VOLUME_SNAPSHOTS: Final = Table(
    "volume_snapshots",
    VolumeSnapshot,
    key={"vm_id": lambda s: s.vm_id, "volume_snapshot_id": lambda s: s.volume_snapshot_id},
    columns={"removed": lambda s: s.state is VolumeSnapshotState.REMOVED, **VOLUME_SNAPSHOT_FIELDS},
    indexes=(
        "CREATE INDEX volume_snapshots_of_vm ON volume_snapshots (vm_id, create_time, name)",
        "CREATE INDEX volume_snapshots_by_time ON volume_snapshots (create_time, name)",
    ),
)


def _handle(rows: Rows, envelope: Envelope) -> None:
    event, vm_id = envelope.event, vm_of(envelope)
    if isinstance(event, e.SnapshotEvent):
        known = rows.get(SNAPSHOTS, vm_id, event.snapshot_id)
        rows.put(SNAPSHOTS, evolve_snapshot(vm_id, known, event, envelope), vm_id, event.snapshot_id)
    elif isinstance(event, e.VolumeSnapshotMove):
        copy = rows.get(VOLUME_SNAPSHOTS, vm_id, event.volume_snapshot_id)
        rows.put(VOLUME_SNAPSHOTS, evolve_volume_snapshot(vm_id, copy, event, envelope))


TREE: Final = Projection(
    "tree",
    _handle,
    (SNAPSHOTS, VOLUME_SNAPSHOTS),
    frozenset(get_args(e.SnapshotEvent | e.VolumeSnapshotMove)),
)
