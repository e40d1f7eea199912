"""Why a VM cannot be destroyed, or what its having been destroyed forbids: what a caller is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.lifecycle import VmActivity
from snapshotd.domain.vm_record import VmRecord


@dataclass(eq=False)
class ForeignCheckpointsInTheWay(SnapshotdError):
    """The VM has checkpoints that others made, and not all of them are named."""

    reason: ClassVar[str] = "FOREIGN_CHECKPOINTS"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot destroy VM {vm}: it has checkpoints that are not ours and would be lost: {names}. Look at them "
        "(`snapshotctl snapshot tree {vm!q}`), then name each one that may be lost: by its name, or by its id where "
        "several have that name."
    )
    vm: str
    names: str


@dataclass(eq=False)
class CheckpointsLeft(SnapshotdError):
    """The VM still has checkpoints when it is to be removed: somebody has taken one meanwhile."""

    reason: ClassVar[str] = "CHECKPOINTS_LEFT"
    text: ClassVar[str] = (
        "Cannot remove VM {vm} from its host: it has checkpoints that nobody agreed to lose: {names}. Look at them "
        "(`snapshotctl snapshot tree {vm!q}`), and ask for its destruction again."
    )
    vm: str
    names: str


@dataclass(eq=False)
class VmDestroyed(SnapshotdError):
    """The VM was destroyed: its record is only read."""

    reason: ClassVar[str] = "VM_DESTROYED"
    text: ClassVar[str] = (
        "Cannot change VM {vm} ({uid}): it was destroyed. Its record stays readable (`snapshotctl vm show {uid}`, "
        "`snapshotctl audit list --vm {uid}`). If a VM of that id is on a host again, as after an import, it is not "
        "managed: import it as a copy with a new id (`Import-VM -Copy -GenerateNewId`), and register that."
    )
    vm: str
    uid: str


@dataclass(eq=False)
class VmThereAgain(SnapshotdError):
    """A host has the VM whose disks are to be deleted."""

    reason: ClassVar[str] = "VM_THERE_AGAIN"
    text: ClassVar[str] = (
        "Cannot delete the disks of VM {vm}: host {host} has it again, with power state {power}. Its disks were left "
        "as they are."
    )
    vm: str
    host: str
    power: str


def refuse_destroyed(vm: VmRecord) -> None:
    """Raise VmDestroyed for a VM that was destroyed."""
    if vm.activity is VmActivity.DESTROYED:
        raise VmDestroyed(vm.name, vm.vm_id)
