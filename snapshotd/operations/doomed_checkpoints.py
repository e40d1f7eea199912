"""Which checkpoints go with a VM: its snapshots', temporary ones, and those of others that were named."""

from __future__ import annotations

from snapshotd.domain.destroy_errors import ForeignCheckpointsInTheWay
from snapshotd.domain.foreign_checkpoints import foreign_checkpoints, other_checkpoints
from snapshotd.domain.host_report import Checkpoint
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.snapshot_errors import CheckpointNotFound
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshots import alive, leaves_first, listed


def leaves_first_by_host(vm: VirtualMachine) -> tuple[Snapshot | Checkpoint, ...]:
    """Return the snapshots in the tree and the other checkpoints, each before what it stands on."""
    there = {s.snapshot_id for s in alive(vm)}
    own = leaves_first(vm, [s for s in alive(vm) if s.parent_id not in there])
    depth = {c.checkpoint_id: sum(1 for _ in vm.lineage(c.checkpoint_id)) for c in _all(vm)}
    found: list[Snapshot | Checkpoint] = [*other_checkpoints(vm), *own]

    def height(one: Snapshot | Checkpoint) -> int:
        return -depth.get(one.checkpoint_id, 0) if one.checkpoint_id else 0

    return tuple(sorted(found, key=height))


def check_named(vm: VirtualMachine, names: tuple[str, ...]) -> None:
    """Raise a SnapshotdError unless each checkpoint that is not ours is named, and each name is that of one.

    Args:
        vm: the VM.
        names: names, or ids. A name that several have names none of them.
    """
    foreign = foreign_checkpoints(vm)
    named = set[str]()
    for name in names:
        found = [c.checkpoint_id for c in foreign if name.lower() == c.checkpoint_id]
        found = found or [c.checkpoint_id for c in foreign if name == c.name]
        if not found and not any(c.name == name or c.checkpoint_id == name.lower() for c in _all(vm)):
            raise CheckpointNotFound(vm.name, name, vm.host_id)
        if len(found) == 1:
            named.add(found[0])
    left = [c for c in foreign if c.checkpoint_id not in named]
    if left:
        raise ForeignCheckpointsInTheWay(vm.name, listed([f"{c.name!r} ({c.checkpoint_id})" for c in left]))


def _all(vm: VirtualMachine) -> tuple[Checkpoint, ...]:
    return vm.description.checkpoints if vm.description else ()
