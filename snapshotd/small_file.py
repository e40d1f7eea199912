"""Reads the small files that people name in settings: credentials, the settings file, a simulated host's inventory.

Such a name may lead anywhere: to a pipe that nobody writes to, a device, a file of gigabytes. So only a regular file is
opened, never for long, and never read beyond a limit. Writes nothing.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
BOM: Final = "\ufeff"
"""The byte order mark, as a character."""
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class SmallFile:
    """What was read."""

    content: bytes
    mode: int
    """Of the file that the content is from; a look by name could see another one."""


def read_small(path: Path, most_bytes: int) -> SmallFile:
    """Read a regular file of at most `most_bytes` bytes, without ever waiting for another process.

    Raises OSError with a `strerror` for people and the path as `filename`: EINVAL if it is no regular file, EFBIG if it
    is larger, else as the system says.
    """
    # Before it is opened: to open a device may already do something.
    _refuse_irregular(path, path.stat().st_mode)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        _refuse_irregular(path, mode)
        content = b""
        while piece := os.read(handle, most_bytes + 1 - len(content)):
            content += piece
    finally:
        os.close(handle)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes", str(path))
    return SmallFile(content, mode)


def text_of(content: bytes) -> str:
    """Return a file's text: UTF-8, or UTF-16 with a byte order mark, as Windows programs save it; without that mark.

    Raises UnicodeDecodeError.
    """
    return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")


def toml_of(content: bytes) -> dict[str, Any]:
    """Return what a TOML file holds. Raises ValueError, also for one that is nested too deep."""
    try:
        return tomllib.loads(text_of(content))
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _refuse_irregular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((kind for is_one, kind in _KINDS if is_one(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, and must be a regular file", str(path))
