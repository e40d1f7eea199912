"""What happens to a volume snapshot, and to the checkpoint that it may need for a while."""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.ids import CheckpointId, HostId, VolumeSnapshotId
from snapshotd.domain.lifecycle import VolumeSnapshotState
from snapshotd.domain.operation import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotTransition:
    """A volume snapshot's state changed."""

    volume_snapshot_id: VolumeSnapshotId
    from_state: VolumeSnapshotState
    to_state: VolumeSnapshotState


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotRequested(VolumeSnapshotTransition):
    """A copy of one disk was asked for. Nothing has been asked of the host."""

    name: str
    location: str
    """Where the disk is attached: "SCSI:0:1"."""
    target: str
    """The file that it is to become."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotTaken(VolumeSnapshotTransition):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotFailed(VolumeSnapshotTransition):
    """There is no copy."""

    failure: Failure
    left: tuple[str, ...] = ()
    """Folders of its own that may be left on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotCancelled(VolumeSnapshotTransition):
    """It was cancelled, and what was made of it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotDeletionStarted(VolumeSnapshotTransition):
    """Its file is about to be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotDeletionFailed(VolumeSnapshotTransition):
    """Its file was not deleted: READY if it was READY before, else ERROR."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotRemoved(VolumeSnapshotTransition):
    """Its file is gone, and all that was left of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshotGivenUp(VolumeSnapshotTransition):
    """What became of it could not be determined, or an operator gave it up."""

    failure: Failure
    left: tuple[str, ...] = ()
    """As in VolumeSnapshotFailed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryCheckpointExpected:
    """A checkpoint is about to be asked for that freezes a running VM's disk for a while. It is never a snapshot."""

    volume_snapshot_id: VolumeSnapshotId
    marker: str
    """What its name will end in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryCheckpointTaken:
    """That checkpoint is on the host."""

    volume_snapshot_id: VolumeSnapshotId
    checkpoint_id: CheckpointId


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryCheckpointGone:
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
