"""The names of our checkpoints, by which they are found again.

`<display name> #<snapshot id>` is a snapshot's. `<display name> #copy-<id>` is there for a while, so that a volume
snapshot can be taken of a running VM: it is no snapshot, and never becomes one.
"""

from __future__ import annotations

import re

from snapshotd.domain.ids import SnapshotId, VolumeSnapshotId
from snapshotd.domain.snapshot import Snapshot

_LIMIT = 99
"""Hyper-V: under 100 characters (documented), which are UTF-16 units in Windows (inferred)."""
_MARKED = re.compile(r"\s*#(copy-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def marker(snapshot_id: SnapshotId) -> str:
    """Return what the name of a snapshot's checkpoint ends in."""
    return f"#{snapshot_id}"


def checkpoint_name(snapshot: Snapshot) -> str:
    """Return the full name of a snapshot's checkpoint, cut to fit Hyper-V's limit."""
    return full_name(snapshot.name, snapshot.snapshot_id)


def full_name(name: str, snapshot_id: SnapshotId) -> str:
    """Return the full name of the checkpoint of a snapshot that is named so."""
    return _fitting(name, marker(snapshot_id))


def temporary_name(name: str, volume_snapshot_id: VolumeSnapshotId) -> str:
    """Return the full name of the checkpoint that is there for a while, for a volume snapshot that is named so."""
    return _fitting(name, f"#copy-{volume_snapshot_id}")


def _fitting(name: str, mark: str) -> str:
    """Return a name with a marker, cut to fit Hyper-V's limit."""
    tail = f" {mark}"
    units = name.encode("utf-16-le")[: 2 * (_LIMIT - len(tail))]
    return units.decode("utf-16-le", "ignore") + tail


def is_marked(name: str) -> bool:
    """Return whether a checkpoint's name bears a marker of ours, on record or not."""
    return _MARKED.search(name) is not None


def unmarked(name: str) -> str:
    """Return a checkpoint's name without the marker that it may bear."""
    return _MARKED.sub("", name)


def marker_in(name: str) -> str:
    """Return the marker in the full name of a checkpoint of ours."""
    return name.rpartition(" ")[2]
