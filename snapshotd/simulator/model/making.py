"""Makes the VMs that a host begins with, and their disks, by the inventory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from snapshotd.simulator.model.disks import IMAGES, DiskFiles, new_disk
from snapshotd.simulator.model.inventory import Inventory, InventoryVm
from snapshotd.simulator.model.machine import Machine, rfc3339

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
"""The characters of a VM's name that a file name cannot have."""


def make_machines(disks: DiskFiles, inventory: Inventory) -> Iterator[Machine]:
    """Make the images, and then each VM. Raises ValueError for a disk that another host uses."""
    for image in inventory.images:
        parent = disks.image(image.parent) if image.parent else ""
        disks.make_disk(IMAGES, image.name, new_disk(image.size_bytes, parent=parent, blocks=image.blocks))
    for vm in inventory.vms:
        yield _make(disks, vm)


def _make(disks: DiskFiles, vm: InventoryVm) -> Machine:
    now = rfc3339(datetime.now(UTC))
    return Machine(
        created_at=now,
        running_since=now if vm.state in ("Running", "Paused") else "",
        vm_id=vm.vm_id,
        name=vm.name,
        state=vm.state,
        cpu_count=vm.cpu_count,
        memory_bytes=vm.memory_bytes,
        dynamic_memory=vm.dynamic_memory,
        minimum_bytes=vm.minimum_bytes,
        maximum_bytes=vm.maximum_bytes,
        generation=vm.generation,
        checkpoint_type=vm.checkpoint_type,
        switch=vm.switch,
        blockers=list(vm.blockers),
        disks={
            location: disks.make_disk(
                vm.vm_id,
                f"{_UNSAFE.sub('_', vm.name)}-{vm.vm_id[:8]}-{n}",
                new_disk(disk.size_bytes, parent=disks.image(disk.image) if disk.image else ""),
            )
            for n, (location, disk) in enumerate(vm.disks.items())
        },
        memory="" if vm.state == "Off" else f"booted {vm.vm_id}",
        vss=vm.vss,
        automatic_checkpoints=vm.automatic_checkpoints,
    )
