"""The actions of the host script that are about virtual disks (docs/host-protocol.md, 'Actions'). As effects.py."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterator
from typing import Final

from snapshotd.api.v1.executor_pb2 import HostCommand
from snapshotd.simulator.hypervisor import DriveView, HyperVError, Hypervisor
from snapshotd.simulator.journal import Output
from snapshotd.simulator.scene import Scene, until
from snapshotd.simulator.watched import find_file

_UNC: Final = re.compile(r"^\\\\\?\\UNC\\", re.IGNORECASE)
_PREFIX: Final = re.compile(r"^\\\\\?\\(?!Volume\{)", re.IGNORECASE)


def _attach(scene: Scene, command: HostCommand) -> None:
    wanted = command.volume_attach
    _refuse_in_chains(scene.host, [wanted.path], readable=True)
    scene.host.add_drive(scene.script, scene.vm.vm_id, wanted.location, wanted.path)
    until(scene, lambda: _at(scene, wanted.location) is not None, f"nothing is attached at {wanted.location}")


def _detach(scene: Scene, command: HostCommand) -> None:
    location = command.volume_detach.location
    if _at(scene, location) is None:
        raise HyperVError("DriveNotFound,snapshotd", "Remove-VMHardDiskDrive", f"Nothing is attached at {location}.")
    scene.host.remove_drive(scene.script, scene.vm.vm_id, location)
    until(scene, lambda: _at(scene, location) is None, f"there still is a disk at {location}")


def _resize(scene: Scene, command: HostCommand) -> None:
    wanted = command.volume_resize
    scene.host.resize_vhd(scene.script, wanted.path, wanted.size_bytes)

    def shows() -> bool:
        file = scene.host.vhd(wanted.path)
        return file is not None and file.size_bytes == wanted.size_bytes

    until(scene, shows, f"{wanted.path} does not have {wanted.size_bytes} bytes")


def _create(scene: Scene, command: HostCommand) -> Output:
    wanted = command.disk_create
    scene.host.new_vhd(scene.script, wanted.path, wanted.size_bytes)
    until(scene, lambda: scene.host.vhd(wanted.path) is not None, f"{wanted.path} is not there")
    made = scene.host.vhd(wanted.path)
    return {"identifier": made.identifier.lower() if made else ""}


def _delete(scene: Scene, command: HostCommand) -> None:
    wanted = command.files_delete
    # All are looked at before the first one goes. A directory that cannot be listed says nothing of its files.
    there = [path for path in wanted.paths if find_file(scene.host, path) is not None or scene.host.exists(path)]
    for path in there:
        file = scene.host.vhd(path)
        identifier = file.identifier.lower() if file else ""
        if wanted.only_identifier and identifier != wanted.only_identifier.lower():
            text = f"{path} is another virtual disk by now ({identifier or 'none that can be read'})."
            raise HyperVError("AnotherDisk,snapshotd", "Get-VHD", text)
    _refuse_in_chains(scene.host, there)
    for path in there:
        try:
            scene.host.delete_file(path)
        except OSError as error:
            raise HyperVError("IOException", "Delete", str(error)) from error
    until(scene, lambda: not any(map(scene.host.exists, there)), "the files are still there")


def _at(scene: Scene, location: str) -> DriveView | None:
    """Return what is attached at a place now."""
    vm = scene.host.vm(scene.vm.vm_id)
    return next((drive for drive in vm.drives if drive.location == location), None) if vm else None


def _refuse_in_chains(host: Hypervisor, paths: list[str], *, readable: bool = False) -> None:
    """Raise HyperVError if a disk of any VM of the host, or of a checkpoint, stands on one of these files.

    Hyper-V itself does not look. A chain that cannot be read is an error as well, unless only those count that can.
    """
    wanted, seen = {_form(path) for path in paths}, set[str]()
    for name, head in _heads(host):
        at = head
        while at and _form(at) not in seen:
            if _form(at) in wanted:
                raise HyperVError("FileInUse,snapshotd", "Get-VHD", f"{at} is in a chain of {name}.")
            try:
                file = find_file(host, at)
            except HyperVError:
                if not readable:
                    raise
                file = None
            seen.add(_form(at))
            at = file.parent_path if file else ""


def _heads(host: Hypervisor) -> Iterator[tuple[str, str]]:
    """Yield the files that the disks of VMs and of their checkpoints begin with, with the VMs' names."""
    for vm in host.vms():
        drives = (*vm.drives, *(drive for checkpoint in vm.checkpoints for drive in checkpoint.drives))
        yield from ((vm.name, drive.path) for drive in drives if drive.path)


def _form(path: str) -> str:
    """Return the one form that the spellings of a path share."""
    return os.path.normpath(_PREFIX.sub("", _UNC.sub(r"\\\\", path))).lower()


NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "volume_attach": ("location", "path"),
    "volume_detach": ("location", "path"),
    "volume_resize": ("location", "path", "size_bytes"),
    "disk_create": ("path", "size_bytes"),
    "files_delete": ("paths",),
}
"""As effects.NEEDED."""

ACTIONS: Final[dict[str, Callable[[Scene, HostCommand], Output | None]]] = {
    "volume_attach": _attach,
    "volume_detach": _detach,
    "volume_resize": _resize,
    "disk_create": _create,
    "files_delete": _delete,
}
"""Carries an action out; returns its output, or None. By the action's name."""
