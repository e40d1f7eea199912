"""Copies of exported VMs: what Import-VM -Copy makes of one before it is registered."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

from snapshotd.domain.state import replace
from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model.exported import DISKS
from snapshotd.simulator.model.host import HostState
from snapshotd.simulator.model.machine import Machine
from snapshotd.simulator.model.writing import write_piece


def give_new_ids(machine: Machine, vm_id: str) -> None:
    """Make an exported VM another one: with this id, and with new ones of its checkpoints."""
    new = {checkpoint_id: str(uuid.uuid4()) for checkpoint_id in machine.checkpoints}
    machine.vm_id = vm_id.lower()
    machine.current_id = new.get(machine.current_id, "")
    machine.checkpoints = {
        new[c]: replace(checkpoint, checkpoint_id=new[c], parent_id=new.get(checkpoint.parent_id, ""))
        for c, checkpoint in machine.checkpoints.items()
    }


def copy_disks(host: HostState, machine: Machine, target: Path) -> None:
    """Copy the files of an exported VM to a folder, and have it use the copies. Raises HyperVError; then none is left.

    Args:
        host: where it comes to.
        machine: the VM; its folder is that of the export.
        target: where to.
    """
    copies = {path: target / Path(path).name for path in _exported_files(host, machine)}
    for copy in copies.values():
        if copy.exists():
            raise HyperVError("OperationFailed", "Import-VM", f"The file '{copy}' exists. (0x80070050)")
    try:
        for path, copy in copies.items():
            write_piece(host, copy, _relinked(host, path, copies), whole=True)
    except (HyperVError, OSError):
        for copy in copies.values():
            copy.unlink(missing_ok=True)
        raise

    def copied(path: str) -> str:
        return str(copies.get(path, path))

    for disks in (machine.disks, *(checkpoint.disks for checkpoint in machine.checkpoints.values())):
        disks |= {location: copied(path) for location, path in disks.items()}
    machine.strays, machine.leftovers = [*map(copied, machine.strays)], [*map(copied, machine.leftovers)]


def _exported_files(host: HostState, machine: Machine) -> list[str]:
    """Return the files of a VM's chains that are in its export, parents first; those elsewhere are not copied."""
    folder = Path(machine.folder) / DISKS
    files: dict[str, None] = {}
    for leaf in sorted(machine.files()):
        chain: list[str] = []
        path = leaf
        while path and Path(path).parent == folder and (found := host.disks.find(path)) is not None:
            chain.insert(0, found[0])
            path = found[1].parent
        files |= dict.fromkeys(chain)
    return list(files)


def _relinked(host: HostState, path: str, copies: Mapping[str, Path]) -> str:
    """Return the text of a file whose parent, if that is copied too, is beside it."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    found = host.disks.find(path)
    if found is not None and found[1].parent in copies:
        document["parent"] = copies[found[1].parent].name
    return json.dumps(document)
