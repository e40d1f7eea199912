"""How jobs write files that are no VM's: with the errors that Windows has for what can go wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model.disks import AWAY
from snapshotd.simulator.model.host import HostState

_HRESULTS: Final = {
    errno.ENOENT: "0x80070003",
    errno.ENOTDIR: "0x80070003",
    errno.EEXIST: "0x80070050",
    errno.EACCES: "0x80070005",
    errno.EPERM: "0x80070005",
    errno.EROFS: "0x80070013",
    errno.ENOSPC: "0x80070070",
    errno.EDQUOT: "0x80070070",
}
"""What Windows calls these errors (documented numbers)."""
_OTHERWISE: Final = "0x80004005"


def check_volume(host: HostState, path: Path) -> None:
    """Raise HyperVError if the folder that a path leads through is away, as a share that is down."""
    del host
    for folder in (path, *path.parents):
        if Path(f"{folder}{AWAY}").exists():
            raise HyperVError("OperationFailed", "", f"The network path was not found: '{path}'. (0x80070035)")


def write_piece(host: HostState, path: Path, text: str, *, whole: bool) -> None:
    """Write a file, its folder too, or the first half of it. Raises HyperVError."""
    check_volume(host, path)
    with told_as_windows_does(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.stat().st_size if path.exists() else 0
        host.volumes.require(path, len(text) // (1 if whole else 2) - there)
        path.write_text(text if whole else text[: len(text) // 2], encoding="utf-8")


@contextmanager
def told_as_windows_does(path: Path) -> Iterator[None]:
    """Raise HyperVError for an OSError inside; the texts of the real ones are not known."""
    try:
        yield
    except OSError as error:
        code = _HRESULTS.get(error.errno or 0, _OTHERWISE)
        raise HyperVError("OperationFailed", "", f"Failed to write '{path}': {error.strerror}. ({code})") from error
