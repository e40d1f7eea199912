"""Imports: what Compare-VM and Import-VM make of an exported VM (docs/hyperv.md, section 5).

A VM is registered in place, under its id, with the checkpoints whose configurations are beside its own; or a copy of it
is, under that id or another one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.hypervisor import Caller, CompatibilityView, HyperVError
from snapshotd.simulator.model.copying import copy_disks, give_new_ids
from snapshotd.simulator.model.disks import real_path
from snapshotd.simulator.model.exported import SNAPSHOTS, content_of
from snapshotd.simulator.model.host import HostState
from snapshotd.simulator.model.machine import Checkpoint, Machine, machine_of
from snapshotd.simulator.model.merging import Merging
from snapshotd.simulator.model.writing import check_volume

_NO_SWITCH: Final = 33012
_NO_DISK: Final = 40010
"""MessageIds of Compare-VM (documented)."""
_NO_CHECKPOINT: Final = 40012
"""Likewise, of a checkpoint whose configuration is missing (not verified)."""
_EXISTS: Final = "The operation failed because a virtual machine with the same identifier already exists."


class Importing:
    """The imports of one host.

    Args:
        host: what VMs come to.
        merging: goes on with what an exported VM has still to merge.
    """

    def __init__(self, host: HostState, merging: Merging) -> None:
        self._host = host
        self._merging = merging

    def compare_vm(self, vmcx: str, *, copy: bool = False) -> CompatibilityView:
        """Compare-VM -Register, or -Copy -GenerateNewId, which does not mind that the VM is here."""
        with self._host.changed:
            self._host.faults.fail_read("Compare-VM", "")
            machine, missing = self._read(vmcx, "Compare-VM")
            if not copy:
                self._check_absent(machine, "Compare-VM")
            found = (*missing, *self._lacks(machine))
            return CompatibilityView(str(uuid.uuid4()) if copy else machine.vm_id, machine.name, found)

    def import_vm(
        self, caller: Caller, vmcx: str, *, copy: bool = False, new_id: str = "", folder: str = "", disks: str = ""
    ) -> str:
        """Import-VM: registers it in place, or a copy of it."""
        cmdlet = "Import-VM"
        with self._host.changed:
            self._host.pass_by(caller, cmdlet, "before")
            machine, missing = self._read(vmcx, cmdlet)
            if new_id:
                give_new_ids(machine, new_id)
            self._check_absent(machine, cmdlet)
            if found := (*missing, *self._lacks(machine)):
                # Observed, but for the id.
                text = (
                    "Unable to import virtual machine due to configuration errors. Please use Compare-VM to repair it."
                )
                raise HyperVError("OperationFailed", cmdlet, f"{text} {' '.join(told for _, told in found)}")
            cause = self._host.cause(caller, machine)

            how = {"copy": True} if copy else {}

            def finish() -> str:
                self._check_absent(machine, cmdlet)
                if copy:
                    own = folder or str(self._host.disks.directory / machine.vm_id)
                    copy_disks(self._host, machine, Path(disks or own))
                    machine.folder = folder
                    Path(own).mkdir(parents=True, exist_ok=True)
                try:
                    self._host.register(machine, cause, "vm_imported", configuration=vmcx, **how)
                except ValueError as error:  # its files went meanwhile
                    raise HyperVError("OperationFailed", cmdlet, str(error)) from error
                self._merging.take_in(machine)
                return machine.vm_id

            self._host.work(caller, cmdlet, machine, "import", finish)
            self._host.pass_by(caller, cmdlet, "after")
            return machine.vm_id

    def _check_absent(self, machine: Machine, cmdlet: str) -> None:
        """Raise HyperVError if this host has a VM of that id (documented; the text is observed, and not the id)."""
        if machine.vm_id in self._host.machines:
            raise HyperVError("OperationFailed", cmdlet, _EXISTS)

    def _read(self, vmcx: str, cmdlet: str) -> tuple[Machine, tuple[tuple[int, str], ...]]:
        """Return the VM of a configuration, and what of it is not there. Raises HyperVError."""
        path = Path(real_path(vmcx))
        check_volume(self._host, path)
        if not path.is_file():
            # The real text and id are not known.
            raise HyperVError("ObjectNotFound", cmdlet, f"The virtual machine configuration '{vmcx}' was not found.")
        root = path.parent.parent
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            checkpoints, missing = _checkpoints(document["checkpoints"], root)
            machine = machine_of(_in_place(document["machine"], root) | {"checkpoints": {}, "folder": str(root)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"The virtual machine configuration '{vmcx}' might be corrupt or not valid."
            raise HyperVError("OperationFailed", cmdlet, text) from error
        machine.checkpoints = checkpoints
        return machine, tuple(missing)

    def _lacks(self, machine: Machine) -> Iterator[tuple[int, str]]:
        """Yield what this host, or the export, does not have of what a VM needs."""
        if machine.switch and machine.switch not in self._host.switches:
            yield _NO_SWITCH, f"Could not find Ethernet switch '{machine.switch}'."
        told: set[str] = set()
        for disks in (machine.disks, *(c.disks for c in machine.checkpoints.values())):
            for path in disks.values():
                try:
                    content_of(self._host.disks, path)
                except HyperVError as error:
                    if path not in told:
                        told.add(path)
                        yield _NO_DISK, f"Could not find virtual disk '{path}': {error}"


def _checkpoints(named: list[str], root: Path) -> tuple[dict[str, Checkpoint], list[tuple[int, str]]]:
    """Read the checkpoints of an export; return them, and which are missing."""
    found: dict[str, Checkpoint] = {}
    missing = []
    for checkpoint_id in named:
        path = root / SNAPSHOTS / f"{checkpoint_id.upper()}.vmcx"
        try:
            found[checkpoint_id] = Checkpoint(**_in_place(json.loads(path.read_text(encoding="utf-8")), root))
        except (OSError, ValueError, TypeError, KeyError):
            missing.append((_NO_CHECKPOINT, f"Could not find the configuration of checkpoint '{checkpoint_id}'."))
    # Oldest first, as the model keeps them.
    return dict(sorted(found.items(), key=lambda item: item[1].created_at)), missing


def _in_place(document: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return a configuration whose files are named in full: what has no folder is in the export."""
    named: dict[str, Any] = {"disks": {at: str(root / path) for at, path in document["disks"].items()}}
    for name in {"strays", "leftovers"} & document.keys():
        named[name] = [str(root / path) for path in document[name]]
    return {**document, **named}
