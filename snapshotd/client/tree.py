"""The snapshot tree as lines: one for each snapshot or foreign checkpoint, parents above their children."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.client.columns import short_ids
from snapshotd.client.render import NARROWEST, age, cut, shown, size, table, width_of, word
from snapshotd.client.standing import Standing, name_of

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


def draw(
    tree: SnapshotTree,
    strokes: Strokes,
    now: datetime | None = None,
    width: int | None = None,
    *,
    whole_ids: bool = False,
    beside: Sequence[str] = (),
) -> str:
    """Return the tree for people: state, kind, age, size, and `*` where the VM's disks descend from.

    Args:
        tree: the server's answer.
        strokes: the strokes that the branches are drawn with.
        now: the time that ages are counted from; None for the present.
        width: the widest a line may be: names are cut; None for no limit.
        whole_ids: show ids whole.
        beside: lines that stand below the VM: its exports.
    """
    head = "\n".join([f"{shown(tree.display_name)} ({word(VirtualMachine.State.Name(tree.state))})", *beside])
    if not tree.nodes:
        return f"{head}\n(no snapshots)"
    standing = Standing(tree)
    children: dict[str, list[_Node]] = {}
    for node in tree.nodes:
        children.setdefault(standing.parent(node), []).append(node)
    drawn = list(_walk(children, "", "", strokes, roots=True))
    ids = [id_of(node) for _, node in drawn]
    shown_ids = ids if whole_ids else short_ids(ids)
    nodes = [(prefix, node, [*facts_of(node, now), one]) for (prefix, node), one in zip(drawn, shown_ids, strict=True)]
    right = max(width_of(line) for line in table(_HEADS, [cells for _, _, cells in nodes]).splitlines())
    room = None if width is None else width - right - 2
    rows = [[prefix + _name(node, standing, room, len(prefix)), *cells] for prefix, node, cells in nodes]
    where = "The VM's disks descend from the one marked *." if standing.current else "No snapshot is current."
    return "\n".join([head, table(["NAME", *_HEADS], rows), where])


def kind_of(kind: Snapshot.Kind.ValueType) -> str:
    """Return what a snapshot holds, as tables have it."""
    return "disk+memory" if kind == Snapshot.DISK_AND_MEMORY else "disk"


def state_text(snapshot: Snapshot) -> str:
    """Return the state of a snapshot, and that somebody holds it; for ERROR with the reason."""
    state = Snapshot.State.Name(snapshot.state)
    state = f"{state} ({snapshot.failure.reason})" if snapshot.state == Snapshot.ERROR else state
    return f"{state}, held" if snapshot.HasField("hold") else state


def facts_of(node: SnapshotTree.Node, now: datetime | None = None) -> list[str]:
    """Return the state, the kind, the age and the size of a snapshot or a foreign checkpoint."""
    if node.HasField("snapshot"):
        own = node.snapshot
        return [state_text(own), kind_of(own.kind), age(own.create_time, now), size(own.size_bytes)]
    foreign = node.foreign_checkpoint
    kind = "disk+memory" if foreign.has_memory else "disk"
    words = [*(["automatic"] if foreign.automatic else []), "not ours"]
    words += ["with our marker"] if foreign.marked_as_ours else []
    state = ", ".join([*words, *(["ignored"] if foreign.HasField("ignore") else [])])
    return [state, kind, age(foreign.create_time, now), size(foreign.size_bytes)]


def id_of(node: SnapshotTree.Node) -> str:
    """Return the id of a snapshot or a foreign checkpoint."""
    return node.snapshot.uid if node.HasField("snapshot") else node.foreign_checkpoint.checkpoint_id


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


def _name(node: _Node, standing: Standing, room: int | None, indent: int) -> str:
    name = f"{'*' if node.id == standing.current else ''}{name_of(node)}"
    return name if room is None else cut(name, max(NARROWEST, room - indent))
