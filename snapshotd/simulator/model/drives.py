"""Attach and detach drives of a VM, by place: controller type, number and location (docs/hyperv.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.model.host import HostState, invalid_state
from snapshotd.simulator.model.machine import Machine
from snapshotd.simulator.model.merging import Merging
from snapshotd.simulator.model.opened_files import check_unlocked

_PHYSICAL: Final = "SCSI:0:63"
"""Where the drive of a VM with the blocker PASS_THROUGH_DISK is."""
_PLACE: Final = re.compile(r"(IDE|SCSI):(\d{1,3}):(\d{1,3})", re.ASCII)
_CONTROLLERS: Final = {"IDE": 2, "SCSI": 4}
"""How many a VM has at most (documented); simulated ones always have them."""
_LOCATIONS: Final = {"IDE": 2, "SCSI": 64}
"""Of each controller (documented)."""


class Drives:
    """The cmdlets that attach and detach drives.

    Args:
        host: what they change.
        merging: is told of disks that are gone: what they stood on may be merged then.
    """

    def __init__(self, host: HostState, merging: Merging) -> None:
        self._host = host
        self._merging = merging

    def add_drive(self, caller: Caller, vm_id: str, location: str, path: str) -> None:
        """Add-VMHardDiskDrive: SCSI also while the VM runs, IDE only while it is off (documented)."""
        cmdlet = "Add-VMHardDiskDrive"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            place = _checked(machine, location, cmdlet)
            if place in machine.disks or (place == _PHYSICAL and "PASS_THROUGH_DISK" in machine.blockers):
                # Id and text of the real one are not known, nor those of the next.
                raise HyperVError("OperationFailed", cmdlet, f"'{machine.name}' has a drive at {place} already.")
            real = self._file(machine, path, cmdlet)
            cause = self._host.cause(caller, machine)

            def attach() -> str:
                self._host.disks.adopt(real)
                machine.disks = dict(sorted({**machine.disks, place: real}.items(), key=lambda at: _order(at[0])))
                self._host.record(machine, cause, "drive_added", location=place, path=real)
                return place

            self._host.work(caller, cmdlet, machine, "", attach)
            self._host.pass_by(caller, cmdlet, "after")

    def remove_drive(self, caller: Caller, vm_id: str, location: str) -> None:
        """Remove-VMHardDiskDrive: the file stays (documented), and is nobody's from then on."""
        cmdlet = "Remove-VMHardDiskDrive"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            place = _checked(machine, location, cmdlet)
            if place not in machine.disks:
                text = f"Hyper-V was unable to find a hard disk drive of '{machine.name}' at {place}."
                raise HyperVError("ObjectNotFound", cmdlet, text)
            cause = self._host.cause(caller, machine)

            def detach() -> str:
                path = machine.disks.pop(place)
                self._host.record(machine, cause, "drive_removed", location=place, path=path)
                self._host.let_go(path)
                self._merging.look_at(machine.vm_id)
                return place

            self._host.work(caller, cmdlet, machine, "", detach)
            self._host.pass_by(caller, cmdlet, "after")

    def _file(self, machine: Machine, path: str, cmdlet: str) -> str:
        """Return the file that is to be attached, as its name is written. Raises HyperVError."""
        found = self._host.disks.find(path)
        if found is None or not self._host.disks.is_there(found[0]):
            # Observed in the message of a start; here it is inferred.
            wrong = "The file is corrupted." if Path(path).exists() else "The system cannot find the file specified."
            raise HyperVError("OperationFailed", cmdlet, f"Attachment '{path}' not found. Error: '{wrong}'")
        real, _ = found
        if real in machine.disks.values():
            raise HyperVError("OperationFailed", cmdlet, f"'{real}' is attached to '{machine.name}' already.")
        # That another VM has it is noticed when it is opened: here if the VM runs (inferred), else at the start.
        if machine.state in ("Running", "Paused"):
            check_unlocked(self._host, machine, [real], cmdlet)
        return real


def _checked(machine: Machine, location: str, cmdlet: str) -> str:
    """Return a place of a VM's whose drive can be changed as the VM is. Raises HyperVError."""
    match = _PLACE.fullmatch(location)
    kind, controller, number = match.groups() if match else ("", "0", "0")
    if not match or int(controller) >= _CONTROLLERS[kind] or int(number) >= _LOCATIONS[kind]:
        raise HyperVError("InvalidParameter", cmdlet, f"{location!r} is no place of a drive.")
    if kind == "IDE" and machine.generation != 1:
        # Documented that there is none; the text of the real one is not known.
        text = f"'{machine.name}' is of generation {machine.generation}, which has no IDE controllers."
        raise HyperVError("InvalidParameter", cmdlet, text)
    # That the configuration of a saved VM cannot change is inferred.
    if machine.state not in (("Off",) if kind == "IDE" else ("Off", "Running", "Paused")):
        raise invalid_state(cmdlet)
    return f"{kind}:{int(controller)}:{int(number)}"


def _order(place: str) -> tuple[str, int, int]:
    kind, controller, number = place.split(":")
    return kind, int(controller), int(number)
