"""Readers of single arguments, for argparse's `type`. Each reads a text, or raises ArgumentTypeError."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from argparse import ArgumentTypeError
from typing import Final

from snapshotd.client.render import quoted

_SERVER: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]):([0-9]{1,5})")
_UNIX: Final = "unix:"
_LONGEST_PATH: Final = 107
"""The most bytes of a socket's path: Linux allows 108, with a NUL at the end."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PLACE: Final = re.compile("(scsi|ide)[: ]([0-9]{1,3})[: ]([0-9]{1,3})", re.IGNORECASE)
_ETAG: Final = re.compile("[0-9a-f]{16}", re.IGNORECASE)
_NIL: Final = "00000000-0000-0000-0000-000000000000"
_LONGEST_S: Final = 1_000_000
_LAST_PORT: Final = 65535
_ACTOR_LIMIT: Final = 100
"""The server's limit, in characters."""


def named(text: str) -> str:
    """Read a name or id. It must not be empty: the API would take that as none given."""
    if not text.strip():
        raise ArgumentTypeError("must not be empty")
    return text


def names(text: str) -> list[str]:
    """Read names of columns, separated by commas."""
    found = [name.strip().lower() for name in text.split(",")]
    if not all(found):
        raise ArgumentTypeError(f"{quoted(text)}: must be names, separated by commas")
    return found


def positive(text: str) -> int:
    """Read a whole number, 1 or more."""
    if not re.fullmatch("[0-9]{1,18}", text) or not int(text):
        raise ArgumentTypeError(f"{quoted(text)}: must be a whole number, 1 or more")
    return int(text)


def count(text: str) -> int:
    """Read a whole number, 0 or more."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ArgumentTypeError(f"{quoted(text)}: must be a whole number, 0 or more")
    return int(text)


def port(text: str) -> int:
    """Read a TCP port."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) <= _LAST_PORT:
        raise ArgumentTypeError(f"{quoted(text)}: must be a number from 1 to {_LAST_PORT}")
    return int(text)


def seconds(text: str) -> float:
    """Read a time in seconds, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= _LONGEST_S:
        raise ArgumentTypeError(f"{quoted(text)}: must be a number of seconds from 0 to {_LONGEST_S}")
    return number


def seconds_above_zero(text: str) -> float:
    """Read a time in seconds, above 0."""
    number = seconds(text)
    if not number:
        raise ArgumentTypeError(f"{quoted(text)}: must be above 0")
    return number


def uuid(text: str) -> str:
    """Read a request id."""
    if not _UUID.fullmatch(text) or text == _NIL:
        raise ArgumentTypeError(f"{quoted(text)}: must be a UUID, a new one for each new request (uuidgen makes one)")
    return text


def place(text: str) -> str:
    """Read where a disk is attached."""
    found = _PLACE.fullmatch(text.strip())
    if found is None:
        raise ArgumentTypeError(
            f"{quoted(text)}: must be a place as `vm show` has it: SCSI:0:1 (controller, its number, location)"
        )
    return f"{found[1].upper()}:{int(found[2])}:{int(found[3])}"


def etag(text: str) -> str:
    """Read the etag of a plan."""
    if not _ETAG.fullmatch(text):
        raise ArgumentTypeError(f"{quoted(text)}: must be the etag of a plan, as --dry-run prints it (16 hex digits)")
    return text.lower()


def server(text: str) -> str:
    """Read the server's address. The path of a socket is made absolute, as the server's settings have it."""
    if text.startswith(_UNIX):
        return _UNIX + _socket(text)
    found = _SERVER.fullmatch(text)
    if found is None or not 0 < int(found[3]) <= _LAST_PORT:
        raise ArgumentTypeError(f"{quoted(text)}: must be HOST:PORT, e.g. 127.0.0.1:7443, or unix:PATH")
    return text


def _socket(text: str) -> str:
    """Return the absolute path of a socket's address."""
    path = text.removeprefix(_UNIX)
    authority = path.startswith("//") and not path.startswith("///")
    # gRPC reads the address as a URI, and would look for a socket of another name.
    if not path.strip("/") or authority or path.endswith("/") or not path.isprintable() or set(path) & set("%?#"):
        raise ArgumentTypeError(f"{quoted(text)}: must be unix:PATH, e.g. unix:/run/snapshotd.sock, without % ? and #")
    whole = os.path.abspath(path)  # noqa: PTH100  (Path.resolve would follow links)
    if (size := len(whole.encode())) > _LONGEST_PATH:
        raise ArgumentTypeError(
            f"{quoted(text)}: its path has {size} bytes, and a socket's has at most {_LONGEST_PATH}"
        )
    return whole


def file(text: str) -> str:
    """Read the path of a file, and make it absolute. A ~ that the shell has left is the home directory."""
    path = os.path.expanduser(named(text))  # noqa: PTH111  (a user that is not there leaves it as it is)
    return os.path.abspath(path)  # noqa: PTH100  (Path.resolve would follow links)


def actor(text: str) -> str:
    """Read the name of the caller. It travels as gRPC metadata, which holds ASCII only."""
    if not 0 < len(text) <= _ACTOR_LIMIT:
        raise ArgumentTypeError(f"{quoted(text)} has {len(text)} characters: it must have 1 to {_ACTOR_LIMIT}")
    if not text.isascii() or not text.isprintable() or text != text.strip():
        hint = ascii_only(text)
        instead = f", e.g. {hint}" if hint else ""
        raise ArgumentTypeError(
            f"{quoted(text)}: must be printable ASCII without blanks around it. Set another name with --as or "
            f"$SNAPSHOTD_ACTOR{instead}"
        )
    return text


def ascii_only(text: str) -> str:
    """Return a name in ASCII: accents and all other characters are dropped. Empty if nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "".join(c for c in plain if c.isprintable()).strip()[:_ACTOR_LIMIT]
