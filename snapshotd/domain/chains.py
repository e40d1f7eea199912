"""Which files of a VM's disks nothing stands on any more. Builds on no direction of a merge.

A file is *passed through* if a chain leads through it, no disk begins with it, and one file is based on it. After a
checkpoint is removed, the host merges what is passed through because of that. What was passed through before already (a
golden image of several levels, what a backup tool left behind) stays as it is.
"""

from __future__ import annotations

from collections import defaultdict

from snapshotd.domain.host_report import Disk, VmDescription, file_key, file_keys
from snapshotd.domain.ids import CheckpointId


def passed_through(description: VmDescription, without: CheckpointId | None = None) -> frozenset[str]:
    """Return the keys of the files that are passed through, as if a checkpoint were not there.

    A file with two children or more is a branch point: the host keeps it.
    """
    heads = file_keys(d.path for d in _disks(description, without) if d.path)
    children = _children(description, heads)
    return frozenset(path for path, based in children.items() if path not in heads and len(based) == 1)


def superfluous(description: VmDescription, gone: CheckpointId) -> tuple[str, ...]:
    """Return the files that are superfluous without a checkpoint, and are not already with it; sorted."""
    heads = file_keys(d.path for d in _disks(description, gone) if d.path)
    checkpoint = description.checkpoint(gone)
    own = file_keys(d.path for d in checkpoint.disks if d.path) if checkpoint else set()
    strays, children = passed_through(description), _children(description, heads)
    reached = heads | set(children)
    # What a stray is based on cannot be merged before the stray is.
    held = {path for path, based in children.items() if based <= strays}
    found = (passed_through(description, gone) | (own - reached)) - strays - held
    return tuple(sorted(f.path for f in description.files if file_key(f.path) in found))


def not_passed_through(description: VmDescription) -> tuple[str, ...]:
    """Return the files that something stands on, sorted."""
    strays = passed_through(description)
    return tuple(sorted(f.path for f in description.files if file_key(f.path) not in strays))


def disk_of(description: VmDescription) -> dict[str, str]:
    """Return, by its key, for each file in a chain the location of the disk that it is of."""
    parents = {file_key(f.path): file_key(f.parent_path) for f in description.files}
    found: dict[str, str] = {}
    for disk in _disks(description, None):
        at = file_key(disk.path)
        while at and at not in found:
            found[at] = disk.location
            at = parents.get(at, "")
    return found


def _disks(description: VmDescription, without: CheckpointId | None) -> tuple[Disk, ...]:
    others = (c for c in description.checkpoints if c.checkpoint_id != without)
    return (*description.disks, *(d for c in others for d in c.disks))


def _children(description: VmDescription, heads: set[str]) -> dict[str, set[str]]:
    """Return, for each file that the chains of these heads lead to, the files of the chains that are based on it."""
    parents = {file_key(f.path): file_key(f.parent_path) for f in description.files if f.parent_path}
    children: dict[str, set[str]] = defaultdict(set)
    for head in heads:
        at = head
        while (parent := parents.get(at)) is not None and at not in children[parent]:
            children[parent].add(at)
            at = parent
    return children
