"""Volumes whose space runs out: directories that a test gives a size. What stands in them counts, whoever put it there.

A file counts as large as it is, a fixed disk with its whole size. A checkpoint counts its configuration and its memory
where its VM is. What is free is what is left of the size, so a file that somebody deletes gives its room back.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model.disks import DiskFiles
from snapshotd.simulator.model.machine import Machine

CONFIGURATION_BYTES: Final = 4096
"""What a checkpoint's configuration takes on the disk."""
NO_SPACE: Final = "There is not enough space on the disk. (0x80070070)"


class Volumes:
    """The volumes of one host that have a size; every other directory is without end.

    Args:
        file: keeps their sizes.
        disks: tells how large a virtual hard disk is.
        machines: the VMs, each with where it is.
    """

    def __init__(self, file: Path, disks: DiskFiles, machines: Callable[[], Iterable[tuple[Machine, str]]]) -> None:
        self._file = file
        self._disks = disks
        self._machines = machines
        self._sizes: dict[Path, int] = {}
        if file.exists():
            self._sizes = {Path(path): size for path, size in json.loads(file.read_text(encoding="utf-8")).items()}

    def set_free(self, volume: Path, free_bytes: int | None) -> None:
        """Give a directory the size with which so much of it is free now; None: no size any more."""
        self._sizes.pop(volume, None)
        if free_bytes is not None:
            self._sizes[volume] = 0
            self._sizes[volume] = self._used(volume) + free_bytes
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps({str(path): size for path, size in self._sizes.items()}), encoding="utf-8")
        beside.replace(self._file)

    def free_bytes(self, path: str | Path) -> int | None:
        """Return how much is free where a file is, or would be; None: no end of it."""
        volume = self._volume_of(Path(path))
        return None if volume is None else max(0, self._sizes[volume] - self._used(volume))

    def require(self, path: str | Path, needed_bytes: int) -> None:
        """Raise OSError (ENOSPC) if there is not so much room where a file is, or is to be."""
        free = self.free_bytes(path) if needed_bytes > 0 else None
        if free is not None and free < needed_bytes:
            raise OSError(errno.ENOSPC, "there is not enough space on the disk", str(path))

    def check(self, path: str | Path, needed_bytes: int, cmdlet: str, failed: str) -> None:
        """Raise HyperVError, with what has failed and the text of Windows, if there is not so much room."""
        try:
            self.require(path, needed_bytes)
        except OSError as error:
            raise HyperVError("OperationFailed", cmdlet, f"{failed}: {NO_SPACE}") from error

    def _volume_of(self, path: Path) -> Path | None:
        """Return the innermost directory with a size that a path is in."""
        if not self._sizes:
            return None
        return next((folder for folder in (path, *path.parents) if folder in self._sizes), None)

    def _used(self, volume: Path) -> int:
        files = [path for path in volume.rglob("*") if path.is_file() and self._volume_of(path) == volume]
        states = [
            state_bytes(machine) for machine, folder in self._machines() if self._volume_of(Path(folder)) == volume
        ]
        return sum(map(self._bytes_of, files)) + sum(states)

    def _bytes_of(self, path: Path) -> int:
        try:
            return self._disks.file_bytes(str(path)) if path.suffix.endswith("vhdx") else path.stat().st_size
        except OSError:
            return 0  # it has gone meanwhile


def state_bytes(machine: Machine) -> int:
    """Return what the checkpoints of a VM take besides their disks."""
    return sum(
        checkpoint_bytes(has_memory=c.has_memory, memory_bytes=c.memory_bytes or machine.memory_bytes)
        for c in machine.checkpoints.values()
    )


def checkpoint_bytes(*, has_memory: bool, memory_bytes: int) -> int:
    """Return what a checkpoint takes besides its disks."""
    return CONFIGURATION_BYTES + (memory_bytes if has_memory else 0)
