"""What happens to a VM: registration, activity, power, what its host says of it, drift."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.ids import CheckpointId, HostId, SnapshotId
from snapshotd.domain.lifecycle import Power, VmActivity


@dataclass(frozen=True, slots=True, kw_only=True)
class VmTransition:
    """The VM's activity changed."""

    from_state: VmActivity
    to_state: VmActivity


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRegistered(VmTransition):
    """A VM was registered."""

    host_id: HostId
    name: str
    owner: str
    """The account that it belongs to."""
    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmUnregistered(VmTransition):
    """A VM was forgotten. Nothing on its host was touched."""

    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmActivityChanged(VmTransition):
    """An operation began, changed or ended what it does to the VM."""

    trigger: str
    """The arrow's name in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPowerChanged:
    """The VM's power differs from the record."""

    from_power: Power
    to_power: Power
    cause: str
    """`step`, `drift`, or `registration`: it was not known before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDescribed:
    """The host's description of the VM, its disks and its checkpoints differs from the record."""

    description: VmDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalIdentified:
    """The host named the VM's journal."""

    journal_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFoundRolledBack:
    """The VM's journal on the host knows a token that this log has not issued: the log was restored from a backup."""

    journal_token: int
    """The highest that the journal knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentMoved:
    """The VM's disks descend from another snapshot now."""

    from_snapshot_id: SnapshotId | None
    to_snapshot_id: SnapshotId | None
    cause: str
    """`step` or `drift`."""


class DriftKind(Enum):
    """How a host and the record differ."""

    POWER_STATE_CHANGED = "POWER_STATE_CHANGED"
    VM_MISSING = "VM_MISSING"
    CHECKPOINT_MISSING = "CHECKPOINT_MISSING"
    CHECKPOINT_DAMAGED = "CHECKPOINT_DAMAGED"
    """It is there, and cannot be brought back: its own files, or those of its disks, are not."""
    FOREIGN_CHECKPOINT = "FOREIGN_CHECKPOINT"
    AUTOMATIC_CHECKPOINT = "AUTOMATIC_CHECKPOINT"
    UNRECORDED_CHECKPOINT = "UNRECORDED_CHECKPOINT"
    """Ours by its marker, and not in the log."""
    CHECKPOINT_RENAMED = "CHECKPOINT_RENAMED"
    REPARENTED = "REPARENTED"
    CURRENT_MOVED = "CURRENT_MOVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftDetected:
    """The host differs from the record, and we did not cause it."""

    kind: DriftKind
    detail: str
    checkpoint_id: CheckpointId | None = None
    snapshot_id: SnapshotId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestJoined:
    """A request was answered with an operation that was running already."""

    number: int
    request_digest: str
