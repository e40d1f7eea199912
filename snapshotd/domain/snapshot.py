"""One snapshot of a VM, as a fold of its events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.ids import CheckpointId, SnapshotId
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.operation import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot of the VM, in whatever state."""

    snapshot_id: SnapshotId
    name: str
    description: str
    with_memory: bool
    state: SnapshotState
    requested_at: datetime
    parent_id: SnapshotId | None = None
    checkpoint_id: CheckpointId | None = None
    was_ready: bool = False
    size_bytes: int = 0
    cpu_count: int = 0
    memory_bytes: int = 0
    failure: Failure | None = None
    """Why it is in ERROR, or what went wrong last."""


def counts_towards_limit(
    state: SnapshotState, checkpoint_id: CheckpointId | None, description: VmDescription | None
) -> bool:
    """Return whether a snapshot has a checkpoint or may get one, and so counts towards `snapshots.max_per_vm`.

    Args:
        state: of the snapshot.
        checkpoint_id: of the snapshot, if it has ever had one.
        description: of the VM, as its host last reported it.
    """
    if state is SnapshotState.ERROR and description is not None:
        return checkpoint_id is not None and description.checkpoint(checkpoint_id) is not None
    return state is not SnapshotState.REMOVED


def evolve_snapshot(snapshot: Snapshot | None, event: e.SnapshotEvent, at: e.Occasion) -> Snapshot:
    """Apply one event. Never refuses; None: there is no such snapshot yet."""
    if isinstance(event, e.SnapshotRequested):
        return Snapshot(
            snapshot_id=event.snapshot_id,
            name=event.name,
            description=event.description,
            with_memory=event.with_memory,
            state=event.to_state,
            requested_at=at.time,
        )
    assert snapshot is not None, event
    if isinstance(event, e.SnapshotReparented):
        return replace(snapshot, parent_id=event.to_parent_id)
    if isinstance(event, e.SnapshotCheckpointIdentified):
        return replace(snapshot, checkpoint_id=event.checkpoint_id)
    snapshot = replace(snapshot, state=event.to_state)
    match event:
        case e.SnapshotCreationStarted():
            return replace(snapshot, parent_id=event.parent_id)
        case e.SnapshotCreated():
            return replace(
                snapshot,
                checkpoint_id=event.checkpoint_id,
                with_memory=event.with_memory,
                parent_id=event.parent_id,
                size_bytes=event.size_bytes,
                cpu_count=event.cpu_count,
                memory_bytes=event.memory_bytes,
                was_ready=True,
            )
        case e.SnapshotUnwanted():
            return replace(snapshot, checkpoint_id=event.checkpoint_id, failure=event.failure)
        case e.SnapshotRevertEnded():
            return replace(snapshot, failure=event.failure)
        case (
            e.SnapshotCreationFailed() | e.SnapshotExpungeFailed() | e.SnapshotGivenUp() | e.SnapshotCheckpointMissing()
        ):
            return replace(snapshot, failure=event.failure)
        case e.SnapshotCheckpointFound():
            return replace(snapshot, failure=None)
        case (
            e.SnapshotRequestCancelled() | e.SnapshotRevertStarted() | e.SnapshotExpungeStarted() | e.SnapshotRemoved()
        ):
            return snapshot
        case _:
            assert_never(event)
