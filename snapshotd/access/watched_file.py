"""A small file that is read again when it has changed."""

from __future__ import annotations

from pathlib import Path

from snapshotd.small_file import SmallFile, read_small


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
