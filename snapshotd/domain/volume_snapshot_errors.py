"""Why a volume snapshot cannot be taken or deleted: what a caller is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class VolumeSnapshotsNotSet(SnapshotdError):
    """No folder for copies is named for the VM's host."""

    reason: ClassVar[str] = "VOLUME_SNAPSHOTS_NOT_SET"
    text: ClassVar[str] = (
        "Cannot copy a disk of VM {vm}: no folder for copies on host {host} is set. Name one in the daemon's settings "
        "(volume_snapshots.directory), as the host sees it, and start the daemon again."
    )
    vm: str
    host: str


@dataclass(eq=False)
class DiskNotFound(SnapshotdError):
    """The VM has no disk at the place that was named."""

    reason: ClassVar[str] = "DISK_NOT_FOUND"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot find disk {location!r} of VM {vm}: host {host} reports disks at {there}. See `snapshotctl vm show "
        "{vm!q}`."
    )
    vm: str
    location: str
    there: str
    host: str


@dataclass(eq=False)
class DiskNotCopyable(SnapshotdError):
    """The disk is none that can be copied."""

    reason: ClassVar[str] = "DISK_NOT_COPYABLE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = "Cannot copy disk {location} of VM {vm} on host {host}: {why}."
    vm: str
    location: str
    why: str
    host: str


@dataclass(eq=False)
class VolumeSnapshotElsewhere(SnapshotdError):
    """Its file is on a host that the VM has left, so that nobody looks there."""

    reason: ClassVar[str] = "VOLUME_SNAPSHOT_ELSEWHERE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot delete volume snapshot {volume_snapshot}: its file {path} is on host {host_of_file}, and VM {vm} is on "
        "host {host} now. Move the VM back, then try again."
    )
    volume_snapshot: str
    path: str
    host_of_file: str
    vm: str
    host: str


@dataclass(eq=False)
class VolumeSnapshotNotUsable(SnapshotdError):
    """The volume snapshot's state does not allow what was asked. `action` is a verb: "delete"."""

    reason: ClassVar[str] = "VOLUME_SNAPSHOT_NOT_READY"
    text: ClassVar[str] = (
        "Cannot {action} volume snapshot {volume_snapshot}: its state is {state}. It must be {needed}."
    )
    volume_snapshot: str
    state: str
    action: str
    needed: str
