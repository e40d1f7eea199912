"""`snapshot list`, `show` and `tree`, and `vm show` agree on current, parents, and checkpoints that are not ours."""

from __future__ import annotations

import re

import grpc
import pytest
from google.protobuf.message import Message

from snapshotd.api.v1.snapshot_pb2 import ForeignCheckpoint, ListSnapshotsResponse, Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
ONE, TWO, THREE = (f"{VM}/snapshots/{n * 8}-2222-3333-4444-555555555501" for n in "abc")
FOREIGN = "99999999-2222-3333-4444-555555555501"
BY_HAND = f"checkpoints/{FOREIGN}"


def snapshot(name: str, display_name: str, parent: str = "", **fields: object) -> Snapshot:
    """Return a snapshot that is READY."""
    made = Snapshot(name=name, uid=name[-36:], display_name=display_name, parent=parent, state=Snapshot.READY)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.fixture(autouse=True)
def one_below_the_other(service: FakeService) -> SnapshotTree:
    """Serve three: two's checkpoint lies below one that is not ours, and the disks descend from such a one."""
    own = {
        ONE: snapshot(ONE, "one"),
        TWO: snapshot(TWO, "two", ONE, current=True),
        THREE: snapshot(THREE, "three", TWO, state=Snapshot.REMOVED),
    }
    foreign = ForeignCheckpoint(checkpoint_id=FOREIGN, display_name="by hand")
    tree = SnapshotTree(
        nodes=[
            SnapshotTree.Node(id=ONE, snapshot=own[ONE]),
            SnapshotTree.Node(id=BY_HAND, parent=ONE, foreign_checkpoint=foreign),
            SnapshotTree.Node(id=TWO, parent=BY_HAND, snapshot=own[TWO]),
        ],
        current_node=TWO,
        current_snapshot=TWO,
    )
    service.answers |= {
        "GetSnapshotTree": lambda _: tree,
        "GetSnapshot": lambda request: own[request.name],
        "GetVirtualMachine": lambda _: VirtualMachine(name=VM, current_snapshot=tree.current_snapshot),
        "ListSnapshots": lambda _: ListSnapshotsResponse(snapshots=list(own.values())),
    }
    return tree


def cells(text: str) -> list[list[str]]:
    """Return the cells of a table that holds no empty ones, without its heads."""
    return [re.split("  +", line) for line in text.splitlines()[1:]]


def facts(text: str) -> dict[str, str]:
    """Return facts by their names."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_a_list_has_what_the_tree_has(ctl: Ctl) -> None:
    listed = cells(ctl("snapshot", "list", VM, "--columns", "name,state,id").out)
    assert listed == [
        ["one", "READY", "aaaaaaaa"],
        ["by hand", "not ours", "99999999"],
        ["two", "READY", "bbbbbbbb"],
    ]
    drawn = ctl("snapshot", "tree", VM, "--ascii").out
    assert [row[0] for row in listed] == [
        re.split("  +", line.lstrip(" `-*"))[0]
        for line in drawn.splitlines()
        if (line and "READY" in line) or "not ours" in line
    ]


def test_a_parent_is_told_by_its_name_be_it_ours_or_not(ctl: Ctl) -> None:
    below = ["by hand", "two"]
    listed = {
        line.split("  ")[0]: line for line in ctl("snapshot", "list", VM, "--columns", "name,parent").out.splitlines()
    }
    assert [re.split("  +", listed[name])[1] for name in below] == ["one", "by hand"]
    shown = facts(ctl("snapshot", "show", VM, TWO).out)
    assert shown["Parent"] == f"checkpoint by hand ({FOREIGN}), which is not ours"
    assert facts(ctl("snapshot", "show", VM, ONE).out)["Parent"] == "none"


def test_all_mark_the_same_one_as_current(ctl: Ctl) -> None:
    marked = [line for line in ctl("snapshot", "list", VM, "--columns", "current,name").out.splitlines() if "*" in line]
    assert [line.split() for line in marked] == [["*", "two"]]
    assert "*two " in ctl("snapshot", "tree", VM).out
    assert facts(ctl("snapshot", "show", VM, TWO).out)["Current"] == "yes"
    assert facts(ctl("snapshot", "show", VM, ONE).out)["Current"] == "no"
    assert facts(ctl("vm", "show", VM).out)["Current"] == f"two ({TWO[-36:]})"


def test_all_tell_when_the_disks_descend_from_one_that_is_not_ours(ctl: Ctl, one_below_the_other: SnapshotTree) -> None:
    tree = one_below_the_other
    tree.nodes.add(id="checkpoints/x", parent=TWO).foreign_checkpoint.display_name = "later"
    tree.nodes[-1].foreign_checkpoint.checkpoint_id = "x"
    tree.current_node = "checkpoints/x"
    marked = [line for line in ctl("snapshot", "list", VM, "--columns", "current,name").out.splitlines() if "*" in line]
    assert [line.split() for line in marked] == [["*", "later"]]
    assert "*later " in ctl("snapshot", "tree", VM).out
    told = "yes, and below it the disks descend from checkpoint later (x), which is not ours"
    assert facts(ctl("snapshot", "show", VM, TWO).out)["Current"] == told
    current = facts(ctl("vm", "show", VM).out)["Current"]
    assert current == f"checkpoint later (x), which is not ours; the nearest snapshot above it is two ({TWO[-36:]})"


def test_deleted_ones_stand_below_the_others_and_name_their_parents(ctl: Ctl) -> None:
    said = ctl("snapshot", "list", VM, "--deleted", "--columns", "name,state,parent").out
    assert cells(said)[-1] == ["three", "REMOVED", "two"]


def test_what_the_tree_cannot_tell_is_shown_without_it(ctl: Ctl, service: FakeService) -> None:
    def stopped(_: object) -> Message:
        raise Refuse(grpc.StatusCode.UNAVAILABLE, "Cannot read the tree view.", "VIEW_STOPPED")

    service.answers["GetSnapshotTree"] = stopped
    assert facts(ctl("vm", "show", VM).out)["Current"] == TWO[-36:]
    shown = facts(ctl("snapshot", "show", VM, TWO).out)
    assert (shown["Current"], shown["Parent"]) == ("yes", ONE[-36:])
