"""Why a volume cannot be attached, detached or resized: what a caller is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class VmHasSnapshots(SnapshotdError):
    """The VM has snapshots, which would not fit any more. `action` is a verb phrase: "attach a volume to"."""

    reason: ClassVar[str] = "VM_HAS_SNAPSHOTS"
    text: ClassVar[str] = (
        "Cannot {action} VM {vm}: it has snapshots ({snapshots}), and its disks must stay as these have them. Delete "
        "them first (`snapshotctl snapshot delete-all {vm!q}`)."
    )
    vm: str
    snapshots: str
    """Their names, with the states of those that are not READY."""
    action: str


@dataclass(eq=False)
class VmHasForeignCheckpoints(SnapshotdError):
    """The VM has checkpoints that others made. `action` is a verb phrase: "attach a volume to"."""

    reason: ClassVar[str] = "FOREIGN_CHECKPOINTS"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot {action} VM {vm}: it has checkpoints that are not ours ({checkpoints}), and its disks must stay as "
        "these have them. Remove them on the host, then run `snapshotctl host sync {host}`; or adopt them "
        "(`snapshotctl snapshot adopt {vm!q} CHECKPOINT`), and delete them."
    )
    vm: str
    checkpoints: str
    """Their names and ids."""
    action: str
    host: str


@dataclass(eq=False)
class VmHasTemporaryCheckpoint(SnapshotdError):
    """A volume snapshot has left its temporary checkpoint. `action` is a verb phrase: "attach a volume to"."""

    reason: ClassVar[str] = "TEMPORARY_CHECKPOINT_LEFT"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot {action} VM {vm}: it still has the temporary checkpoint of volume snapshot {volume_snapshot}, and its "
        "disks must stay as that has them. Take another volume snapshot of the VM, or delete that one; either removes "
        "the checkpoint."
    )
    vm: str
    volume_snapshot: str
    action: str


@dataclass(eq=False)
class PlaceTaken(SnapshotdError):
    """Something is attached at the place that was named."""

    reason: ClassVar[str] = "PLACE_TAKEN"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot attach a volume at {location} of VM {vm}: {path} is there. Name another place, or none: then the first "
        "free one is taken."
    )
    vm: str
    location: str
    path: str


@dataclass(eq=False)
class NoFreePlace(SnapshotdError):
    """All places of the VM's SCSI controllers are taken."""

    reason: ClassVar[str] = "NO_FREE_PLACE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot attach a volume to VM {vm}: all places of its SCSI controllers that are known are taken. Name a place "
        "of another controller, if it has one; or detach a volume."
    )
    vm: str


@dataclass(eq=False)
class VolumeInUse(SnapshotdError):
    """A VM has the file. `action` is a verb: "attach", "resize", "delete"."""

    reason: ClassVar[str] = "VOLUME_IN_USE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot {action} {path}: {how} VM {owner} on host {host}, and a volume belongs to one VM. Detach it there "
        "first, or leave it to that VM."
    )
    path: str
    owner: str
    """The VM's name."""
    owner_id: str
    host: str
    action: str
    how: str = "it belongs to"


@dataclass(eq=False)
class VolumeBeingDeleted(SnapshotdError):
    """The file is that of a volume snapshot which is being deleted. `action` is a verb: "attach"."""

    reason: ClassVar[str] = "VOLUME_BEING_DELETED"
    text: ClassVar[str] = (
        "Cannot {action} {path}: it is the file of a volume snapshot of VM {owner}, which is being deleted. Name "
        "another file."
    )
    path: str
    owner: str
    """The name of the volume snapshot's VM."""
    owner_id: str
    action: str


@dataclass(eq=False)
class VolumeInExport(SnapshotdError):
    """The file is inside a VM's export, or belongs into one: it would be removed with it."""

    reason: ClassVar[str] = "VOLUME_IN_EXPORT"
    text: ClassVar[str] = (
        "Cannot attach {path}: {directory} is {what} of VM {owner}, and is removed with all that is in it once a newer "
        "one is complete. Copy the file to a folder outside of it, and attach the copy."
    )
    path: str
    directory: str
    what: str
    """"an export", or "an unfinished export"."""
    owner: str
    """The name of the VM that was exported."""
    owner_id: str


@dataclass(eq=False)
class VolumeAttached(SnapshotdError):
    """The VM itself has the file already."""

    reason: ClassVar[str] = "VOLUME_ATTACHED"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = "Cannot attach {path} to VM {vm}: the VM has it already, {where}."
    vm: str
    path: str
    where: str
    """At which place, or in which chain."""


@dataclass(eq=False)
class VolumeNotFound(SnapshotdError):
    """Nothing is attached at the place. `action` is a verb: "detach", "resize"."""

    reason: ClassVar[str] = "VOLUME_NOT_FOUND"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot {action} the volume at {location} of VM {vm}: nothing is attached there. It has {there}."
    )
    vm: str
    location: str
    there: str
    """Its places that are taken."""
    action: str


@dataclass(eq=False)
class VolumeNotResizable(SnapshotdError):
    """The volume cannot have that size."""

    reason: ClassVar[str] = "VOLUME_NOT_RESIZABLE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = "Cannot resize the volume at {location} of VM {vm} ({path}): {why}."
    vm: str
    location: str
    path: str
    why: str


@dataclass(eq=False)
class VolumeNotUsable(SnapshotdError):
    """What is attached at the place cannot be treated so. `action` is a verb: "detach", "resize"."""

    reason: ClassVar[str] = "VOLUME_NOT_USABLE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = "Cannot {action} the disk at {location} of VM {vm}: {why}."
    vm: str
    location: str
    action: str
    why: str
