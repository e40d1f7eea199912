"""The doctor on what is installed: Python, the libraries, and the extras."""

from __future__ import annotations

import platform
import re
import sqlite3
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from snapshotd.upkeep.findings import Finding, Ground, error, ok

_REQUIRED: Final = re.compile(r"([A-Za-z0-9._-]+)[^;]*(?:;.*extra == [\"'](\w+)[\"'])?")
_SHOWN: Final = ("grpcio", "protobuf", "pywinrm", "cryptography", "msgspec")


def libraries(ground: Ground) -> Iterator[Finding]:
    """Look at the versions of what runs, and at what is missing."""
    del ground
    needed = _needed()
    missing = [name for name in needed.get("", ()) if not _installed(name)]
    if missing:
        yield error("installed", f"Missing: {', '.join(missing)}. Install with requirements/runtime.txt.")
    shown = ", ".join(f"{name} {_installed(name)}" for name in _SHOWN if _installed(name))
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    yield ok("installed", f"snapshotd {version('snapshotd')}, Python {python}, SQLite {sqlite}, {shown}.")
    for extra, names in sorted(needed.items()):
        if extra:
            there = all(_installed(name) for name in names)
            text = "is installed" if there else f"is not: pip install 'snapshotd[{extra}]', if you need it"
            yield ok("installed", f"The extra {extra} {text}.")


def _needed() -> dict[str, list[str]]:
    """Return the names of packages by the extra that needs them; under the empty name those that all need."""
    needed: dict[str, list[str]] = {}
    for line in requires("snapshotd") or ():
        if (found := _REQUIRED.match(line)) is not None:
            needed.setdefault(found[2] or "", []).append(found[1])
    return needed


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
