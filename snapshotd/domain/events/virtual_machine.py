"""What happens to a VM: registration, activity, power, what its host says of it, drift."""

from __future__ import annotations

from enum import Enum

from snapshotd.domain.details import VmDetails
from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.ids import CheckpointId, HostId, OperationName, SnapshotId
from snapshotd.domain.lifecycle import Power, VmActivity
from snapshotd.domain.state import State


class VmTransition(State, frozen=True, kw_only=True):
    """The VM's activity changed."""

    from_state: VmActivity
    to_state: VmActivity


class VmRegistered(VmTransition, frozen=True, kw_only=True):
    """A VM was registered."""

    host_id: HostId
    name: str
    owner: str
    """The account that it belongs to."""
    request_digest: str


class VmUnregistered(VmTransition, frozen=True, kw_only=True):
    """A VM was forgotten. Nothing on its host was touched."""

    request_digest: str


class VmActivityChanged(VmTransition, frozen=True, kw_only=True):
    """An operation began, changed or ended what it does to the VM."""

    trigger: str
    """The arrow's name in the table."""


class VmPowerChanged(State, frozen=True, kw_only=True):
    """The VM's power differs from the record."""

    from_power: Power
    to_power: Power
    cause: str
    """`step`, `drift`, or `registration`: it was not known before."""


class VmDescribed(State, frozen=True, kw_only=True):
    """The host's description of the VM, its disks and its checkpoints differs from the record."""

    description: VmDescription


class VmDetailsChanged(State, frozen=True, kw_only=True):
    """Somebody says something else of it: another owner, or other labels."""

    before: VmDetails
    after: VmDetails
    request_digest: str


class JournalIdentified(State, frozen=True, kw_only=True):
    """The host named the VM's journal."""

    journal_id: str


class LogFoundRolledBack(State, frozen=True, kw_only=True):
    """The VM's journal on the host was written for another log: this one was restored from a backup, say."""

    journal_token: int
    """The highest that the journal knows."""
    foreign: bool = False
    """The host is being taken over from another installation: whatever the journal shows, this holds until then."""


class LogRollbackDisproved(State, frozen=True, kw_only=True):
    """The same journal, looked at later, knows no more than this log: what LogFoundRolledBack went by was not true."""

    shown_token: int
    """The highest that the journal knows."""


class VmTakenOver(State, frozen=True, kw_only=True):
    """A person took the VM over: its journal was written for another log, and counts for this one from now on.

    What it knows is on record with this. All tokens that are issued afterwards are higher than `journal_token`.
    """

    reason: str
    """The person's words."""
    journal_id: str
    """The journal that was found; empty: none."""
    journal_token: int
    """The highest that it knew."""
    journal_operation: str
    """The last one that it had begun; empty: none."""
    ended: tuple[OperationName, ...]
    """Operations that were under way by this log. They have ended in the same append."""
    request_digest: str


class CurrentMoved(State, frozen=True, kw_only=True):
    """The VM's disks descend from another snapshot now."""

    from_snapshot_id: SnapshotId | None
    to_snapshot_id: SnapshotId | None
    cause: str
    """`step` or `drift`."""


class CheckpointIgnored(State, frozen=True, kw_only=True):
    """Somebody has looked at a foreign checkpoint: it may stay as it is."""

    checkpoint_id: CheckpointId
    name: str
    """Its name on the host then."""
    why: str
    """In that person's words; may be empty."""
    request_digest: str


class CheckpointNotIgnored(State, frozen=True, kw_only=True):
    """Somebody took back that a foreign checkpoint may stay as it is."""

    checkpoint_id: CheckpointId
    name: str
    """Its name on the host then."""
    request_digest: str


class DriftKind(Enum):
    """How a host and the record differ. Programs match on the names."""

    POWER_STATE_CHANGED = "POWER_STATE_CHANGED"
    VM_MISSING = "VM_MISSING"
    """Its host, asked for that VM, does not have it."""
    VM_FOUND = "VM_FOUND"
    """It is there again."""
    VM_MOVED = "VM_MOVED"
    """Its host does not have it any more, and another one has."""
    VM_CLAIMED_BY_TWO_HOSTS = "VM_CLAIMED_BY_TWO_HOSTS"
    """Another host has it too, or its own cannot be asked whether it still has it."""
    VM_CLAIM_ENDED = "VM_CLAIM_ENDED"
    """The other host does not have it any more."""
    VM_RENAMED = "VM_RENAMED"
    CHECKPOINT_TYPE_CHANGED = "CHECKPOINT_TYPE_CHANGED"
    """The VM's own setting: by somebody, or by a restore after which nobody put it back."""
    REPLICATION_CHANGED = "REPLICATION_CHANGED"
    """It has become a replica, or is one no longer."""
    OFFERING_CHANGED = "OFFERING_CHANGED"
    """Processors or memory: by somebody."""
    CHECKPOINT_MISSING = "CHECKPOINT_MISSING"
    CHECKPOINT_DAMAGED = "CHECKPOINT_DAMAGED"
    """It is there, and cannot be brought back: its own files, or those of its disks, are not."""
    CHECKPOINT_FOUND = "CHECKPOINT_FOUND"
    """The checkpoint of a snapshot in ERROR is there, and intact."""
    FOREIGN_CHECKPOINT = "FOREIGN_CHECKPOINT"
    AUTOMATIC_CHECKPOINT = "AUTOMATIC_CHECKPOINT"
    UNRECORDED_CHECKPOINT = "UNRECORDED_CHECKPOINT"
    """Ours by its marker, and not in the log."""
    FOREIGN_CHECKPOINT_GONE = "FOREIGN_CHECKPOINT_GONE"
    """One of the last three is no longer there."""
    CHECKPOINT_RENAMED = "CHECKPOINT_RENAMED"
    REPARENTED = "REPARENTED"
    CURRENT_MOVED = "CURRENT_MOVED"
    VOLUME_ATTACHED = "VOLUME_ATTACHED"
    VOLUME_DETACHED = "VOLUME_DETACHED"
    VOLUME_REPLACED = "VOLUME_REPLACED"
    """Another volume is at its place."""
    VOLUME_RESIZED = "VOLUME_RESIZED"


class DriftDetected(State, frozen=True, kw_only=True):
    """The host differs from the record, and we did not cause it."""

    kind: DriftKind
    detail: str
    """For people: with the names of snapshots, where `recorded` and `observed` have their ids."""
    checkpoint_id: CheckpointId | None = None
    snapshot_id: SnapshotId | None = None
    recorded: str = ""
    """What is on record; empty: nothing."""
    observed: str = ""
    """What the host has; empty: nothing."""


class VmMoved(State, frozen=True, kw_only=True):
    """The VM is on another host now. Its journal stays behind, and nothing is known of one on the new host."""

    from_host_id: HostId
    to_host_id: HostId
    cause: str
    """`drift`, or `step`: one that was released is to be imported there."""


class VmClaimed(State, frozen=True, kw_only=True):
    """A host has a VM that is on record on another one. Until one of them does not have it, nothing is done to it."""

    host_id: HostId
    unasked: str
    """Why its host on record cannot be asked whether it still has it, as a reason; empty: it has."""


class VmClaimEnded(State, frozen=True, kw_only=True):
    """A host that had the VM too does not have it any more, or is not registered any more."""

    host_id: HostId


class RequestJoined(State, frozen=True, kw_only=True):
    """A request was answered with an operation that was running already."""

    number: int
    request_digest: str
