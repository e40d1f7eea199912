"""Checkpoints on a host that are not ours: made by others, or marked by us and not on record."""

from __future__ import annotations

import shlex

from snapshotd.domain.errors import NotFound
from snapshotd.domain.virtual_machine import VmRecord


def no_such_snapshot(vm: VmRecord, snapshot_id: str) -> NotFound:
    """Return the error for an id that is no snapshot's; if it is a checkpoint's, with what can be done about that.

    Args:
        vm: the VM.
        snapshot_id: what was named as one of its snapshots.
    """
    name = shlex.quote(vm.name)
    found = (
        next((c for c in vm.description.checkpoints if c.checkpoint_id == snapshot_id), None)
        if vm.description
        else None
    )
    if found is None:
        return NotFound("snapshot", snapshot_id, f"See `snapshotctl snapshot list {name}`.")
    return NotFound(
        "snapshot",
        snapshot_id,
        f"It is the id of checkpoint {found.name!r}, which is not ours: nothing reverts to it or deletes it. "
        f"`snapshotctl snapshot adopt {name} {snapshot_id}` makes it a snapshot.",
    )
