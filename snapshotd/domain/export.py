"""What is on record of a VM's exports: complete copies of it with its checkpoints, which outlive its host.

A VM that was released is on no host. Its last export is then the VM, until it is imported somewhere.
"""

from __future__ import annotations

from enum import Enum

from snapshotd.domain.ids import HostId
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import State


class ExportPolicy(Enum):
    """When a VM is exported by itself."""

    AS_SERVER = "AS_SERVER"
    """Of a VM only: as the server's settings say."""
    NEVER = "NEVER"
    ON_STOP = "ON_STOP"
    """After each stop that leaves it off, if it has snapshots."""
    ON_SNAPSHOT = "ON_SNAPSHOT"
    """With each snapshot that is asked for; not with safety snapshots and adoptions."""


class Export(State, frozen=True, kw_only=True):
    """One complete export, in a folder of its own."""

    directory: str
    configuration_path: str
    """The file that it is imported by; empty: not known."""
    size_bytes: int
    host_id: HostId
    """The host that has written it. The path is as that host sees it."""
    made_at: Time
    of_version: int
    """The VM's version when it was begun."""
    in_use: bool = False
    """The VM was imported from it, or was released to it: it is no copy any more, and is never removed."""


class Release(State, frozen=True, kw_only=True):
    """Where a VM is that was removed from its host after an export."""

    host_id: HostId
    """The host that it was removed from."""
    directory: str
    configuration_path: str
    at: Time
