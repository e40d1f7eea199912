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
    """A VM came under our care."""

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
    """An operation began, went on with, or ended what it does to the VM."""

    trigger: str
    """The arrow's name in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPowerChanged:
    """The VM was observed in another power than the one on record."""

    from_power: Power
    to_power: Power
    cause: str
    """`step` or `drift`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDescribed:
    """The host described the VM, its disks and its checkpoints, otherwise than is on record."""

    description: VmDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalIdentified:
    """The host named the VM's journal."""

    journal_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentMoved:
    """The snapshot that the VM's disks descend from is another one."""

    from_snapshot_id: SnapshotId | None
    to_snapshot_id: SnapshotId | None
    cause: str
    """`step` or `drift`."""


class DriftKind(Enum):
    """How a host and the record differ."""

    POWER_STATE_CHANGED = "POWER_STATE_CHANGED"
    VM_MISSING = "VM_MISSING"
    CHECKPOINT_MISSING = "CHECKPOINT_MISSING"
    FOREIGN_CHECKPOINT = "FOREIGN_CHECKPOINT"
    AUTOMATIC_CHECKPOINT = "AUTOMATIC_CHECKPOINT"
    UNRECORDED_CHECKPOINT = "UNRECORDED_CHECKPOINT"
    """Ours by its marker, and not in the log."""
    CHECKPOINT_RENAMED = "CHECKPOINT_RENAMED"
    REPARENTED = "REPARENTED"
    CURRENT_MOVED = "CURRENT_MOVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftDetected:
    """The host was found otherwise than on record, and not by our doing."""

    kind: DriftKind
    detail: str
    checkpoint_id: CheckpointId | None = None
    snapshot_id: SnapshotId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestJoined:
    """A request was answered with an operation that was running already."""

    number: int
    request_digest: str
