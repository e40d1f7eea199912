"""Virtual hard disks that no VM need have: made, resized, and what scripts do to files and folders themselves."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.model.disks import SMALLEST_BYTES, DiskFile, new_disk, real_path
from snapshotd.simulator.model.host import HostState, invalid_state
from snapshotd.simulator.model.machine import Machine
from snapshotd.simulator.model.opened_files import opened_by

_EXTENSIONS: Final = (".vhdx", ".vhd", ".avhdx", ".avhd")
_LARGEST_BYTES: Final = 64 << 40
"""Of a VHDX (documented)."""


class Vhds:
    """The cmdlets about virtual hard disk files of one host, and the file operations of scripts.

    Args:
        host: whose.
    """

    def __init__(self, host: HostState) -> None:
        self._host = host

    def new_vhd(self, caller: Caller, path: str, size_bytes: int, *, parent: str = "", fixed: bool = False) -> None:
        """New-VHD: dynamic, fixed, or differencing over a parent, whose size it has if none is given (0)."""
        cmdlet = "New-VHD"
        with self._host.changed:
            self._host.pass_by(caller, cmdlet, "before")
            file = self._new(cmdlet, path, size_bytes, parent, fixed=fixed)
            cause = self._host.cause_of_none(caller)
            needed = size_bytes if fixed else len(file.document())
            self._host.volumes.check(path, needed, cmdlet, f"Failed to create the virtual hard disk '{path}'")
            self._host.disks.make_file(path, file)
            kind = file.vhd_type
            self._host.note(cause, "disk_created", path=path, size_bytes=file.size_bytes, parent=file.parent, type=kind)
            self._host.watch_file(path)
            self._host.pass_by(caller, cmdlet, "started")
            self._host.pass_by(caller, cmdlet, "after")

    def _new(self, cmdlet: str, path: str, size_bytes: int, parent: str, *, fixed: bool) -> DiskFile:
        """Return the file that is to be made at a path. Raises HyperVError."""
        if not path.lower().endswith(_EXTENSIONS) or not Path(path).is_absolute():
            text = f"'{path}' is no path of a virtual hard disk: it is not absolute, or not a .vhdx."
            raise HyperVError("InvalidParameter", cmdlet, text)
        failed = f"Failed to create the virtual hard disk. The system failed to create '{path}'"
        if os.path.lexists(real_path(path)):
            raise HyperVError("OperationFailed", cmdlet, f"{failed}: The file exists. (0x80070050).")
        if not Path(path).parent.is_dir():
            # Inferred: the cmdlet makes no folder.
            text = f"{failed}: The system cannot find the path specified. (0x80070003)."
            raise HyperVError("OperationFailed", cmdlet, text)
        if parent:
            found = self._host.disks.find(parent)
            if found is None:
                raise _not_found(parent, cmdlet)
            parent, below = found
            size_bytes = size_bytes or below.size_bytes
        if not SMALLEST_BYTES <= size_bytes <= _LARGEST_BYTES and not parent:
            text = f"{failed}: {size_bytes} bytes are no size of a virtual hard disk. (0x80070057)."
            raise HyperVError("InvalidParameter", cmdlet, text)
        made = new_disk(size_bytes, parent=parent)
        return DiskFile(made.parent, made.size_bytes, made.blocks, made.identifier, fixed=fixed)

    def resize_vhd(self, caller: Caller, path: str, size_bytes: int) -> None:
        """Resize-VHD: an IDE drive's only while its VM is off, SCSI also while it runs; a VHDX can shrink (documented).

        A differencing disk, and one that others descend from, is refused here; a host lets the chain break (observed).
        """
        cmdlet = "Resize-VHD"
        with self._host.changed:
            self._host.pass_by(caller, cmdlet, "before")
            found = self._host.disks.find(path)
            if found is None or not self._host.disks.is_there(found[0]):
                raise _not_found(path, cmdlet)
            real, file = found
            users = [m for m in self._host.machines.values() if real in m.disks.values()]
            self._check_size(cmdlet, real, file, size_bytes)
            for machine in users:
                _check_use(cmdlet, machine, real)
            cause = self._host.cause(caller, users[0]) if users else self._host.cause_of_none(caller)
            grows = size_bytes - file.size_bytes if file.fixed else 0
            self._host.volumes.check(real, grows, cmdlet, f"Failed to resize the virtual disk '{real}'")
            self._host.disks.resize(real, size_bytes)
            detail: Mapping[str, Any] = {"path": real, "size_bytes": size_bytes, "was": file.size_bytes}
            for machine in users[:1]:
                self._host.record(machine, cause, "disk_resized", **detail)
            if not users:
                self._host.note(cause, "disk_resized", **detail)
            self._host.pass_by(caller, cmdlet, "started")
            self._host.pass_by(caller, cmdlet, "after")

    def _check_size(self, cmdlet: str, path: str, file: DiskFile, size_bytes: int) -> None:
        disks = self._host.disks
        frozen = any(path in c.disks.values() for m in self._host.machines.values() for c in m.checkpoints.values())
        failed = f"Failed to resize the virtual disk '{path}'."
        # The texts of the real ones are not known.
        if file.parent or frozen or disks.children(path):
            text = f"{failed} It is a differencing disk, or others stand on it."
            raise HyperVError("OperationFailed", cmdlet, text)
        if size_bytes < file.size_bytes and not path.lower().endswith(".vhdx"):
            raise HyperVError("OperationFailed", cmdlet, f"{failed} Only a VHDX can be made smaller.")
        if not disks.minimum_bytes(path) <= size_bytes <= _LARGEST_BYTES:
            text = f"{failed} {size_bytes} bytes are less than its minimum, {disks.minimum_bytes(path)}, or too many."
            raise HyperVError("InvalidParameter", cmdlet, text)

    def exists(self, path: str) -> bool:
        """Return whether a file or a folder is there."""
        return Path(real_path(path)).exists()

    def delete_file(self, path: str) -> None:
        """Delete a file, as [IO.File]::Delete does: one that is not there is no error, a folder that is not is one."""
        real = Path(real_path(path))
        with self._host.changed:
            if not real.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, "could not find a part of the path", path)
            self._check_closed([real])
            real.unlink(missing_ok=True)
            self._host.notice_files()

    def delete_folder(self, path: str) -> None:
        """Delete a folder with all that is in it, as [IO.Directory]::Delete does. Raises OSError."""
        real = Path(real_path(path))
        with self._host.changed:
            self._check_closed(_files_in(real))
            shutil.rmtree(real)
            self._host.notice_files()

    def move_folder(self, source: str, target: str) -> None:
        """Move a folder to where there is nothing, as [IO.Directory]::Move does. Raises OSError."""
        real = Path(real_path(source))
        with self._host.changed:
            if Path(real_path(target)).exists():
                raise FileExistsError(errno.EEXIST, "cannot create a file when that file already exists", target)
            self._check_closed(_files_in(real))
            real.rename(target)
            self._host.notice_files()

    def _check_closed(self, files: Iterable[Path]) -> None:
        """Check that no VM that runs has one of these files open. Raises OSError."""
        opened = {file for machine in self._host.machines.values() for file in opened_by(self._host, machine)}
        for file in files:
            if str(file) in opened:
                raise PermissionError(errno.EBUSY, "it is being used by another process", str(file))


def _files_in(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "could not find the folder", str(folder))
    return (path for path in folder.rglob("*") if path.is_file())


def _check_use(cmdlet: str, machine: Machine, path: str) -> None:
    """Check that a VM lets its disk be resized as it is. Raises HyperVError."""
    ide = any(at.startswith("IDE") for at, used in machine.disks.items() if used == path)
    if ide and machine.state in ("Running", "Paused"):
        text = f"Failed to resize the virtual disk '{path}': it is being used by another process. (0x80070020)"
        raise HyperVError("ObjectInUse", cmdlet, text)
    if machine.state == "Saved":  # inferred: the guest's memory knows its disks
        raise invalid_state(cmdlet)


def _not_found(path: str, cmdlet: str) -> HyperVError:
    text = f"The system failed to get information about the virtual hard disk '{path}'."
    return HyperVError("ObjectNotFound", cmdlet, text)
