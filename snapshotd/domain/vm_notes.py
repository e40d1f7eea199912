"""What is noted of a VM, in small values: its active operations, other hosts' claims, checkpoints that may stay."""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.ids import HostId, OperationName, SnapshotId
from snapshotd.domain.recorded import Time


@dataclass(frozen=True, slots=True)
class Active:
    """An operation that has not ended, and the snapshot that it is about."""

    number: int
    name: OperationName
    snapshot_id: SnapshotId | None
    touches: tuple[SnapshotId, ...] = ()
    """The snapshots that the steps of its plan are about."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Another host that has the VM too."""

    host_id: HostId
    unasked: str
    """Why the VM's host on record cannot be asked whether it still has it, as a reason; empty: it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """That somebody has looked at a foreign checkpoint, and that it may stay as it is."""

    actor: str
    why: str
    """In that person's words; may be empty."""
    at: Time
