"""Checkpoints on a host that are not ours: made by others, or marked by us and not on record."""

from __future__ import annotations

import shlex

from snapshotd.domain.errors import (
    NotFound,
)
from snapshotd.domain.host_report import Checkpoint
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.snapshot_errors import (
    CheckpointNotFound,
    CheckpointNotUsable,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord


def no_such_snapshot(vm: VmRecord, snapshot_id: str) -> NotFound:
    """Return the error for an id that is no snapshot's; if it is a checkpoint's, with what can be done about that.

    Args:
        vm: the VM.
        snapshot_id: what was named as one of its snapshots.
    """
    name = shlex.quote(vm.name)
    checkpoints = vm.description.checkpoints if vm.description else ()
    found = next((c for c in checkpoints if c.checkpoint_id == snapshot_id), None)
    if found is None:
        return NotFound("snapshot", snapshot_id, f"See `snapshotctl snapshot list {name}`.")
    hint = (
        f"It is the id of checkpoint {found.name!r}, and not of a snapshot: nothing reverts to it or deletes it. "
        f"`snapshotctl snapshot adopt {name} {snapshot_id}` makes it a snapshot, if it is not one yet."
    )
    return NotFound("snapshot", snapshot_id, hint)


def reported_checkpoint(vm: VmRecord, checkpoint_id: CheckpointId) -> Checkpoint:
    """Return a checkpoint as the host last reported it. Raises CheckpointNotFound."""
    found = vm.description.checkpoint(checkpoint_id) if vm.description else None
    if found is None:
        raise CheckpointNotFound(vm.name, checkpoint_id, vm.host_id)
    return found


def other_checkpoints(vm: VirtualMachine) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that are no snapshots, as the host last reported them: foreign, and temporary ones."""
    there = vm.description.checkpoints if vm.description else ()
    return tuple(c for c in there if vm.by_checkpoint(c.checkpoint_id) is None)


def foreign_checkpoints(vm: VirtualMachine) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that are not ours: neither snapshots nor temporary."""
    return tuple(c for c in other_checkpoints(vm) if vm.temporary_for(c) is None)


def foreign_checkpoint(vm: VirtualMachine, checkpoint_id: CheckpointId, action: str) -> Checkpoint:
    """Return a checkpoint that is not ours, as the host last reported it.

    Args:
        vm: the VM.
        checkpoint_id: Hyper-V's id.
        action: what is to be done with it, as a verb: "adopt", "ignore".

    Raises CheckpointNotFound, and CheckpointNotUsable for one of ours.
    """
    found = reported_checkpoint(vm, checkpoint_id)
    if (own := vm.by_checkpoint(checkpoint_id)) is not None:
        why = f"it is snapshot {own.name} already ({own.snapshot_id})"
        raise CheckpointNotUsable(found.name, checkpoint_id, action, why)
    if (which := vm.temporary_for(found)) is not None:
        why = f"it is there for a while only, for volume snapshot {which}, and is removed with that"
        raise CheckpointNotUsable(found.name, checkpoint_id, action, why)
    return found


def refuse_unadoptable(vm: VirtualMachine, checkpoint_id: CheckpointId) -> None:
    """Raise a SnapshotdError if a checkpoint is not there, or cannot become a snapshot."""
    found = foreign_checkpoint(vm, checkpoint_id, "adopt")
    assert vm.description is not None
    if found.automatic:
        why = "Hyper-V made it by itself, and removes it when the VM is turned off. Take a snapshot instead"
    elif found.checkpoint_type != "Standard":
        why = f"its type is {found.checkpoint_type}, so a backup or a replication works with it and will remove it"
    elif damage := vm.description.damage(found):
        why = f"it cannot be brought back: {damage}"
    else:
        return
    raise CheckpointNotUsable(found.name, checkpoint_id, "adopt", why)
