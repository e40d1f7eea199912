"""What is attached to a VM, and where: each place of a controller, and the volume behind the files that stand on it.

A disk's place is its identity. The file that it is written to changes with each checkpoint; the volume is the file
below those that checkpoints have made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from snapshotd.domain import host_path
from snapshotd.domain.host_report import DiskFile, VmDescription, file_key
from snapshotd.domain.state import State

SUFFIXES: Final = frozenset({".vhd", ".vhdx"})
"""Of the files that can be attached by name. What checkpoints make (.avhd, .avhdx) belongs to its chain."""
_OF_CHECKPOINTS: Final = frozenset({".avhd", ".avhdx"})


class Controller(Enum):
    """The kinds of controllers that disks are attached to, with how many of them a VM may have, and their places."""

    SCSI = (4, 64)
    IDE = (2, 2)


class Place(State, frozen=True):
    """Where a disk is attached."""

    controller: Controller
    number: int
    slot: int

    def __str__(self) -> str:
        """Return it as reports and requests have it: SCSI:0:1."""
        return f"{self.controller.name}:{self.number}:{self.slot}"


class Attached(State, frozen=True):
    """A volume at its place."""

    location: str
    path: str
    """The volume's file; empty: a pass-through disk, or a chain that cannot be followed to its end."""
    size_bytes: int
    """What the guest sees; 0: not known."""


_PLACE: Final = re.compile(r"(SCSI|IDE):(\d{1,3}):(\d{1,3})", re.IGNORECASE)


def place_of(text: str) -> Place | None:
    """Return the place that a text names, in any case; None if no VM can have it."""
    found = _PLACE.fullmatch(text)
    if found is None:
        return None
    place = Place(Controller[found[1].upper()], int(found[2]), int(found[3]))
    numbers, slots = place.controller.value
    return place if place.number < numbers and place.slot < slots else None


def free_place(description: VmDescription) -> Place | None:
    """Return the first free place of the SCSI controllers that a VM is known to have; None if all are taken.

    A controller shows by its disks. The first one is there unless somebody has removed it (observed).
    """
    taken = {place for disk in description.disks if (place := place_of(disk.location)) is not None}
    numbers = {0} | {place.number for place in taken if place.controller is Controller.SCSI}
    slots = range(Controller.SCSI.value[1])
    places = (Place(Controller.SCSI, number, slot) for number in sorted(numbers) for slot in slots)
    return next((place for place in places if place not in taken), None)


def attached(description: VmDescription) -> dict[str, Attached]:
    """Return, by their places, the volumes that a VM has."""
    files = {file_key(file.path): file for file in description.files}
    found = {}
    for disk in description.disks:
        at = files.get(file_key(disk.path))
        found[disk.location] = Attached(disk.location, _volume(files, disk.path), at.size_bytes if at else 0)
    return found


def attached_at(description: VmDescription, location: str) -> Attached | None:
    """Return the volume at a place; None if nothing is attached there."""
    return attached(description).get(location)


def has_file(description: VmDescription, path: str) -> bool:
    """Return whether a file is one of a VM's: in a chain of its disks, or of its checkpoints' disks."""
    return host_path.normalised(path) in file_forms(description)


def file_paths(description: VmDescription) -> frozenset[str]:
    """Return the paths of all files of a VM, as its host spells them."""
    heads = (disk.path for disks in (description.disks, *(c.disks for c in description.checkpoints)) for disk in disks)
    return frozenset(filter(None, (*heads, *(f.path for f in description.files))))


def file_forms(description: VmDescription) -> frozenset[str]:
    """Return the normal forms of the paths of all files of a VM."""
    return frozenset(map(host_path.normalised, file_paths(description)))


def whole(description: VmDescription) -> bool:
    """Return whether all chains could be followed: a missing file hides those below it."""
    return not any(file.missing for file in description.files)


def stands_on(description: VmDescription, path: str) -> Iterable[str]:
    """Yield the files that are based on a file."""
    return (f.path for f in description.files if f.parent_path and host_path.same(f.parent_path, path))


def _volume(files: Mapping[str, DiskFile], head: str) -> str:
    at, seen = head, set[str]()
    while host_path.suffix(at) in _OF_CHECKPOINTS and file_key(at) not in seen:
        seen.add(file_key(at))
        file = files.get(file_key(at))
        at = file.parent_path if file is not None else ""
    return at
