"""What each cmdlet of Hyper-V does, by the facts of hyperv.md: states, checkpoints, restores, removals. By ids only."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.model.host import Cause, HostState, invalid_state
from snapshotd.simulator.model.inventory import CHECKPOINT_TYPES
from snapshotd.simulator.model.machine import Machine, Snapshot, rfc3339
from snapshotd.simulator.model.merging import Merging

NAME_LIMIT: Final = 99
"""Characters of a checkpoint's name (documented: under 100)."""
CHECKPOINT_LIMIT: Final = 50
"""Checkpoints a VM (documented)."""


@dataclass(frozen=True, slots=True)
class _Arrow:
    """A row of the power's state machine (hyperv.md, section 1, source read)."""

    cmdlet: str
    sources: tuple[str, ...]
    goal: str
    duration: str
    transition: str
    """What the VM's state reads meanwhile."""


_START: Final = _Arrow("Start-VM", ("Off", "Saved", "Paused"), "Running", "start", "Starting")
_RESUME: Final = _Arrow("Resume-VM", ("Paused",), "Running", "start", "Resuming")
_TURN_OFF: Final = _Arrow("Stop-VM", ("Running", "Paused", "Saved"), "Off", "turn_off", "Stopping")
_SHUT_DOWN: Final = _Arrow("Stop-VM", ("Running",), "Off", "shutdown", "Stopping")
_SAVE: Final = _Arrow("Save-VM", ("Running", "Paused"), "Saved", "save", "Saving")
_SUSPEND: Final = _Arrow("Suspend-VM", ("Running",), "Paused", "pause", "Pausing")


class Cmdlets:
    """The cmdlets that change something.

    Args:
        host: what they change.
        merging: is told of removals.
    """

    def __init__(self, host: HostState, merging: Merging) -> None:
        self._host = host
        self._merging = merging

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def set_checkpoint_type(self, caller: Caller, vm_id: str, checkpoint_type: str) -> None:
        """Set-VM -CheckpointType."""
        cmdlet = "Set-VM"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet)
            self._host.pass_by(caller, cmdlet, "before")
            if checkpoint_type not in CHECKPOINT_TYPES:
                raise HyperVError("InvalidParameter", cmdlet, f"{checkpoint_type!r} is no CheckpointType.")
            cause = self._host.cause(caller, machine)
            self._host.pass_by(caller, cmdlet, "started")
            machine.checkpoint_type = checkpoint_type
            self._host.record(machine, cause, "checkpoint_type_set", checkpoint_type=checkpoint_type)
            self._host.pass_by(caller, cmdlet, "after")

    def checkpoint_vm(self, caller: Caller, vm_id: str, name: str, *, automatic: bool = False) -> str:
        """Checkpoint-VM: makes it under the default name, then names it in a second call (source read)."""
        cmdlet = "Checkpoint-VM"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet)
            self._host.pass_by(caller, cmdlet, "before")
            _check_name(name, cmdlet)
            self._may_checkpoint(machine)
            cause = self._host.cause(caller, machine)
            made = self._host.work(
                caller,
                cmdlet,
                machine,
                "checkpoint",
                lambda: self._make(machine, cause, automatic=automatic),
                status="CreatingSnapshot",
            )
            snapshot = machine.checkpoints.get(made)
            if snapshot is None:
                raise HyperVError("ObjectNotFound", cmdlet, "The checkpoint was removed before it was named.")
            snapshot.name = name
            self._host.record(machine, cause, "checkpoint_renamed", made, name=name)
            self._host.pass_by(caller, cmdlet, "after")
            return made

    def _may_checkpoint(self, machine: Machine) -> None:
        cmdlet = "Checkpoint-VM"
        if machine.checkpoint_type == "Disabled":
            text = f"Checkpoint operation failed. Checkpoints have been disabled for '{machine.name}'."
            raise HyperVError("OperationFailed", cmdlet, text)
        if "PASS_THROUGH_DISK" in machine.blockers:
            # The text of the real one is not known.
            text = f"Checkpoint operation failed. '{machine.name}' has a disk that cannot be checkpointed."
            raise HyperVError("OperationFailed", cmdlet, text)
        if len(machine.checkpoints) >= CHECKPOINT_LIMIT:
            # Documented limit; the text of the real one is not known.
            text = f"Checkpoint operation failed. '{machine.name}' has the maximum number of checkpoints."
            raise HyperVError("OperationFailed", cmdlet, text)

    def _make(self, machine: Machine, cause: Cause, *, automatic: bool) -> str:
        """Freeze the disks, and the memory where the kind of checkpoint has it."""
        memory = self._memory_of(machine)
        now = datetime.now(UTC)
        snapshot = Snapshot(
            checkpoint_id=str(uuid.uuid4()),
            name=f"{machine.name} - ({now:%m/%d/%Y - %I:%M:%S %p})",
            parent_id=machine.current_id,
            created_at=rfc3339(now),
            memory=memory,
            checkpoint_type=machine.checkpoint_type,
            automatic=automatic,
            disks=dict(machine.disks),
        )
        for location, path in machine.disks.items():
            machine.disks[location] = self._host.disks.make_child(path)
        machine.checkpoints[snapshot.checkpoint_id] = snapshot
        machine.current_id = snapshot.checkpoint_id
        self._host.record(machine, cause, "checkpoint_made", snapshot.checkpoint_id, memory=memory)
        return snapshot.checkpoint_id

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

    def rename_snapshot(self, caller: Caller, checkpoint_id: str, name: str) -> None:
        """Rename-VMSnapshot."""
        cmdlet = "Rename-VMSnapshot"
        with self._host.changed:
            machine = self._host.owner_of(checkpoint_id, cmdlet)
            self._host.pass_by(caller, cmdlet, "before")
            _check_name(name, cmdlet)
            cause = self._host.cause(caller, machine)
            self._host.pass_by(caller, cmdlet, "started")
            machine.checkpoints[checkpoint_id.lower()].name = name
            self._host.record(machine, cause, "checkpoint_renamed", checkpoint_id.lower(), name=name)
            self._host.pass_by(caller, cmdlet, "after")

    def restore_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        """Restore-VMSnapshot: the module saves, applies and starts; killed in between leaves what was done."""
        cmdlet = "Restore-VMSnapshot"
        with self._host.changed:
            machine = self._host.owner_of(checkpoint_id, cmdlet)
            self._host.pass_by(caller, cmdlet, "before")
            cause = self._host.cause(caller, machine)
            was = machine.state
            if was in ("Running", "Paused"):
                saved = self._power(machine, cause, "Saved", "restore_saved")
                self._host.work(caller, cmdlet, machine, "save", saved, transition="Saving")
            target = checkpoint_id.lower()
            self._host.work(
                caller,
                cmdlet,
                machine,
                "restore",
                lambda: self._apply(machine, cause, target),
                status="ApplyingSnapshot",
            )
            if was == "Running" and machine.state == "Saved":
                resumed = self._power(machine, cause, "Running", "restore_resumed")
                self._host.work(caller, cmdlet, machine, "start", resumed, transition="Starting")
            self._host.pass_by(caller, cmdlet, "after")

    def _apply(self, machine: Machine, cause: Cause, target: str) -> str:
        """Put the VM on new files over a checkpoint's; what was written since is gone."""
        snapshot = machine.checkpoints.get(target)
        if snapshot is None:
            raise HyperVError("ObjectNotFound", "Restore-VMSnapshot", "The checkpoint is not there any more.")
        old = dict(machine.disks)
        for location, path in snapshot.disks.items():
            machine.disks[location] = self._host.disks.make_child(path)
        machine.current_id = target
        machine.checkpoint_type = snapshot.checkpoint_type
        machine.memory = snapshot.memory
        machine.state = "Saved" if snapshot.has_memory else "Off"
        self._host.record(machine, cause, "checkpoint_applied", target, memory=snapshot.memory)
        for path in old.values():
            self._host.disks.delete(path)
        # A branch point may have one file above it now instead of two.
        self._merging.look_at(machine.vm_id)
        return target

    def remove_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        """Remove-VMSnapshot, without the children: the disks are merged afterwards."""
        cmdlet = "Remove-VMSnapshot"
        with self._host.changed:
            machine = self._host.owner_of(checkpoint_id, cmdlet)
            self._host.pass_by(caller, cmdlet, "before")
            cause = self._host.cause(caller, machine)
            target = checkpoint_id.lower()
            self._host.work(
                caller,
                cmdlet,
                machine,
                "remove",
                lambda: self._remove(machine, cause, target),
                status="DeletingSnapshot",
            )
            self._host.pass_by(caller, cmdlet, "after")

    def _remove(self, machine: Machine, cause: Cause, target: str) -> str:
        snapshot = machine.checkpoints.pop(target)
        for other in machine.checkpoints.values():
            if other.parent_id == target:
                other.parent_id = snapshot.parent_id
        if machine.current_id == target:
            machine.current_id = snapshot.parent_id
        self._host.record(machine, cause, "checkpoint_removed", target)
        self._merging.look_at(machine.vm_id)
        return target

    # --- power ----------------------------------------------------------------------------------------------------

    def start_vm(self, caller: Caller, vm_id: str) -> bool:
        """Start-VM."""
        return self._change(caller, vm_id, _START)

    def resume_vm(self, caller: Caller, vm_id: str) -> bool:
        """Resume-VM."""
        return self._change(caller, vm_id, _RESUME)

    def stop_vm(self, caller: Caller, vm_id: str, *, turn_off: bool, force: bool = False) -> bool:
        """Stop-VM: a shutdown by the guest, or -TurnOff."""
        if turn_off:
            return self._change(caller, vm_id, _TURN_OFF)
        with self._host.changed:
            machine = self._host.machine(vm_id, "Stop-VM")
            if machine.state == "Running" and not machine.shutdown_service and not force:
                self._host.pass_by(caller, "Stop-VM", "before")
                # Observed: it asks, and under -NonInteractive that is an error; its id is not known.
                text = f"'{machine.name}' cannot be shut down: the guest's shutdown service is not healthy."
                raise HyperVError("OperationFailed", "Stop-VM", text)
            return self._change(caller, vm_id, _SHUT_DOWN)

    def save_vm(self, caller: Caller, vm_id: str) -> bool:
        """Save-VM."""
        return self._change(caller, vm_id, _SAVE)

    def suspend_vm(self, caller: Caller, vm_id: str) -> bool:
        """Suspend-VM."""
        return self._change(caller, vm_id, _SUSPEND)

    def _change(self, caller: Caller, vm_id: str, arrow: _Arrow) -> bool:
        """Take a VM along an arrow; False if it is there already."""
        with self._host.changed:
            machine = self._host.machine(vm_id, arrow.cmdlet)
            self._host.pass_by(caller, arrow.cmdlet, "before")
            if self._host.jobs.of(machine.vm_id) is None and machine.state == arrow.goal:
                return False
            if machine.state not in arrow.sources:
                raise invalid_state(arrow.cmdlet)
            cause = self._host.cause(caller, machine)
            change = self._power(machine, cause, arrow.goal, "power_changed")
            self._host.work(caller, arrow.cmdlet, machine, arrow.duration, change, transition=arrow.transition)
            self._host.pass_by(caller, arrow.cmdlet, "after")
            return True

    def _power(self, machine: Machine, cause: Cause, goal: str, effect: str) -> Callable[[], str]:
        """Return what brings a VM to a state."""

        def change() -> str:
            if goal == "Running" and not machine.boots:
                text = f"'{machine.name}' failed to start."
                raise HyperVError("OperationFailed", "Start-VM", text)
            if goal == "Running" and machine.state == "Off":
                machine.memory = f"booted {uuid.uuid4()}"
            if goal == "Off":
                machine.memory = ""
            was, machine.state = machine.state, goal
            self._host.record(machine, cause, effect, was=was)
            return goal

        return change


def _check_name(name: str, cmdlet: str) -> None:
    if not 0 < len(name) <= NAME_LIMIT:
        text = f"A checkpoint's name has 1 to {NAME_LIMIT} characters; this one has {len(name)}."
        raise HyperVError("InvalidParameter", cmdlet, text)
