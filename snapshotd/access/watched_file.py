"""Small files that are read again when they have changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from snapshotd.small_file import SmallFile, read_small

_log = logging.getLogger(__name__)
T = TypeVar("T")


class WatchedFile:
    """Notices by a file's inode, size and times that it is another than before.

    Args:
        path: of the file.
        most_bytes: the largest that is read.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._looks: tuple[int, ...] | None = None

    def news(self) -> SmallFile | None:
        """Read the file; return None if it is the one that was read last.

        Raises OSError, each time, as long as it cannot be read.
        """
        try:
            # First, so that what is written while it is read counts as another change.
            found = self.path.stat()
            looks = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)
            if looks == self._looks:
                return None
            content = read_small(self.path, self._most_bytes)
        except OSError:
            self._looks = None
            raise
        self._looks = looks
        return content


class LastValid(Generic[T]):
    """What a file says, as it is now. A version that is not valid is logged, and the last valid one stays in force.

    Args:
        path: of the file.
        most_bytes: the largest that is read.
        read: returns what a version says.
        refused: what `read` raises for one that is not valid. Its text says what is wrong.

    Raises OSError, and what `read` raises, if it cannot be used at the start.
    """

    def __init__(
        self, path: Path, most_bytes: int, read: Callable[[Path, SmallFile], T], refused: type[Exception]
    ) -> None:
        self.path = path
        self._file = WatchedFile(path, most_bytes)
        self._read = read
        self._refused = refused
        self._trouble = ""
        self._lock = threading.Lock()
        content = self._file.news()
        assert content is not None, "the first look finds news"
        self._in_force = read(path, content)

    def now(self) -> T:
        """Return what is in force, in any thread."""
        with self._lock:
            try:
                if (news := self._file.news()) is not None:
                    self._in_force, self._trouble = self._read(self.path, news), ""
                    _log.info("%s was read anew", self.path)
            except (OSError, self._refused) as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _log.error("%s stays in force as it was: %s", self.path, error)
            return self._in_force
