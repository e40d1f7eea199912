"""The folds of VMs in memory: a cache of bounded size, from which what is in use is never dropped.

A fold is in use while a call works on its VM (`held`), and while an operation of it is active: the dispatcher needs
that one again and again. Of the others, the one used longest ago goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snapshotd.domain.ids import VmId
from snapshotd.domain.virtual_machine import VirtualMachine


class Folds:
    """The newest folds that are known of some VMs.

    Args:
        room: how many are kept beside those in use.
        dropped: is told of each that is dropped.
    """

    def __init__(self, room: int, dropped: Callable[[VmId], None]) -> None:
        self._room = room
        self._dropped = dropped
        self._at_work: dict[VmId, VirtualMachine] = {}
        """Those with an active operation."""
        self._idle: dict[VmId, VirtualMachine] = {}
        """The others. The one used longest ago comes first."""
        self._held: dict[VmId, int] = {}

    def __len__(self) -> int:
        return len(self._idle) + len(self._at_work)

    def at_work(self) -> tuple[VirtualMachine, ...]:
        """Return those with an active operation."""
        return tuple(self._at_work.values())

    def get(self, vm_id: VmId) -> VirtualMachine | None:
        """Return the fold of a VM; None: it is not in memory, or not on record."""
        found = self._idle.pop(vm_id, None)
        if found is None:
            return self._at_work.get(vm_id)
        self._idle[vm_id] = found
        return found

    def put(self, vm: VirtualMachine) -> VirtualMachine:
        """Return the newer one of a fold and what is known, and keep it if the VM is on record."""
        known = self.get(vm.vm_id)
        if known is not None and known.version >= vm.version:
            return known
        if vm.version:
            self._idle.pop(vm.vm_id, None)
            self._at_work.pop(vm.vm_id, None)
            (self._at_work if vm.active else self._idle)[vm.vm_id] = vm
            self._make_room()
        return vm

    def drop(self, vm_id: VmId) -> None:
        """Forget a fold that may not be the newest any more."""
        known = self._idle.pop(vm_id, None) or self._at_work.pop(vm_id, None)
        if known is not None:
            self._dropped(vm_id)

    @contextmanager
    def held(self, vm_id: VmId) -> Iterator[None]:
        """Keep a VM's fold in memory, once it is there: else an older one might be read back in place of the newest."""
        self._held[vm_id] = self._held.get(vm_id, 0) + 1
        try:
            yield
        finally:
            self._held[vm_id] -= 1
            if not self._held[vm_id]:
                del self._held[vm_id]

    def _make_room(self) -> None:
        """Drop those used longest ago. One that is held goes to the end."""
        for _ in range(len(self._idle) - self._room):
            vm_id, vm = next(iter(self._idle.items()))
            del self._idle[vm_id]
            if vm_id in self._held:
                self._idle[vm_id] = vm
            else:
                self._dropped(vm_id)
