"""The names of our checkpoints: `<display name> #<snapshot id>`, by which they are found again."""

from __future__ import annotations

from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.snapshot import Snapshot

_LIMIT = 99
"""Hyper-V: under 100 characters (documented), which are UTF-16 units in Windows (inferred)."""


def marker(snapshot_id: SnapshotId) -> str:
    """Return what the name of a snapshot's checkpoint ends in."""
    return f"#{snapshot_id}"


def checkpoint_name(snapshot: Snapshot) -> str:
    """Return the full name of a snapshot's checkpoint, cut to fit Hyper-V's limit."""
    tail = f" {marker(snapshot.snapshot_id)}"
    units = snapshot.name.encode("utf-16-le")[: 2 * (_LIMIT - len(tail))]
    return units.decode("utf-16-le", "ignore") + tail


def marker_in(name: str) -> str:
    """Return the marker in the full name of a checkpoint of ours."""
    return name.rpartition(" ")[2]
