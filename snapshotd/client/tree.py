"""The snapshot tree as lines: one a snapshot or foreign checkpoint, parents above their children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.client.render import age, shown, size, table, word

_Node = SnapshotTree.Node


@dataclass(frozen=True)
class Strokes:
    """What the branches are drawn with."""

    branch: str
    last: str
    down: str


BOXES = Strokes("├─ ", "└─ ", "│  ")
ASCII = Strokes("|- ", "`- ", "|  ")


def draw(tree: SnapshotTree, strokes: Strokes, now: datetime | None = None) -> str:
    """Return the tree for people: state, kind, age, size, and `*` where the VM's disks descend from."""
    head = f"{shown(tree.display_name)} ({word(VirtualMachine.State.Name(tree.state))})"
    if not tree.nodes:
        return f"{head}\n(no snapshots)"
    children: dict[str, list[_Node]] = {}
    for node in tree.nodes:
        children.setdefault(node.parent, []).append(node)
    rows = [
        [prefix + _name(node, tree), *_columns(node, now)]
        for prefix, node in _walk(children, "", "", strokes, roots=True)
    ]
    lines = table(["NAME", "STATE", "KIND", "AGE", "SIZE", "ID"], rows)
    where = "The VM's disks descend from the one marked *." if tree.current_node else "No snapshot is current."
    return f"{head}\n{lines}\n{where}"


def _walk(
    children: dict[str, list[_Node]], parent: str, indent: str, strokes: Strokes, *, roots: bool = False
) -> Iterator[tuple[str, _Node]]:
    nodes = children.get(parent, [])
    for n, node in enumerate(nodes):
        is_last = n == len(nodes) - 1
        mark = "" if roots else strokes.last if is_last else strokes.branch
        yield indent + mark, node
        below = indent + ("" if roots else "   " if is_last else strokes.down)
        yield from _walk(children, node.id, below, strokes)


def _name(node: _Node, tree: SnapshotTree) -> str:
    own = node.HasField("snapshot")
    name = node.snapshot.display_name if own else node.foreign_checkpoint.display_name
    return f"{'*' if node.id == tree.current_node else ''}{name}"


def _columns(node: _Node, now: datetime | None) -> list[str]:
    if node.HasField("snapshot"):
        own = node.snapshot
        state = Snapshot.State.Name(own.state)
        kind = "disk+memory" if own.kind == Snapshot.DISK_AND_MEMORY else "disk"
        return [state, kind, age(own.create_time, now), size(own.size_bytes), own.uid]
    foreign = node.foreign_checkpoint
    kind = "disk+memory" if foreign.has_memory else "disk"
    state = "automatic, not ours" if foreign.automatic else "not ours"
    return [state, kind, age(foreign.create_time, now), size(foreign.size_bytes), foreign.checkpoint_id]
