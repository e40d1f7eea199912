"""One volume snapshot of a VM, and the checkpoint that it may need for a while, as folds of their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, assert_never

from snapshotd.domain import events as e
from snapshotd.domain.host_report import Checkpoint
from snapshotd.domain.ids import CheckpointId, HostId, VmId, VolumeSnapshotId
from snapshotd.domain.lifecycle import VOLUME_SNAPSHOT, VolumeSnapshotState
from snapshotd.domain.operation import Failure
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import State, replace


class VolumeSnapshot(State, frozen=True, kw_only=True):
    """A copy of one disk, as a file of its own, in whatever state."""

    vm_id: VmId
    volume_snapshot_id: VolumeSnapshotId
    name: str
    location: str
    """Where the disk was attached that it is a copy of."""
    state: VolumeSnapshotState
    actor: str
    """Who asked for it."""
    requested_at: Time
    updated_at: Time
    target: str
    """The file that it was to become."""
    host_id: HostId | None = None
    """The host that has made its file; None: none has."""
    path: str = ""
    """Its file; empty: there never was a complete one."""
    size_bytes: int = 0
    identifier: str = ""
    """The identity of the disk in the file: a file of that path with another one is not ours."""
    power: str = ""
    """The VM's power when the disk was frozen; empty: it was not."""
    has_memory: bool = False
    """The guest could not freeze it: it is as after a power cut."""
    left: tuple[str, ...] = ()
    """Folders of its own that may be left on the host."""
    failure: Failure | None = None
    """Why it is in ERROR, or what went wrong last."""


class Temporary(State, frozen=True, kw_only=True):
    """A checkpoint that was made for a volume snapshot, and is to be removed again. It stands in no tree."""

    marker: str
    """What its name ends in, unless somebody has renamed it."""
    checkpoint_id: CheckpointId | None = None
    """None: it has not been seen yet."""

    def is_it(self, checkpoint: Checkpoint) -> bool:
        """Return whether a checkpoint on the host is this one."""
        if self.checkpoint_id is not None:
            return checkpoint.checkpoint_id == self.checkpoint_id
        return checkpoint.name.endswith(self.marker)


Temporaries = Mapping[VolumeSnapshotId, Temporary]
"""The temporary checkpoints that are on the host, or may be, by what they are for."""


class VolumeSnapshotMoved(TypedDict):
    """What every transition of a volume snapshot holds."""

    volume_snapshot_id: VolumeSnapshotId
    from_state: VolumeSnapshotState
    to_state: VolumeSnapshotState


def moved(copy: VolumeSnapshot, trigger: str) -> VolumeSnapshotMoved:
    """Return the transition of a volume snapshot along an arrow of its table. Raises IllegalTransition."""
    to_state = VOLUME_SNAPSHOT.dest(trigger, copy.state)
    return VolumeSnapshotMoved(volume_snapshot_id=copy.volume_snapshot_id, from_state=copy.state, to_state=to_state)


def evolve_temporaries(known: Temporaries, event: e.VolumeSnapshotEvent) -> Temporaries:
    """Return the temporary checkpoints with one event applied. Never refuses."""
    which = event.volume_snapshot_id
    match event:
        case e.TemporaryCheckpointExpected():
            return {**known, which: Temporary(marker=event.marker)}
        case e.TemporaryCheckpointTaken():
            marker = known[which].marker if which in known else ""
            return {**known, which: Temporary(marker=marker, checkpoint_id=event.checkpoint_id)}
        case e.TemporaryCheckpointGone():
            return {i: temporary for i, temporary in known.items() if i != which}
        case e.VolumeSnapshotRemoved() | e.VolumeSnapshotCancelled():
            return {i: temporary for i, temporary in known.items() if i != which or temporary.checkpoint_id}
        case _:
            return known


def evolve_volume_snapshot(
    vm_id: VmId, copy: VolumeSnapshot | None, event: e.VolumeSnapshotMove, at: e.Occasion
) -> VolumeSnapshot:
    """Return the volume snapshot with one event applied; None stands for one not on record yet. Never refuses."""
    if isinstance(event, e.VolumeSnapshotRequested):
        return VolumeSnapshot(
            vm_id=vm_id,
            volume_snapshot_id=event.volume_snapshot_id,
            name=event.name,
            location=event.location,
            state=event.to_state,
            actor=at.actor,
            requested_at=at.time,
            updated_at=at.time,
            target=event.target,
        )
    assert copy is not None, event
    copy = replace(copy, state=event.to_state, updated_at=at.time)
    match event:
        case e.VolumeSnapshotTaken():
            return replace(
                copy,
                path=event.path,
                size_bytes=event.size_bytes,
                identifier=event.identifier,
                power=event.power,
                has_memory=event.has_memory,
                host_id=event.host_id,
            )
        case e.VolumeSnapshotFailed() | e.VolumeSnapshotGivenUp():
            left = tuple(dict.fromkeys((*copy.left, *event.left)))
            return replace(copy, failure=event.failure, left=left)
        case e.VolumeSnapshotDeletionFailed():
            return replace(copy, failure=event.failure)
        case e.VolumeSnapshotRemoved():
            return replace(copy, left=())
        case e.VolumeSnapshotCancelled() | e.VolumeSnapshotDeletionStarted():
            return copy
        case _:
            assert_never(event)
