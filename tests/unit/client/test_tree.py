"""The tree as people see it: branches, what is not ours, the current mark, and names that are no mischief."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.client.tree import ASCII, BOXES, draw

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def tree(*nodes: SnapshotTree.Node, current: str = "") -> SnapshotTree:
    """Return a tree of nodes."""
    state = VirtualMachine.RUNNING
    return SnapshotTree(display_name="web01", state=state, nodes=nodes, current_node=current)


def own(name: str, parent: str = "", minutes: int = 5, *, memory: bool = False) -> SnapshotTree.Node:
    """Return a snapshot of ours."""
    kind = Snapshot.DISK_AND_MEMORY if memory else Snapshot.DISK
    snapshot = Snapshot(display_name=name, uid=f"id-{name}", kind=kind, state=Snapshot.READY, size_bytes=1536)
    snapshot.create_time.FromDatetime(NOW - timedelta(minutes=minutes))
    return SnapshotTree.Node(id=name, parent=parent, snapshot=snapshot)


def foreign(name: str, parent: str = "", *, automatic: bool = False) -> SnapshotTree.Node:
    """Return somebody else's checkpoint."""
    node = SnapshotTree.Node(id=name, parent=parent)
    node.foreign_checkpoint.display_name = name
    node.foreign_checkpoint.checkpoint_id = f"id-{name}"
    node.foreign_checkpoint.automatic = automatic
    node.foreign_checkpoint.create_time.FromDatetime(NOW - timedelta(days=3))
    return node


def test_branches_are_drawn_below_their_parents() -> None:
    nodes = (own("a"), own("b", "a", memory=True), own("c", "b"), own("d", "a"), own("e"))
    assert draw(tree(*nodes, current="d"), BOXES, NOW).splitlines() == [
        "web01 (running)",
        "NAME     STATE  KIND         AGE    SIZE     ID",
        "a        READY  disk         5 min  1.5 KiB  id-a",
        "├─ b     READY  disk+memory  5 min  1.5 KiB  id-b",
        "│  └─ c  READY  disk         5 min  1.5 KiB  id-c",
        "└─ *d    READY  disk         5 min  1.5 KiB  id-d",
        "e        READY  disk         5 min  1.5 KiB  id-e",
        "The VM's disks descend from the one marked *.",
    ]


def test_what_is_not_ours_stands_where_it_is_and_says_so() -> None:
    nodes = (own("a"), foreign("by hand", "a"), own("b", "by hand"), foreign("auto", "b", automatic=True))
    lines = draw(tree(*nodes, current="auto"), ASCII, NOW).splitlines()
    assert [line.split() for line in lines[2:6]] == [
        ["a", "READY", "disk", "5", "min", "1.5", "KiB", "id-a"],
        ["`-", "by", "hand", "not", "ours", "disk", "3", "d", "0", "B", "id-by", "hand"],
        ["`-", "b", "READY", "disk", "5", "min", "1.5", "KiB", "id-b"],
        ["`-", "*auto", "automatic,", "not", "ours", "disk", "3", "d", "0", "B", "id-auto"],
    ]
    assert [len(line) - len(line.lstrip()) for line in lines[2:6]] == [0, 0, 3, 6]
    assert all(line.isascii() for line in lines)


def test_no_snapshots_are_said() -> None:
    assert draw(tree(), BOXES, NOW) == "web01 (running)\n(no snapshots)"


def test_a_name_cannot_play_with_the_terminal() -> None:
    drawn = draw(tree(own("a\x1b[31m\nb")), BOXES, NOW)
    assert "\x1b" not in drawn
    assert "a\\x1b[31m\\nb" in drawn


def test_one_that_is_only_asked_for_stands_below_the_current_one() -> None:
    pending = own("new")
    pending.snapshot.state = Snapshot.ALLOCATED
    lines = draw(tree(own("a"), own("b", "a"), pending, current="b"), ASCII, NOW).splitlines()
    assert [line.split("  ")[0] for line in lines[2:4]] == ["a", "`- *b"]
    assert lines[4].lstrip().split()[:3] == ["`-", "new", "ALLOCATED"]
    assert draw(tree(pending), ASCII, NOW).splitlines()[2].startswith("new")


def test_one_in_error_says_why() -> None:
    broken = own("broken")
    broken.snapshot.state = Snapshot.ERROR
    broken.snapshot.failure.reason = "HOST_ERROR"
    assert "ERROR (HOST_ERROR)" in draw(tree(broken), ASCII, NOW)


def test_names_are_cut_to_the_terminal_and_branches_are_not() -> None:
    names = [letter * 100 for letter in "abc"]
    nodes = [own(name, parent) for name, parent in zip(names, ["", *names], strict=False)]
    for node in nodes:
        node.snapshot.uid = "the-id"
    lines = draw(tree(*nodes), ASCII, NOW, width=60).splitlines()
    assert {len(line) for line in lines[2:5]} == {60}
    assert [line.split()[-8] for line in lines[2:5]] == ["a" * 22 + "…", "b" * 19 + "…", "c" * 16 + "…"]
    assert "a" * 100 in draw(tree(*nodes), ASCII, NOW)
