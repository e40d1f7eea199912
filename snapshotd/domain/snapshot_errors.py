"""Why a snapshot or a checkpoint cannot be taken, used or deleted: what a caller is told."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class SnapshotNotUsable(SnapshotdError):
    """The snapshot's state does not allow what was asked. `action` is a verb phrase: "revert to", "delete"."""

    reason: ClassVar[str] = "SNAPSHOT_NOT_READY"
    rests_on_host: ClassVar[bool] = True
    snapshot: str
    state: str
    action: str
    needed: str
    why: str = ""

    def message(self) -> str:  # noqa: D102
        why = f"its state is {self.state}" + (f" ({self.why.rstrip('.')})" if self.why else "")
        return f"Cannot {self.action} snapshot {self.snapshot}: {why}. Choose one that is {self.needed}."


@dataclass(eq=False)
class SnapshotHeld(SnapshotdError):
    """Somebody holds the snapshot. `action` is a verb: "delete", "forget"."""

    reason: ClassVar[str] = "SNAPSHOT_HELD"
    vm: str
    snapshot: str
    name: str
    action: str
    owner: str
    why: str
    since: str

    def message(self) -> str:  # noqa: D102
        why = f" ({self.why.rstrip('.')})" if self.why else ""
        return (
            f"Cannot {self.action} snapshot {self.name}: {self.owner} has held it since {self.since}{why}. "
            "Nobody can delete it until it is released "
            f"(`snapshotctl snapshot release {shlex.quote(self.vm)} {self.snapshot}`)."
        )


@dataclass(eq=False)
class NoDescendants(SnapshotdError):
    """The descendants of a snapshot are to be deleted, and there are none."""

    reason: ClassVar[str] = "NO_DESCENDANTS"
    text: ClassVar[str] = (
        "Cannot delete the descendants of snapshot {snapshot} of VM {vm}: it has none. To delete the snapshot itself, "
        "run `snapshotctl snapshot delete {vm!q} {snapshot!q}`."
    )
    vm: str
    snapshot: str


@dataclass(eq=False)
class CheckpointNotFound(SnapshotdError):
    """The host does not report such a checkpoint of the VM."""

    reason: ClassVar[str] = "CHECKPOINT_NOT_FOUND"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot find checkpoint {checkpoint!r}: host {host} does not report it of VM {vm}. See `snapshotctl snapshot "
        "tree {vm!q}`."
    )
    vm: str
    checkpoint: str
    host: str


@dataclass(eq=False)
class CheckpointNotUsable(SnapshotdError):
    """A checkpoint that cannot be adopted or ignored. `action` is a verb: "adopt", "ignore"."""

    reason: ClassVar[str] = "CHECKPOINT_NOT_USABLE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = "Cannot {action} checkpoint {name!r}: {why}."
    name: str
    checkpoint: str
    action: str
    why: str


@dataclass(eq=False)
class SnapshotLimitReached(SnapshotdError):
    """The VM has as many snapshots as it may have."""

    reason: ClassVar[str] = "SNAPSHOT_LIMIT_REACHED"
    text: ClassVar[str] = (
        "Cannot {action} VM {vm}: it has {count} snapshots, and snapshots.max_per_vm is {limit}. "
        "Delete one, or raise the limit."
    )
    vm: str
    count: int
    limit: int
    action: str = "take a snapshot of"


@dataclass(eq=False)
class CheckpointLimitReached(SnapshotdError):
    """One more checkpoint would pass Hyper-V's limit of 50 a VM (documented)."""

    reason: ClassVar[str] = "CHECKPOINT_LIMIT_REACHED"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot take a snapshot of VM {vm}: it has {count} checkpoints of all kinds on its host, and "
        "Hyper-V allows {limit}. Delete snapshots, or remove checkpoints that others made."
    )
    vm: str
    count: int
    limit: int


@dataclass(eq=False)
class CheckpointsDisabled(SnapshotdError):
    """Checkpoints are disabled for the VM on its host."""

    reason: ClassVar[str] = "CHECKPOINTS_DISABLED"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot take a snapshot of VM {vm}: checkpoints are disabled for it on its host. "
        "Set its CheckpointType there (Set-VM -CheckpointType Production), then run "
        "`snapshotctl host sync {host}`."
    )
    vm: str
    host: str


@dataclass(eq=False)
class SnapshotBlocked(SnapshotdError):
    """The VM has something that cannot be checkpointed, or brought back. `action` is a verb phrase."""

    reason: ClassVar[str] = "SNAPSHOT_BLOCKED"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot {action} VM {vm}: {blockers} blocks it. Remove that, then run `snapshotctl host sync {host}`."
    )
    vm: str
    blockers: str
    action: str
    host: str
