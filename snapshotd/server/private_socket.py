"""Sockets in a directory that only the service's user can enter: by one the executor in this process attaches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_OWNER_ENTERS: Final = 0o700
_OWNER_CONNECTS: Final = 0o600


class PrivateSocket:
    """A socket's place. What is bound there is reached by this process, and by nobody of another user.

    Args:
        directory: is made, or closed to others if it is there.
        name: of the socket in it.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._closed = False
        directory.mkdir(mode=_OWNER_ENTERS, exist_ok=True)
        directory.chmod(_OWNER_ENTERS)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        # A socket's path may have 107 bytes, and the directory's may be longer. This one is short, whatever it is.
        self._path = Path(f"/proc/self/fd/{self._directory}/{name}")

    @property
    def path(self) -> Path:
        """The path, which leads there from within this process only."""
        return self._path

    @property
    def address(self) -> str:
        """The address, which leads there from within this process only."""
        return f"unix:{self._path}"

    def close_to_others(self) -> None:
        """Take the rights of others away from the socket, which is bound by now."""
        self._path.chmod(_OWNER_CONNECTS)

    def close(self) -> None:
        """Remove the socket. May be repeated."""
        if not self._closed:
            self._closed = True
            self._path.unlink(missing_ok=True)
            os.close(self._directory)
