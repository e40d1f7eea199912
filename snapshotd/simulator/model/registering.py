"""New-VM and Remove-VM: how VMs come to a host, and go (docs/hyperv.md)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.model.host import Cause, HostState, invalid_state
from snapshotd.simulator.model.machine import MAXIMUM_BYTES, MINIMUM_BYTES, Machine, rfc3339
from snapshotd.simulator.model.merging import Merging

_FIRST_PLACE: Final = {1: "IDE:0:0", 2: "SCSI:0:0"}
"""Where the disk of a new VM is, by its generation (documented for the controller)."""


class Registering:
    """The cmdlets that make VMs and remove them.

    Args:
        host: whose VMs.
        merging: is told of checkpoints that go with their VM.
    """

    def __init__(self, host: HostState, merging: Merging) -> None:
        self._host = host
        self._merging = merging

    def new_vm(
        self,
        caller: Caller,
        name: str,
        *,
        memory_bytes: int,
        generation: int,
        path: str = "",
        vhd_path: str = "",
        switch: str = "",
    ) -> str:
        """New-VM: a VM with one processor that is off; with a disk that is there, or none. Returns its id."""
        cmdlet = "New-VM"
        with self._host.changed:
            self._host.pass_by(caller, cmdlet, "before")
            if not name or generation not in _FIRST_PLACE or memory_bytes <= 0:
                text = f"{name!r} of generation {generation} with {memory_bytes} bytes of memory is no VM."
                raise HyperVError("InvalidParameter", cmdlet, text)
            if switch and switch not in self._host.switches:
                # The text is inferred from that for VMs, and the id too.
                text = f'Hyper-V was unable to find a virtual switch with name "{switch}".'
                raise HyperVError("InvalidParameter", cmdlet, text)
            disk = self._disk(vhd_path, cmdlet) if vhd_path else ""
            machine = _machine(name, memory_bytes, generation)
            machine.switch = switch
            machine.folder = str(Path(path) / name) if path else ""
            machine.disks = {_FIRST_PLACE[generation]: disk} if disk else {}
            Path(self._host.folder(machine)).mkdir(parents=True, exist_ok=True)
            self._host.register(machine, self._host.cause_of_none(caller), "vm_created", name=name)
            self._host.pass_by(caller, cmdlet, "started")
            self._host.pass_by(caller, cmdlet, "after")
            return machine.vm_id

    def _disk(self, path: str, cmdlet: str) -> str:
        found = self._host.disks.find(path)
        if found is None or not self._host.disks.is_there(found[0]):
            text = f"Attachment '{path}' not found. Error: 'The system cannot find the file specified.'"
            raise HyperVError("OperationFailed", cmdlet, text)
        return found[0]

    def remove_vm(self, caller: Caller, vm_id: str) -> None:
        """Remove-VM: the disks stay; the checkpoints go, and what they froze is merged afterwards (documented).

        A VM must be off: that a saved one cannot be removed is not verified.
        """
        cmdlet = "Remove-VM"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            if machine.state != "Off":
                raise invalid_state(cmdlet)
            cause = self._host.cause(caller, machine)
            self._host.work(caller, cmdlet, machine, "", lambda: self._remove(machine, cause))
            self._host.pass_by(caller, cmdlet, "after")

    def _remove(self, machine: Machine, cause: Cause) -> str:
        checkpoints = list(machine.checkpoints)
        frozen = {path for checkpoint in machine.checkpoints.values() for path in checkpoint.disks.values()}
        machine.leftovers += sorted(frozen - set(machine.leftovers))
        machine.checkpoints, machine.current_id = {}, ""
        self._host.remove(machine, cause, checkpoints)
        self._merging.look_at(machine.vm_id)
        return machine.vm_id


def _machine(name: str, memory_bytes: int, generation: int) -> Machine:
    return Machine(
        vm_id=str(uuid.uuid4()),
        name=name,
        state="Off",
        cpu_count=1,
        memory_bytes=memory_bytes,
        minimum_bytes=min(MINIMUM_BYTES, memory_bytes),
        maximum_bytes=max(MAXIMUM_BYTES, memory_bytes),
        generation=generation,
        checkpoint_type="Production",
        blockers=[],
        disks={},
        created_at=rfc3339(datetime.now(UTC)),
    )
