"""What is noted of a VM, in small values: its active operations, other hosts' claims, checkpoints that may stay."""

from __future__ import annotations

from snapshotd.domain.ids import HostId, OperationName, SnapshotId
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import State


class Active(State, frozen=True):
    """An operation that has not ended, and the snapshot that it is about."""

    number: int
    name: OperationName
    snapshot_id: SnapshotId | None
    touches: tuple[SnapshotId, ...] = ()
    """The snapshots that the steps of its plan are about."""


class Claim(State, frozen=True):
    """Another host that has the VM too."""

    host_id: HostId
    unasked: str
    """Why the VM's host on record cannot be asked whether it still has it, as a reason; empty: it has."""


class Ignored(State, frozen=True, kw_only=True):
    """That somebody has looked at a foreign checkpoint, and that it may stay as it is."""

    actor: str
    why: str
    """In that person's words; may be empty."""
    at: Time
