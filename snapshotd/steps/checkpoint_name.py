"""The names of our checkpoints: `<display name> #<snapshot id>`, by which they are found again."""

from __future__ import annotations

import re

from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.snapshot import Snapshot

_LIMIT = 99
"""Hyper-V: under 100 characters (documented), which are UTF-16 units in Windows (inferred)."""
_MARKED = re.compile(r"\s*#[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def marker(snapshot_id: SnapshotId) -> str:
    """Return what the name of a snapshot's checkpoint ends in."""
    return f"#{snapshot_id}"


def checkpoint_name(snapshot: Snapshot) -> str:
    """Return the full name of a snapshot's checkpoint, cut to fit Hyper-V's limit."""
    return full_name(snapshot.name, snapshot.snapshot_id)


def full_name(name: str, snapshot_id: SnapshotId) -> str:
    """Return the full name of the checkpoint of a snapshot that is named so."""
    tail = f" {marker(snapshot_id)}"
    units = name.encode("utf-16-le")[: 2 * (_LIMIT - len(tail))]
    return units.decode("utf-16-le", "ignore") + tail


def is_marked(name: str) -> bool:
    """Return whether a checkpoint's name bears the marker of some snapshot, on record or not."""
    return _MARKED.search(name) is not None


def unmarked(name: str) -> str:
    """Return a checkpoint's name without the marker that it may bear."""
    return _MARKED.sub("", name)


def marker_in(name: str) -> str:
    """Return the marker in the full name of a checkpoint of ours."""
    return name.rpartition(" ")[2]
