"""How a VM's snapshots stand to each other: parents, the current one, and checkpoints that are not ours among them.

`snapshot tree`, `list` and `show`, and `vm show` all tell it from here, so they agree.
"""

from __future__ import annotations

from snapshotd.api.v1.snapshot_pb2 import GetSnapshotTreeRequest, Snapshot, SnapshotTree
from snapshotd.client.calls import Server
from snapshotd.client.failure import Failed
from snapshotd.client.render import last, shown


class Standing:
    """The tree of a VM, by the ids of its nodes."""

    def __init__(self, tree: SnapshotTree) -> None:
        self.nodes = list(tree.nodes)
        self.current = tree.current_node or tree.current_snapshot
        """The node that the VM's disks descend from directly; empty: none."""
        self._nearest = tree.current_snapshot
        self._by_id = {node.id: node for node in tree.nodes}

    def name(self, node: str) -> str:
        """Return the name of a node for people; of one that is not in the tree, its id."""
        found = self._by_id.get(node)
        return last(node) if found is None else name_of(found)

    def parent(self, node: SnapshotTree.Node) -> str:
        """Return the node above. A snapshot that is only requested will get the current one as its parent."""
        allocated = node.HasField("snapshot") and node.snapshot.state == Snapshot.ALLOCATED
        return self.current if allocated else node.parent

    def parent_text(self, snapshot: Snapshot) -> str:
        """Return what is above a snapshot, for people."""
        node = self._by_id.get(snapshot.name)
        above = self.parent(node) if node else snapshot.parent
        return self._told(above) if above else "none"

    def current_text(self, snapshot: Snapshot) -> str:
        """Return whether a snapshot is the current one, for people."""
        if not snapshot.current or self.current in ("", snapshot.name):
            return "yes" if snapshot.current else "no"
        return f"yes, and below it the disks descend from {self._told(self.current)}"

    def vm_text(self) -> str:
        """Return what the VM's disks descend from, for people; empty: from nothing."""
        if not self.current or self.current == self._nearest:
            return self._told(self.current) if self.current else ""
        above = f"; the nearest snapshot above it is {self._told(self._nearest)}" if self._nearest else ""
        return self._told(self.current) + above

    def _told(self, node: str) -> str:
        found = self._by_id.get(node)
        if found is not None and found.HasField("foreign_checkpoint"):
            return f"checkpoint {self.name(node)} ({found.foreign_checkpoint.checkpoint_id}), which is not ours"
        return f"{self.name(node)} ({last(node)})" if found else last(node)


def name_of(node: SnapshotTree.Node) -> str:
    """Return the name of a node, without control characters."""
    own = node.HasField("snapshot")
    return shown(node.snapshot.display_name if own else node.foreign_checkpoint.display_name)


def standing_of(server: Server, vm: str) -> Standing:
    """Return how a VM's snapshots stand to each other; if that cannot be read just now, an empty tree.

    What asks for it shows a VM or a snapshot, which can be shown without.
    """
    try:
        return Standing(server.call(server.snapshots.GetSnapshotTree, GetSnapshotTreeRequest(name=vm)))
    except Failed:
        return Standing(SnapshotTree())
