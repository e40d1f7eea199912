"""Whose journals a host's are: host.json, as docs/host-protocol.md defines it, whichever engine wrote it.

The first installation that works on a host owns it, until a person lets another one take it over.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from snapshotd.simulator.journal import JournalUnreadable, write_through


@dataclass(frozen=True, slots=True)
class Ownership:
    """What host.json says."""

    owner: str
    """The installation that owns the journals."""
    former: tuple[str, ...] = ()
    """Those that it was taken over from, the last one first."""


def read_host(directory: Path) -> Ownership | None:
    """Return who owns the journals of a directory; None if there is no host.json.

    Raises JournalUnreadable if it is there and cannot be understood.
    """
    path = directory / "host.json"
    try:
        return _parsed(path.read_bytes(), path)
    except FileNotFoundError:
        return None


def write_host(directory: Path, installation_id: str, *, durable: bool = True) -> None:
    """Make host.json, whole or not at all; one that is there already stays (read it again to see who was first)."""
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f"host.json.{uuid.uuid4().hex}"
    write_through(draft, 0, _text({"v": 1, "installation_id": installation_id}), durable=durable)
    try:
        with suppress(FileExistsError):
            os.link(draft, directory / "host.json")
    finally:
        draft.unlink()


def take_host_over(directory: Path, installation_id: str, former: str, *, durable: bool = True) -> bool:
    """Make an installation the owner, if `former` is it now; return whether it is the owner.

    `former` is empty for a host.json that is missing, or that cannot be understood.
    """
    write_host(directory, installation_id, durable=durable)
    path = directory / "host.json"
    with path.open("rb+") as file:
        # What FileShare.None of the other engine is here, too: nobody writes between the comparison and the write.
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            known = _parsed(file.read(), path)
        except JournalUnreadable:
            known = Ownership("")
        if known.owner == installation_id:
            return True
        if known.owner != former:
            return False
        told = [each for each in (known.owner, *known.former) if each not in ("", installation_id)]
        content = _text({"v": 1, "installation_id": installation_id, "former_installation_ids": told})
        write_through(path, 0, content, durable=durable)
        file.truncate(len(content))
    return True


def _parsed(content: bytes, path: Path) -> Ownership:
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise JournalUnreadable(f"{path}: {error}") from error
    if not isinstance(document, dict) or document.get("v") != 1 or not isinstance(document.get("installation_id"), str):
        raise JournalUnreadable(f"{path}: is not of layout 1")
    former = document.get("former_installation_ids")
    told = [each for each in former if isinstance(each, str)] if isinstance(former, list) else []
    return Ownership(document["installation_id"], tuple(told))


def _text(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
