"""The VMs with an active operation, and no others: as they were last recorded, also by host."""

from __future__ import annotations

from collections.abc import Iterator

from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.virtual_machine import VirtualMachine


class ActiveVms:
    """The VMs that something is to be done about."""

    def __init__(self) -> None:
        """Begin with none."""
        self._vms: dict[VmId, VirtualMachine] = {}
        self._on: dict[HostId, dict[VmId, None]] = {}

    def __len__(self) -> int:
        return len(self._vms)

    def __iter__(self) -> Iterator[VirtualMachine]:
        return iter(tuple(self._vms.values()))

    def __getitem__(self, vm_id: VmId) -> VirtualMachine:
        return self._vms[vm_id]

    def get(self, vm_id: VmId) -> VirtualMachine | None:
        """Return a VM; None: it has no active operation."""
        return self._vms.get(vm_id)

    def on(self, host_id: HostId) -> tuple[VmId, ...]:
        """Return the VMs of a host, those that have been active for longest first."""
        return tuple(self._on.get(host_id, ()))

    def first_on(self, host_id: HostId) -> VirtualMachine | None:
        """Return the VM of a host that has been active for longest; None: none is."""
        vm_id = next(iter(self._on.get(host_id, ())), None)
        return None if vm_id is None else self._vms[vm_id]

    def keep(self, vm: VirtualMachine) -> VirtualMachine | None:
        """Keep the newest fold of a VM. Return the one that was kept before, if there was one."""
        known = self._vms.get(vm.vm_id)
        if known is not None and known.version > vm.version:
            return known
        if known is not None and known.host_id != vm.host_id:
            self._leave(known)
        self._vms[vm.vm_id] = vm
        self._on.setdefault(vm.host_id, {}).setdefault(vm.vm_id)
        return known

    def drop(self, vm_id: VmId) -> None:
        """Forget a VM: none of its operations is active any more."""
        if (vm := self._vms.pop(vm_id, None)) is not None:
            self._leave(vm)

    def _leave(self, vm: VirtualMachine) -> None:
        there = self._on[vm.host_id]
        del there[vm.vm_id]
        if not there:
            del self._on[vm.host_id]
