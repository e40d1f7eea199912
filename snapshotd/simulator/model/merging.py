"""Merging: files that no checkpoint and no VM uses any more go, one after another, in the background.

A file that was frozen in a removed checkpoint stays as a branch point while two files or more stand on it. With one,
that one is merged into it and takes its path (documented for the offline merge, inferred here; hyperv.md, section 2).
With none, it is deleted. What is to be merged follows from the files alone, so a merge goes on after any restart.
"""

from __future__ import annotations

import threading
import time

from snapshotd.simulator.model.host import HYPERVISOR, HostState
from snapshotd.simulator.model.machine import Machine


class Merging:
    """The background work of one host.

    Args:
        host: whose files are merged.
    """

    def __init__(self, host: HostState) -> None:
        self._host = host
        self._closed = False
        self._wanted: set[str] = set()
        self._under_way = ("", 0.0)
        self._thread = threading.Thread(target=self._run, name="merging", daemon=True)
        for vm_id in host.machines:
            self.look_at(vm_id)
        self._thread.start()

    def look_at(self, vm_id: str) -> None:
        """A VM's checkpoints have changed: see whether there is something to merge. The lock is held, or not needed."""
        self._wanted.add(vm_id)
        with self._host.changed:
            self._host.changed.notify_all()

    def pending(self, machine: Machine) -> str | None:
        """Return the next file of a VM that has to go; None if its chains are as they should be."""
        disks = self._host.disks
        used = set(machine.disks.values()) | {p for s in machine.checkpoints.values() for p in s.disks.values()}
        for leaf in machine.disks.values():
            for path in disks.tree(disks.chain(leaf)[-1]):
                if path not in used and len(disks.children(path)) <= 1:
                    return path
        return None

    def percent(self, vm_id: str) -> int:
        """Return how far the merge under way has come, if it is of this VM."""
        of, began_s = self._under_way
        lasts_s = self._host.duration_s("merge")
        if of != vm_id or not lasts_s:
            return 0
        return min(99, int(100 * (time.monotonic() - began_s) / lasts_s))

    def close(self) -> None:
        """End the work. The lock is not held."""
        with self._host.changed:
            self._closed = True
            self._host.changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        host = self._host
        with host.changed:
            while not self._closed:
                vm_id = next(iter(self._wanted), None)
                if vm_id is None:
                    host.changed.wait()
                    continue
                self._wanted.discard(vm_id)
                machine = host.machines[vm_id]
                while (path := self.pending(machine)) is not None and self._took_its_time(vm_id):
                    # Others have had the lock meanwhile: look again at what is to be merged now.
                    if self.pending(machine) == path:
                        self._merge_away(machine, path)

    def _took_its_time(self, vm_id: str) -> bool:
        """Wait as long as a merge lasts; False: the host is closed."""
        self._under_way = (vm_id, time.monotonic())
        self._host.changed.wait_for(lambda: self._closed, self._host.duration_s("merge"))
        return not self._closed

    def _merge_away(self, machine: Machine, path: str) -> None:
        """Merge the one file that stands on `path` into it, or delete `path` if none does."""
        disks = self._host.disks
        children = disks.children(path)
        if not children:
            disks.delete(path)
            self._host.record(machine, HYPERVISOR, "disk_merged", file=path, into="")
            return
        (child,) = children
        disks.lay_into_parent(child)
        for files in (machine.disks, *(s.disks for s in machine.checkpoints.values())):
            for location, used in files.items():
                if used == child:
                    files[location] = path
        self._host.record(machine, HYPERVISOR, "disk_merged", file=child, into=path)
        disks.dissolve(child)
