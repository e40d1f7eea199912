"""The state directory: which VMs a host has, and a file for each. Holds no rule of Hyper-V's.

`state.json` names the host and its VMs; it is written last when the host is made, so that one half made is made again.
`machines/` has a file for each VM, written with each effect on it: a whole host would be too slow to write. `disks/`
has the virtual hard disks (disks.py), a folder for each VM, `snapshotd/` the journals.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from snapshotd.simulator.model.machine import Machine, read_machine


@dataclass(frozen=True, slots=True)
class KeptHost:
    """What is kept of a host as a whole."""

    name: str
    machines: tuple[Machine, ...]
    clock_offset_s: float = 0.0
    """How far its clock is ahead of this machine's, seconds."""
    loose: tuple[str, ...] = ()
    """Virtual hard disks that it has noticed and that no VM uses."""
    removed: tuple[Machine, ...] = ()
    """VMs that are gone, of which something has still to be merged."""
    switches: tuple[str, ...] = ()
    """Virtual switches that VMs can be connected to."""


class StateDirectory:
    """Where a host is kept.

    Args:
        path: made if it is missing. Kept absolute: disks are known by their paths, wherever the program is started.
        storage: where the disks are, if not in it: a directory that several hosts can have.
    """

    def __init__(self, path: Path, storage: Path | None = None) -> None:
        root = path.resolve()
        self.journals = root / "snapshotd"
        self.disks = root / "disks" if storage is None else storage.resolve()
        self.machines = root / "machines"
        self.volumes = root / "volumes.json"
        """The sizes of volumes that have one."""
        self._host = root / "state.json"
        for directory in (self.journals, self.disks, self.machines):
            directory.mkdir(parents=True, exist_ok=True)
        for unfinished in self.machines.glob("*.new"):
            unfinished.unlink()

    def read(self) -> KeptHost | None:
        """Return the host; None: there is none yet. Raises ValueError naming the file."""
        if not self._host.exists():
            if any(read_machine(path).effects for path in self.machines.glob("*.json")):
                raise ValueError(f"{self._host} is missing, and there are VMs with a history beside it")
            return None
        try:
            document = json.loads(self._host.read_text(encoding="utf-8"))
            name, vm_ids = document["name"], list(document["vms"])
            clock_offset_s = float(document.get("clock_offset_s", 0))
            loose = tuple(document.get("loose", ()))
            removed = tuple(self._machine(vm_id) for vm_id in document.get("removed", ()))
            switches = tuple(document.get("switches", ()))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self._host} is not the state of a host: {error!r}") from error
        machines = tuple(self._machine(vm_id) for vm_id in vm_ids)
        return KeptHost(name, machines, clock_offset_s, loose, removed, switches)

    def keep(self, host: KeptHost) -> None:
        """Keep a host as it is now; its VMs have files of their own."""
        document = {
            "name": host.name,
            "vms": [machine.vm_id for machine in host.machines],
            "clock_offset_s": host.clock_offset_s,
            "loose": list(host.loose),
            "removed": [machine.vm_id for machine in host.removed],
            "switches": list(host.switches),
        }
        beside = self._host.with_suffix(".new")
        beside.write_text(json.dumps(document) + "\n", encoding="utf-8")
        beside.replace(self._host)

    def remove(self, machine: Machine) -> None:
        """Remove the file of a VM that is not kept any more."""
        (self.machines / f"{machine.vm_id}.json").unlink(missing_ok=True)

    def _machine(self, vm_id: str) -> Machine:
        path = self.machines / f"{vm_id}.json"
        if not path.exists():
            raise ValueError(f"{path} is missing: {self._host} names that VM")
        return read_machine(path)
