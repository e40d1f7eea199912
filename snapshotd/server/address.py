"""Checks that an address can be served on. gRPC gives no reason, and takes over a socket file that is in use.

An address that is taken after this check is refused by gRPC, in fewer words.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from snapshotd.unusable import Unusable

_UNIX: Final = "unix:"
_CONNECT_S: Final = 1.0


class AddressInUse(Unusable):
    """The address to serve on is taken or cannot be used."""

    def __init__(self, listen: str, problem: str, setting: str = "server.listen") -> None:
        """Make the message from what is wrong, and what to do about it."""
        super().__init__(f"Cannot serve on {listen}: {problem}, or set another {setting}.")


def check_address(listen: str, setting: str = "server.listen") -> None:
    """Raise AddressInUse if an address (host:port or unix:/path) of a setting cannot be served on."""
    if listen.startswith(_UNIX):
        _check_path(listen, Path(listen.removeprefix(_UNIX)))
        return
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            tried.listen(1)
    except OSError as error:
        raise AddressInUse(listen, _problem(error), setting) from error


def _check_path(listen: str, path: Path) -> None:
    if not os.access(path.parent, os.W_OK):
        what = "cannot be written to" if path.parent.is_dir() else "is not a directory"
        raise AddressInUse(listen, f"{path.parent} {what}. Correct that")
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressInUse(listen, "a file of that name exists. Move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        tried.settimeout(_CONNECT_S)
        # If nobody answers, a killed process left the socket behind. gRPC replaces it.
        if tried.connect_ex(str(path)) == 0:
            raise AddressInUse(listen, "another process serves there. Stop it")


def _problem(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    return f"{text}. Stop what uses it" if error.errno == errno.EADDRINUSE else f"{text}. Correct that"
