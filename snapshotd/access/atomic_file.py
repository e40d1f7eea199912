"""Writes small files so that nobody ever reads half of one, and only their owner reads those that are secret."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

SECRET: Final = 0o600
PUBLIC: Final = 0o644


def write_file(path: Path, content: bytes, mode: int, *, replace: bool = True) -> None:
    """Write a file in one step. It is on disk when this returns.

    Its owner is that of the former file, or of the directory: what root writes for a service, the service can read.

    Args:
        path: of the file.
        content: all of it.
        mode: SECRET or PUBLIC.
        replace: in place of a file of that name.

    Raises OSError; FileExistsError if there is one and it must not be replaced.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            give_to_owner(file.fileno(), path)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if replace:
            Path(temporary).replace(path)
        else:
            path.hardlink_to(temporary)
            Path(temporary).unlink()
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Return when the names in a directory are on the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def give_to_owner(handle: int, path: Path) -> None:
    """Give an open file to the owner of the file at `path`, or of its directory; only root can, or needs to."""
    if os.geteuid() == 0:
        like = path.stat() if path.exists() else path.parent.stat()
        os.fchown(handle, like.st_uid, like.st_gid)
