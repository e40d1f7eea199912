"""What happens to a volume snapshot, and to the checkpoint that it may need for a while."""

from __future__ import annotations

from snapshotd.domain.ids import CheckpointId, HostId, VolumeSnapshotId
from snapshotd.domain.lifecycle import VolumeSnapshotState
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import State


class VolumeSnapshotTransition(State, frozen=True, kw_only=True):
    """A volume snapshot's state changed."""

    volume_snapshot_id: VolumeSnapshotId
    from_state: VolumeSnapshotState
    to_state: VolumeSnapshotState


class VolumeSnapshotRequested(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """A copy of one disk was asked for. Nothing has been asked of the host."""

    name: str
    location: str
    """Where the disk is attached: "SCSI:0:1"."""
    target: str
    """The file that it is to become."""


class VolumeSnapshotTaken(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """Its file is complete, stands alone, and bears its own name."""

    path: str
    size_bytes: int
    """Of the file."""
    identifier: str
    """The disk's identity, by which the file is known again."""
    power: str
    """The VM's power when its disk was frozen: what ran then was frozen by its guest, or stopped as by a power cut."""
    has_memory: bool
    """The host froze the disk together with the memory, since the guest could not freeze it: as a power cut."""
    host_id: HostId
    """Where the file is: the VM may move, and its copies do not."""


class VolumeSnapshotFailed(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """There is no copy."""

    failure: Failure
    left: tuple[str, ...] = ()
    """Folders of its own that may be left on the host."""


class VolumeSnapshotCancelled(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """It was cancelled, and what was made of it is gone."""


class VolumeSnapshotDeletionStarted(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """Its file is about to be deleted."""


class VolumeSnapshotDeletionFailed(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """Its file was not deleted: READY if it was READY before, else ERROR."""

    failure: Failure


class VolumeSnapshotRemoved(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """Its file is gone, and all that was left of it."""


class VolumeSnapshotGivenUp(VolumeSnapshotTransition, frozen=True, kw_only=True):
    """What became of it could not be determined, or an operator gave it up."""

    failure: Failure
    left: tuple[str, ...] = ()
    """As in VolumeSnapshotFailed."""


class TemporaryCheckpointExpected(State, frozen=True, kw_only=True):
    """A checkpoint is about to be asked for that freezes a running VM's disk for a while. It is never a snapshot."""

    volume_snapshot_id: VolumeSnapshotId
    marker: str
    """What its name will end in."""


class TemporaryCheckpointTaken(State, frozen=True, kw_only=True):
    """That checkpoint is on the host."""

    volume_snapshot_id: VolumeSnapshotId
    checkpoint_id: CheckpointId


class TemporaryCheckpointGone(State, frozen=True, kw_only=True):
    """That checkpoint is not on the host, and will not be any more."""

    volume_snapshot_id: VolumeSnapshotId
    checkpoint_id: CheckpointId | None
    """None: it was never made."""
    cause: str
    """`step` or `drift`."""


TemporaryCheckpointEvent = TemporaryCheckpointExpected | TemporaryCheckpointTaken | TemporaryCheckpointGone
"""What happens to the checkpoint of a volume snapshot."""
VolumeSnapshotMove = (
    VolumeSnapshotRequested
    | VolumeSnapshotTaken
    | VolumeSnapshotFailed
    | VolumeSnapshotCancelled
    | VolumeSnapshotDeletionStarted
    | VolumeSnapshotDeletionFailed
    | VolumeSnapshotRemoved
    | VolumeSnapshotGivenUp
)
"""Its transitions."""
VolumeSnapshotEvent = VolumeSnapshotMove | TemporaryCheckpointEvent
"""Everything that may happen to a volume snapshot."""
