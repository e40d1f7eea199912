"""The snapshot tree as lines: one for each snapshot or foreign checkpoint, parents above their children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.client.render import NARROWEST, age, cut, shown, size, table, width_of, word

_Node = SnapshotTree.Node
_HEADS: Final = ("STATE", "KIND", "AGE", "SIZE", "ID")
"""The heads of the columns after the name."""


@dataclass(frozen=True)
class Strokes:
    """The strokes that the branches are drawn with."""

    branch: str
    last: str
    down: str


BOXES = Strokes("├─ ", "└─ ", "│  ")
ASCII = Strokes("|- ", "`- ", "|  ")


def draw(tree: SnapshotTree, strokes: Strokes, now: datetime | None = None, width: int | None = None) -> str:
    """Return the tree for people: state, kind, age, size, and `*` where the VM's disks descend from.

    Args:
        tree: the server's answer.
        strokes: the strokes that the branches are drawn with.
        now: the time that ages are counted from; None for the present.
        width: the widest a line may be: names are cut; None for no limit.
    """
    head = f"{shown(tree.display_name)} ({word(VirtualMachine.State.Name(tree.state))})"
    if not tree.nodes:
        return f"{head}\n(no snapshots)"
    children: dict[str, list[_Node]] = {}
    for node in tree.nodes:
        children.setdefault(_parent(node, tree), []).append(node)
    nodes = [(prefix, node, _columns(node, now)) for prefix, node in _walk(children, "", "", strokes, roots=True)]
    beside = max(width_of(line) for line in table(_HEADS, [cells for _, _, cells in nodes]).splitlines())
    room = None if width is None else width - beside - 2
    rows = [[prefix + _name(node, tree, room, len(prefix)), *cells] for prefix, node, cells in nodes]
    lines = table(["NAME", *_HEADS], rows)
    where = "The VM's disks descend from the one marked *." if tree.current_node else "No snapshot is current."
    return f"{head}\n{lines}\n{where}"


def state_text(snapshot: Snapshot) -> str:
    """Return the state of a snapshot; for ERROR with the reason."""
    state = Snapshot.State.Name(snapshot.state)
    return f"{state} ({snapshot.failure.reason})" if snapshot.state == Snapshot.ERROR else state


def _parent(node: _Node, tree: SnapshotTree) -> str:
    """Return the parent of a node. A snapshot that is only requested will get the current one as its parent."""
    allocated = node.HasField("snapshot") and node.snapshot.state == Snapshot.ALLOCATED
    return tree.current_node if allocated else node.parent


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


def _name(node: _Node, tree: SnapshotTree, room: int | None, indent: int) -> str:
    own = node.HasField("snapshot")
    name = node.snapshot.display_name if own else node.foreign_checkpoint.display_name
    name = f"{'*' if node.id == tree.current_node else ''}{shown(name)}"
    return name if room is None else cut(name, max(NARROWEST, room - indent))


def _columns(node: _Node, now: datetime | None) -> list[str]:
    if node.HasField("snapshot"):
        own = node.snapshot
        kind = "disk+memory" if own.kind == Snapshot.DISK_AND_MEMORY else "disk"
        return [state_text(own), kind, age(own.create_time, now), size(own.size_bytes), own.uid]
    foreign = node.foreign_checkpoint
    kind = "disk+memory" if foreign.has_memory else "disk"
    state = "automatic, not ours" if foreign.automatic else "not ours"
    return [state, kind, age(foreign.create_time, now), size(foreign.size_bytes), foreign.checkpoint_id]
