"""How much the files of the storage take, and how much room is left. Read in a thread: a disk may hang."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FILES: Final = ("events.db", "views.db")
_BESIDE: Final = ("", "-wal", "-shm")
"""What SQLite keeps beside each."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a storage takes, in bytes."""

    files: Mapping[str, int]
    free: int
    """Of the file system, for a user without privileges."""
    size: int
    """Of the file system."""


class StorageUse:
    """Reads one storage.

    Args:
        directory: of the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reading: asyncio.Task[Use | None] | None = None

    async def read(self, patience_s: float) -> Use | None:
        """Return what it takes; None: that cannot be told just now.

        Of a disk that hangs there is one reading at a time: the threads are for everybody.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._read), name="use of the storage")
        done, _ = await asyncio.wait([self._reading], timeout=patience_s)
        return self._reading.result() if done else None

    def _read(self) -> Use | None:
        try:
            system = os.statvfs(self._directory)
            files = {name: sum(map(_size, (self._directory / f"{name}{end}" for end in _BESIDE))) for name in _FILES}
        except OSError:
            return None
        return Use(files, system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
