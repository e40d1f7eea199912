"""Merging: files that no checkpoint and no VM uses any more go, one after another, in the background.

A file that was frozen in a removed checkpoint stays as a branch point while two files or more stand on it. With one,
that one is merged into it and takes its path (documented for the offline merge, inferred here; docs/hyperv.md,
section 2). With none, it is deleted if the hypervisor made it; a disk that somebody else made stays where it is
(inferred). A stray (conditions.py) stays, as if somebody used it. The VM keeps what is left over (machine.py), so a
merge goes on after any restart. VMs do not wait for one another's merges.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from snapshotd.simulator.model.disks import is_differencing
from snapshotd.simulator.model.host import HYPERVISOR, HostState
from snapshotd.simulator.model.machine import Machine

_LOOK_S: Final = 0.2
"""How often a merge looks whether there is room now."""


class Merging:
    """The background work of one host.

    Args:
        host: whose files are merged.
    """

    def __init__(self, host: HostState) -> None:
        self._host = host
        self._closed = False
        self._full: set[str] = set()
        """The VMs whose next merge finds no room."""
        self._under_way: dict[str, tuple[str, float]] = {}
        """The file that goes, and since when, of each VM that merges."""
        self._thread = threading.Thread(target=self._run, name="merging", daemon=True)
        host.ends_merges = self.finish
        for machine in (*host.machines.values(), *host.removed.values()):
            self.take_in(machine)
        self._thread.start()

    def look_at(self, vm_id: str) -> None:
        """Look for something to merge, since a VM's checkpoints have changed. The lock is held, or not needed."""
        with self._host.changed:
            self._choose(vm_id)
            self._host.changed.notify_all()

    def forget(self, vm_id: str) -> None:
        """Do nothing more for a VM that leaves. The lock is held; what is left to merge follows from its files."""
        self._under_way.pop(vm_id, None)

    def take_in(self, machine: Machine) -> None:
        """Go on with a VM that has come."""
        with self._host.changed:
            self._end_what_was_cut(machine)
            self.look_at(machine.vm_id)

    def finish(self, vm_id: str) -> None:
        """Do at once what is left to be done of a VM that was removed: it comes back. The lock is held."""
        while vm_id in self._host.removed and (left := self._superfluous(self._host.removed[vm_id])):
            self._merge_away(self._host.removed[vm_id], left[0])
        self._under_way.pop(vm_id, None)
        if vm_id in self._host.removed:
            self._host.bury(self._host.removed[vm_id])

    def pending(self, machine: Machine) -> bool:
        """Return whether some file of a VM has to go. The lock is held."""
        return bool(self._superfluous(machine))

    def percent(self, vm_id: str) -> int:
        """Return how far the merge under way of a VM has come. The lock is held."""
        lasts_s = self._host.duration_s("merge")
        if vm_id not in self._under_way or not lasts_s:
            return 0
        _, began_s = self._under_way[vm_id]
        return min(99, int(100 * (time.monotonic() - began_s) / lasts_s))

    def age_s(self, vm_id: str) -> float:
        """Return how long the merge under way of a VM has run. The lock is held."""
        _, began_s = self._under_way.get(vm_id, ("", time.monotonic()))
        return time.monotonic() - began_s

    def close(self) -> None:
        """End the work. The lock is not held."""
        with self._host.changed:
            self._closed = True
            self._host.changed.notify_all()
        self._thread.join()

    def _superfluous(self, machine: Machine) -> list[str]:
        """Return the files that have to go, each chain's lowest first."""
        if not machine.leftovers:
            return []
        disks = self._host.disks
        used = {*machine.disks.values(), *(p for s in machine.checkpoints.values() for p in s.disks.values())}
        # A stray stays in its chain: it is merged into nothing, and nothing into it.
        used |= {p for stray in machine.strays for p in disks.chain(stray)[:2]}
        away = self._host.is_away(machine)
        own = {file for path in machine.files() for file in disks.own(path)}
        left = [
            path
            for path in machine.leftovers
            if path not in used
            and path in disks
            and len(disks.children(path)) <= 1
            and own.issuperset(disks.children(path))
            and (away or all(disks.is_there(file) for file in (path, *disks.children(path))))
        ]
        return sorted(left, key=lambda path: len(disks.chain(path)))

    def _is_away(self, vm_id: str) -> bool:
        return self._host.is_away(self._host.known(vm_id))

    def _choose(self, vm_id: str) -> None:
        """Begin the next merge of a VM, or none; one that is under way and has still to be done goes on."""
        machine = self._host.known(vm_id)
        superfluous = self._superfluous(machine)
        path, _ = self._under_way.get(vm_id, ("", 0.0))
        if not superfluous:
            self._under_way.pop(vm_id, None)
            if vm_id in self._host.removed:
                self._host.bury(machine)
        elif path not in superfluous:
            self._under_way[vm_id] = (superfluous[0], time.monotonic())

    def _run(self) -> None:
        with self._host.changed:
            while not self._closed:
                for vm_id in tuple(self._under_way):
                    self._end_those_due(vm_id)
                self._host.changed.wait(self._next_is_due_in_s())

    def _end_those_due(self, vm_id: str) -> None:
        while vm_id in self._under_way and not self._is_away(vm_id):
            path, began_s = self._under_way[vm_id]
            if time.monotonic() < began_s + self._host.duration_s("merge"):
                return
            machine = self._host.known(vm_id)
            self._full.discard(vm_id)
            if not self._has_room(path):
                self._full.add(vm_id)
                return
            if path in self._superfluous(machine):  # else somebody has deleted a file meanwhile
                self._merge_away(machine, path)
            self._choose(vm_id)

    def _has_room(self, path: str) -> bool:
        """Return whether what stands on a file can be merged into it: the file grows before the other one goes."""
        grows = [self._host.disks.grows_by(child) for child in self._host.disks.children(path)[:1]]
        free = self._host.volumes.free_bytes(path)
        return free is None or not grows or grows[0] <= free

    def _next_is_due_in_s(self) -> float | None:
        """Return how long nothing has to be done; None if until something changes."""
        if self._full.intersection(self._under_way):
            return _LOOK_S  # nobody tells when a file was deleted
        began_s = [began_s for vm_id, (_, began_s) in self._under_way.items() if not self._is_away(vm_id)]
        if not began_s:
            return None
        return max(0.0, min(began_s) + self._host.duration_s("merge") - time.monotonic())

    def _merge_away(self, machine: Machine, path: str) -> None:
        """Merge the one file that stands on `path` into it, or delete `path` if none does."""
        disks = self._host.disks
        children = disks.children(path)
        if not children:
            machine.leftovers.remove(path)
            if not is_differencing(path):
                disks.forget([path], self._host.known_files())
                self._host.keep(machine)
                return
            disks.delete(path)
            self._host.record(machine, HYPERVISOR, "disk_merged", file=path, into="")
            return
        (child,) = children
        disks.lay_into_parent(child)
        for files in (machine.disks, *(s.disks for s in machine.checkpoints.values())):
            for location, used in files.items():
                if used == child:
                    files[location] = path
        # The lower file is what the upper one was, left over or not.
        machine.leftovers.remove(child if child in machine.leftovers else path)
        self._host.record(machine, HYPERVISOR, "disk_merged", file=child, into=path)
        disks.dissolve(child)

    def _end_what_was_cut(self, machine: Machine) -> None:
        """Remove the file of a merge on record, if the process was killed before it could."""
        last = machine.last_effect
        if last is None or last["effect"] != "disk_merged":
            return
        file = last["detail"]["file"]
        if self._host.disks.is_kept(file):
            self._host.disks.adopt(file)
            self._host.disks.dissolve(file)
