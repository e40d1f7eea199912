"""Which files are a VM's own, and which of them may be deleted with it.

A disk's own files are what it begins with and, while that ends as the files of checkpoints and backups do, what that is
based on, up to the first file that does not. What lies below is a base image: other disks may stand on it, also of VMs
that nobody here knows of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snapshotd.domain.host_report import Disk, VmDescription, file_key

DIFFERENCING = (".avhdx", ".avhd")
"""How the files that checkpoints and backups make end (documented). A golden image's do not."""


@dataclass(frozen=True, slots=True)
class UsedFile:
    """A file that something else stands on, or lays claim to."""

    path: str
    by: str
    """What does, for people: "VM web02", or "another VM" on record."""


@dataclass(frozen=True, slots=True)
class Disposal:
    """What is to become of the files of a VM that is destroyed with its disks."""

    deleted: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    """Paths, each with why it is left."""


def own_files(description: VmDescription) -> tuple[str, ...]:
    """Return the files that are a VM's own and on the disk, sorted."""
    by_key = {file_key(file.path): file for file in description.files}
    own = dict[str, str]()
    for disk in _disks(description):
        at = file_key(disk.path)
        while (file := by_key.get(at)) is not None and at not in own:
            if not file.missing:
                own[at] = file.path
            at = file_key(file.parent_path) if at.endswith(DIFFERENCING) else ""
    return tuple(sorted(own.values()))


def _disks(description: VmDescription) -> Iterable[Disk]:
    yield from description.disks
    for checkpoint in description.checkpoints:
        yield from checkpoint.disks


def disposal(description: VmDescription, used: Iterable[UsedFile]) -> Disposal:
    """Return which of a VM's files are deleted with it, and which are left: those that others use, and base images.

    Args:
        description: the VM, as its host last reported it.
        used: those of its files that others use.
    """
    users = {file_key(file.path): file.by for file in used}
    own = own_files(description)
    keys = {file_key(path) for path in own}
    left = [(path, f"{users[file_key(path)]} uses it") for path in own if file_key(path) in users]
    for file in description.files:
        if file_key(file.path) not in keys and not file.missing:
            user = users.get(file_key(file.path))
            left.append((file.path, f"{user} uses it" if user else "a base image, on which other disks may stand"))
    return Disposal(tuple(path for path in own if file_key(path) not in users), tuple(sorted(left)))
