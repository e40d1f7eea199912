"""The snapshots of all VMs, in whatever state: what the tree is drawn from."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from projections.projection import Projection, vm_of
from projections.store import Rows, Table
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.ports.views import SnapshotRow

SNAPSHOTS: Final = Table("snapshots", SnapshotRow, ["vm_id", "snapshot_id"], ["requested_at", "active_operation"])

_FAILURES = (
    e.SnapshotCreationFailed
    | e.SnapshotUnwanted
    | e.SnapshotRevertEnded
    | e.SnapshotExpungeFailed
    | e.SnapshotGivenUp
    | e.SnapshotCheckpointMissing
)


def _handle(rows: Rows, envelope: Envelope) -> None:
    event, vm_id = envelope.event, vm_of(envelope)
    if isinstance(event, e.SnapshotTransition | e.SnapshotFact):
        row = rows.get(SNAPSHOTS, vm_id, event.snapshot_id)
        if isinstance(event, e.SnapshotRequested):
            row = _requested(envelope, event)
        assert row is not None, envelope
        rows.put(SNAPSHOTS, replace(_changed(row, event), updated_at=envelope.time))
    elif isinstance(event, e.OperationRequested) and event.snapshot_id is not None:
        row = rows.get(SNAPSHOTS, vm_id, event.snapshot_id)
        assert row is not None, envelope
        rows.put(SNAPSHOTS, replace(row, active_operation=envelope.operation))
    elif isinstance(event, e.OperationEnd):
        for row in rows.find(SNAPSHOTS, "active_operation = ?", (envelope.operation,)):
            rows.put(SNAPSHOTS, replace(row, active_operation=None))


def _requested(envelope: Envelope, event: e.SnapshotRequested) -> SnapshotRow:
    vm_id = vm_of(envelope)
    assert vm_id is not None, envelope
    return SnapshotRow(
        vm_id=vm_id,
        snapshot_id=event.snapshot_id,
        name=event.name,
        description=event.description,
        with_memory=event.with_memory,
        requested_with_memory=event.with_memory,
        state=event.to_state,
        parent_id=None,
        checkpoint_id=None,
        size_bytes=0,
        cpu_count=0,
        memory_bytes=0,
        failure=None,
        actor=envelope.actor,
        active_operation=None,
        requested_at=envelope.time,
        updated_at=envelope.time,
    )


def _changed(row: SnapshotRow, event: e.SnapshotTransition | e.SnapshotFact) -> SnapshotRow:
    """Return a snapshot's row after an event."""
    if isinstance(event, e.SnapshotReparented):
        return replace(row, parent_id=event.to_parent_id)
    if isinstance(event, e.SnapshotCheckpointIdentified):
        return replace(row, checkpoint_id=event.checkpoint_id)
    row = replace(row, state=event.to_state)
    if isinstance(event, _FAILURES):
        row = replace(row, failure=event.failure)
    match event:
        case e.SnapshotCreationStarted():
            return replace(row, parent_id=event.parent_id)
        case e.SnapshotCreated():
            return replace(
                row,
                checkpoint_id=event.checkpoint_id,
                with_memory=event.with_memory,
                parent_id=event.parent_id,
                size_bytes=event.size_bytes,
                cpu_count=event.cpu_count,
                memory_bytes=event.memory_bytes,
            )
        case e.SnapshotUnwanted():
            return replace(row, checkpoint_id=event.checkpoint_id)
        case e.SnapshotCheckpointFound():
            return replace(row, failure=None)
        case _:
            return row


TREE: Final = Projection("tree", _handle)
