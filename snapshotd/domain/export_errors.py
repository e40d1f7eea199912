"""Errors about exports, and about VMs that are kept as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class ExportDirectoryMissing(SnapshotdError):
    """Nobody has said where exports go."""

    reason: ClassVar[str] = "EXPORT_DIRECTORY_MISSING"
    text: ClassVar[str] = (
        "Cannot export VM {vm}: no folder is named. Name one in the request, or set export.directory in snapshotd's "
        "settings to a folder that its host sees."
    )
    vm: str


@dataclass(eq=False)
class VmIsReleased(SnapshotdError):
    """The VM is on no host: it was released after an export."""

    reason: ClassVar[str] = "VM_RELEASED"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot change VM {vm}: it was released from host {host} and is kept as its export in {directory}. "
        "Start it first (`snapshotctl vm start {vm!q}`, with --host on another host that sees the folder): that "
        "imports it, with its snapshots."
    )
    vm: str
    host: str
    directory: str


@dataclass(eq=False)
class VmNotReleased(SnapshotdError):
    """A VM that is on its host was to be started on another one."""

    reason: ClassVar[str] = "VM_NOT_RELEASED"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot start VM {vm} on host {wanted}: it is on host {host}. Only a VM that was released after an export is "
        "started on a host of choice. Start it where it is (`snapshotctl vm start {vm!q}`), or move it in Hyper-V."
    )
    vm: str
    wanted: str
    host: str
