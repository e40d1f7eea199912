"""How checkpoints come and go on a VM: by a cmdlet, and by themselves at a start and a stop (docs/hyperv.md)."""

from __future__ import annotations

import time
import uuid
from typing import Final

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model.host import HYPERVISOR, Cause, HostState
from snapshotd.simulator.model.machine import OFFERING, Checkpoint, Machine, rfc3339
from snapshotd.simulator.model.merging import Merging
from snapshotd.simulator.model.volumes import checkpoint_bytes

CHECKPOINT_LIMIT: Final = 50
"""Checkpoints a VM (documented)."""


class Checkpointing:
    """Makes and removes the checkpoints of one host.

    Args:
        host: whose.
        merging: is told of removals.
    """

    def __init__(self, host: HostState, merging: Merging) -> None:
        self._host = host
        self._merging = merging

    def check(self, machine: Machine) -> None:
        """Check that a checkpoint of a VM can be taken. Raises HyperVError."""
        cmdlet = "Checkpoint-VM"
        if machine.checkpoint_type == "Disabled":
            text = f"Checkpoint operation failed. Checkpoints have been disabled for '{machine.name}'."
            raise HyperVError("OperationFailed", cmdlet, text)
        if "PASS_THROUGH_DISK" in machine.blockers:
            # The text of the real one is not known.
            text = f"Checkpoint operation failed. '{machine.name}' has a disk that cannot be checkpointed."
            raise HyperVError("OperationFailed", cmdlet, text)
        if machine.critical:
            # Inferred: its storage is full or out of reach. The text of the real one is not known.
            text = f"Checkpoint operation failed. '{machine.name}' is in a critical state."
            raise HyperVError("OperationFailed", cmdlet, text)
        if len(machine.checkpoints) >= CHECKPOINT_LIMIT:
            # Documented limit; the text of the real one is not known.
            text = f"Checkpoint operation failed. '{machine.name}' has the maximum number of checkpoints."
            raise HyperVError("OperationFailed", cmdlet, text)

    def make(self, machine: Machine, cause: Cause, *, automatic: bool = False, snapshot_type: str = "Standard") -> str:
        """Freeze the disks, and the memory if the kind of checkpoint has it; return the checkpoint's id."""
        self._host.check_files(machine, machine.disks, "Checkpoint-VM")
        memory = self._memory_of(machine)
        needed = checkpoint_bytes(has_memory=bool(memory), memory_bytes=machine.memory_bytes)
        failed = f"Checkpoint operation failed. '{machine.name}' could not initiate a checkpoint"
        self._host.volumes.check(self._host.folder(machine), needed, "Checkpoint-VM", failed)
        now = self._host.now()
        checkpoint = Checkpoint(
            checkpoint_id=str(uuid.uuid4()),
            name=f"{'Automatic Checkpoint - ' * automatic}{machine.name} - ({now:%m/%d/%Y - %I:%M:%S %p})",
            parent_id=machine.current_id,
            created_at=rfc3339(now),
            memory=memory,
            checkpoint_type=machine.checkpoint_type,
            automatic=automatic,
            snapshot_type=snapshot_type,
            disks=dict(machine.disks),
            **{name: getattr(machine, name) for name in OFFERING},
        )
        machine.disks = self._host.make_children(machine, machine.disks, "Checkpoint-VM")
        self._host.made_s[checkpoint.checkpoint_id] = time.monotonic()
        machine.checkpoints[checkpoint.checkpoint_id] = checkpoint
        machine.current_id = checkpoint.checkpoint_id
        self._host.record(machine, cause, "checkpoint_made", checkpoint.checkpoint_id, memory=memory)
        return checkpoint.checkpoint_id

    def remove(self, machine: Machine, cause: Cause, target: str) -> str:
        """Remove a checkpoint, without its children: the disks are merged afterwards."""
        checkpoint = machine.checkpoints.pop(target)
        machine.leftovers += [path for path in checkpoint.disks.values() if path not in machine.leftovers]
        for other in machine.checkpoints.values():
            if other.parent_id == target:
                other.parent_id = checkpoint.parent_id
        if machine.current_id == target:
            machine.current_id = checkpoint.parent_id
        self._host.record(machine, cause, "checkpoint_removed", target)
        self._merging.look_at(machine.vm_id)
        return target

    def renew_automatic(self, machine: Machine) -> None:
        """Take the automatic checkpoint of a start, if a VM has them and can be checkpointed; an older one goes."""
        if not machine.takes_automatic_checkpoints:
            return
        self.drop_automatic(machine)
        try:
            self.check(machine)
            self.make(machine, HYPERVISOR, automatic=True)
        except HyperVError:
            return  # it starts all the same (inferred)

    def drop_automatic(self, machine: Machine) -> None:
        """Remove the automatic checkpoints of a VM that has them, as its stop does."""
        if machine.takes_automatic_checkpoints:
            for checkpoint in [c for c in machine.checkpoints.values() if c.automatic]:
                self.remove(machine, HYPERVISOR, checkpoint.checkpoint_id)

    def _memory_of(self, machine: Machine) -> str:
        """Return what memory a checkpoint of a VM holds; empty for none."""
        if machine.state == "Off":
            return ""
        if machine.state == "Saved" or machine.checkpoint_type == "Standard":
            return machine.memory
        if machine.state == "Running" and machine.vss:
            return ""
        if machine.checkpoint_type == "ProductionOnly":
            # The text of the real one is not known.
            text = f"Checkpoint operation failed. A production checkpoint cannot be created for '{machine.name}'."
            raise HyperVError("OperationFailed", "Checkpoint-VM", text)
        return machine.memory  # Production falls back to standard silently (documented)
