"""What attaching, detaching and resizing have in common: what forbids it, and what the operation means for the VM.

Snapshots and checkpoints hold a VM's disks as they were. So nothing changes them while the VM has a snapshot, in
whatever state but REMOVED, or a checkpoint that others made (rules of the seed).
"""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from snapshotd.domain import events as e
from snapshotd.domain.attached import Attached, attached, place_of
from snapshotd.domain.errors import InvalidArgument, SnapshotdError
from snapshotd.domain.foreign_checkpoints import foreign_checkpoints
from snapshotd.domain.host_path import same, suffix
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import (
    VmHasForeignCheckpoints,
    VmHasSnapshots,
    VmHasTemporaryCheckpoint,
    VolumeNotFound,
    VolumeNotUsable,
)
from snapshotd.operations.kind import Kind, move_vm
from snapshotd.operations.snapshots import alive, listed
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.attachment import wrong_power_at

SMALLEST: Final = 3 << 20
"""The least bytes of a virtual disk (documented)."""
LARGEST: Final = {".vhdx": 64 << 40, ".vhd": 2040 << 30}
"""The most (documented), by the file's format."""
SECTOR: Final = 4096
"""A size is a multiple of this: of the largest sector that a virtual disk can have (documented)."""


class Placed(Protocol):
    """Params that name a place."""

    @property
    def location(self) -> str:
        """The place, as it is recorded."""


class VolumeChange(Kind):
    """Change what is attached to a VM."""

    params: Versioned[Placed]
    verb: ClassVar[str]
    """attach, detach, resize."""

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to RECONFIGURING."""
        return (move_vm(vm, "reconfiguration_begins"),)

    def forbids(self, vm: VirtualMachine, location: str) -> SnapshotdError | None:
        """Return why nothing is changed at a place as things are now; None if it may be."""
        action = f"{self.verb} a volume of" if self.verb != "attach" else "attach a volume to"
        return wrong_power_at(vm, location, self.verb) or held_by_snapshots(vm, action)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the power has changed, or somebody has taken a checkpoint, since it was accepted."""
        forbidden = self.forbids(vm, self.params.read(operation.params).location)
        return Failure.of(forbidden) if forbidden else None


def held_by_snapshots(vm: VirtualMachine, action: str) -> SnapshotdError | None:
    """Return which snapshots or checkpoints keep the VM's disks as they are; None if none does.

    Args:
        vm: the VM.
        action: what cannot be done then, as a verb phrase: "attach a volume to".
    """
    if own := alive(vm):
        names = [s.name if s.state is SnapshotState.READY else f"{s.name}, which is {s.state.name}" for s in own]
        return VmHasSnapshots(vm.name, listed(names, "; "), action)
    others = [f"{c.name!r}, {c.checkpoint_id}" for c in foreign_checkpoints(vm)]
    if others:
        return VmHasForeignCheckpoints(vm.name, listed(others, "; "), action, vm.host_id)
    left = vm.temporary_checkpoints().values()
    return VmHasTemporaryCheckpoint(vm.name, next(iter(left)), action) if left else None


def canonical(location: str, field: str = "location") -> str:
    """Return a place as reports name it. Raises InvalidArgument for one that no VM can have."""
    place = place_of(location)
    if place is None:
        text = "must be a place such as SCSI:0:1 (SCSI:0:0 to SCSI:3:63) or IDE:0:1 (IDE:0:0 to IDE:1:1)."
        raise InvalidArgument(field, location[:80], text)
    return str(place)


def check_size(size_bytes: int, path: str, field: str = "size_bytes") -> None:
    """Raise InvalidArgument for a size that a volume of that file cannot have."""
    largest = LARGEST.get(suffix(path), LARGEST[".vhdx"])
    if not SMALLEST <= size_bytes <= largest or size_bytes % SECTOR:
        text = f"must be a multiple of {SECTOR} bytes, from {SMALLEST >> 20} MiB to {largest >> 30:,} GiB."
        raise InvalidArgument(field, f"{size_bytes:,}", text)


def volume_at(vm: VirtualMachine, location: str, verb: str) -> Attached:
    """Return the volume at a place.

    Raises VolumeNotFound if there is none, and VolumeNotUsable for a disk without a file of its own.
    """
    assert vm.description is not None, vm.vm_id
    places = attached(vm.description)
    found = places.get(location)
    if found is None:
        there = ", ".join(f"{a.location} ({a.path or 'no file'})" for a in places.values()) or "no disk"
        raise VolumeNotFound(vm.name, location, there, verb)
    disk = next(d for d in vm.description.disks if d.location == location)
    if not found.path:
        why = "it is a physical disk, or its chain of files is broken"
    elif not same(found.path, disk.path):
        why = f"it writes to {disk.path}, which a checkpoint has left above {found.path}: merge that on the host first"
    else:
        return found
    raise VolumeNotUsable(vm.name, location, verb, why)
