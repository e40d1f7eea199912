"""What the cmdlets around checkpoints do, by the facts of docs/hyperv.md: take, name, restore, remove. By ids only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.model.checkpointing import Checkpointing
from snapshotd.simulator.model.disks import is_differencing
from snapshotd.simulator.model.host import Cause, HostState, invalid_state
from snapshotd.simulator.model.inventory import CHECKPOINT_TYPES
from snapshotd.simulator.model.machine import OFFERING, Machine
from snapshotd.simulator.model.merging import Merging
from snapshotd.simulator.model.offering import check_offering
from snapshotd.simulator.model.power import Power

NAME_LIMIT: Final = 99
"""Characters of a checkpoint's name (documented: under 100), counted as UTF-16 code units (inferred)."""


class Cmdlets:
    """The cmdlets that change checkpoints, or what they are made with.

    Args:
        host: what they change.
        merging: is told of files that nothing stands on any more.
        checkpointing: makes and removes checkpoints.
        power: a restore saves and starts.
    """

    def __init__(self, host: HostState, merging: Merging, checkpointing: Checkpointing, power: Power) -> None:
        self._host = host
        self._merging = merging
        self._checkpointing = checkpointing
        self._power = power

    def set_checkpoint_type(self, caller: Caller, vm_id: str, checkpoint_type: str) -> None:
        """Set-VM -CheckpointType."""
        cmdlet = "Set-VM"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            if checkpoint_type not in CHECKPOINT_TYPES:
                raise HyperVError("InvalidParameter", cmdlet, f"{checkpoint_type!r} is not a CheckpointType.")
            cause = self._host.cause(caller, machine)

            def put() -> str:
                machine.checkpoint_type = checkpoint_type
                self._host.record(machine, cause, "checkpoint_type_set", checkpoint_type=checkpoint_type)
                return checkpoint_type

            self._host.work(caller, cmdlet, machine, "", put)
            self._host.pass_by(caller, cmdlet, "after")

    def set_vm(self, caller: Caller, vm_id: str, **changes: object) -> None:
        """Set-VM with anything but CheckpointType: name, what an offering has, settings."""
        cmdlet = "Set-VM"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            _check_changes(machine, changes)
            cause = self._host.cause(caller, machine)

            def put() -> str:
                for name, value in changes.items():
                    setattr(machine, name, {**machine.settings, **value} if isinstance(value, dict) else value)
                self._host.record(machine, cause, "vm_set", changes=dict(changes))
                return machine.name

            self._host.work(caller, cmdlet, machine, "", put)
            self._host.pass_by(caller, cmdlet, "after")

    def checkpoint_vm(
        self, caller: Caller, vm_id: str, name: str, *, automatic: bool = False, snapshot_type: str = "Standard"
    ) -> str:
        """Checkpoint-VM: makes it under the default name, then names it in a second call (source read)."""
        cmdlet = "Checkpoint-VM"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            _check_name(name, cmdlet)
            self._checkpointing.check(machine)
            cause = self._host.cause(caller, machine)
            made = self._host.work(
                caller,
                cmdlet,
                machine,
                "checkpoint",
                lambda: self._checkpointing.make(machine, cause, automatic=automatic, snapshot_type=snapshot_type),
                status="CreatingSnapshot",
            )
            self._name(machine, cause, made, name)
            self._host.pass_by(caller, cmdlet, "after")
            return made

    def rename_snapshot(self, caller: Caller, checkpoint_id: str, name: str) -> None:
        """Rename-VMSnapshot."""
        cmdlet = "Rename-VMSnapshot"
        with self._host.changed:
            machine = self._host.owner_of(checkpoint_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            _check_name(name, cmdlet)
            cause = self._host.cause(caller, machine)
            self._host.work(
                caller, cmdlet, machine, "", lambda: self._name(machine, cause, checkpoint_id.lower(), name)
            )
            self._host.pass_by(caller, cmdlet, "after")

    def _name(self, machine: Machine, cause: Cause, checkpoint_id: str, name: str) -> str:
        checkpoint = machine.checkpoints.get(checkpoint_id)
        if checkpoint is None:
            raise HyperVError("ObjectNotFound", "Checkpoint-VM", "The checkpoint was removed before it was named.")
        checkpoint.name = name
        self._host.record(machine, cause, "checkpoint_renamed", checkpoint_id, name=name)
        return checkpoint_id

    def restore_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        """Restore-VMSnapshot: the module saves, applies and starts; killed in between leaves what was done."""
        cmdlet = "Restore-VMSnapshot"
        with self._host.changed:
            machine = self._host.owner_of(checkpoint_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            cause = self._host.cause(caller, machine)
            was = machine.state
            if was in ("Running", "Paused"):
                saved = self._power.bringing(machine, cause, "Saved", "restore_saved")
                self._host.work(caller, cmdlet, machine, "save", saved, transition="Saving")
            # Somebody may have started it in the moment between the module's calls.
            if machine.state not in ("Off", "Saved"):
                raise invalid_state(cmdlet)
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
                resumed = self._power.bringing(machine, cause, "Running", "restore_resumed")
                self._host.work(caller, cmdlet, machine, "start", resumed, transition="Starting")
            self._host.pass_by(caller, cmdlet, "after")

    def _apply(self, machine: Machine, cause: Cause, target: str) -> str:
        """Put the VM on new files over a checkpoint's; what was written since is gone."""
        checkpoint = machine.checkpoints.get(target)
        if checkpoint is None:
            raise HyperVError("ObjectNotFound", "Restore-VMSnapshot", "The checkpoint is not there any more.")
        if checkpoint.snapshot_type == "Missing":
            # Inferred; the text of the real one is not known.
            raise HyperVError("OperationFailed", "Restore-VMSnapshot", f"'{checkpoint.name}' is missing its files.")
        self._host.check_files(machine, checkpoint.disks, "Restore-VMSnapshot")
        old = set(machine.disks.values())
        machine.disks = self._host.make_children(machine, checkpoint.disks, "Restore-VMSnapshot")
        machine.leftovers += filter(is_differencing, old)
        machine.current_id = target
        machine.checkpoint_type = checkpoint.checkpoint_type
        machine.memory = checkpoint.memory
        if checkpoint.cpu_count:
            for name in OFFERING:
                setattr(machine, name, getattr(checkpoint, name))
        machine.goes_to("Saved" if checkpoint.has_memory else "Off")
        self._host.record(machine, cause, "checkpoint_applied", target, memory=checkpoint.memory)
        self._discard(machine, old)
        # A branch point may have one file above it now instead of two.
        self._merging.look_at(machine.vm_id)
        return target

    def _discard(self, machine: Machine, old: Collection[str]) -> None:
        """Remove what a VM wrote to if the hypervisor made it (inferred): a disk attached since then stays."""
        disks = self._host.disks
        for path in filter(is_differencing, old):
            if not disks.children(path):
                disks.delete(path)
                machine.leftovers.remove(path)
        disks.forget([path for path in old if path in disks], self._host.known_files())
        self._host.keep(machine)

    def remove_snapshot(self, caller: Caller, checkpoint_id: str) -> None:
        """Remove-VMSnapshot, without the children: the disks are merged afterwards."""
        cmdlet = "Remove-VMSnapshot"
        with self._host.changed:
            machine = self._host.owner_of(checkpoint_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            cause = self._host.cause(caller, machine)
            target = checkpoint_id.lower()
            self._host.work(
                caller,
                cmdlet,
                machine,
                "remove",
                lambda: self._checkpointing.remove(machine, cause, target),
                status="DeletingSnapshot",
            )
            self._host.pass_by(caller, cmdlet, "after")


def _check_name(name: str, cmdlet: str) -> None:
    # Windows' own strings may hold half of a pair, which is no character, and counts.
    length = len(name.encode("utf-16-le", "surrogatepass")) // 2
    if not 0 < length <= NAME_LIMIT:
        text = f"A checkpoint's name has 1 to {NAME_LIMIT} characters; this one has {length}."
        raise HyperVError("InvalidParameter", cmdlet, text)


def _check_changes(machine: Machine, changes: Mapping[str, object]) -> None:
    """Raise HyperVError for changes that the VM's state does not allow, or that make no sense."""
    cmdlet = "Set-VM"
    unknown = set(changes) - {"name", "settings", *OFFERING}
    assert not unknown, f"the stub asked for {unknown}"
    check_offering(machine, changes, cmdlet)
    settings = changes.get("settings", {})
    assert isinstance(settings, dict), settings
    # Processors and memory need a VM that is off (documented).
    if machine.state != "Off" and changes.keys() & set(OFFERING):
        raise invalid_state(cmdlet)
    if "SnapshotFileLocation" in settings and machine.checkpoints:
        # Documented; the text of the real one is not known.
        text = f"The location of checkpoints cannot be changed: '{machine.name}' has checkpoints."
        raise HyperVError("OperationFailed", cmdlet, text)
