"""What differs between a VM then and then, value by value, for people and for programs."""

from __future__ import annotations

import json

import pytest
from google.protobuf.message import Message

from snapshotd.api.v1.executor_pb2 import RUNNING, STOPPED
from snapshotd.api.v1.operation_pb2 import Failure
from snapshotd.api.v1.snapshot_pb2 import ForeignCheckpoint, GetSnapshotTreeRequest, Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import Disk, GetVirtualMachineRequest, VirtualMachine
from snapshotd.client.vm_diff import Change, State, changes
from tests.unit.client.fake_service import Ctl, FakeService

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
Node = SnapshotTree.Node


def uid(n: int) -> str:
    """Return the id of a snapshot."""
    return f"9999999{n}-2222-3333-4444-555555555501"


def node(n: int, name: str, parent: int = 0, **fields: object) -> Node:
    """Return a snapshot in a tree."""
    fields.setdefault("state", Snapshot.READY)
    own = Snapshot(name=f"{VM}/snapshots/{uid(n)}", uid=uid(n), display_name=name, **fields)  # type: ignore[arg-type]
    return Node(id=own.name, parent=f"{VM}/snapshots/{uid(parent)}" if parent else "", snapshot=own)


def foreign(name: str) -> Node:
    """Return a foreign checkpoint in a tree."""
    return Node(id="checkpoints/c", foreign_checkpoint=ForeignCheckpoint(checkpoint_id="c", display_name=name))


def state(*nodes: Node, current: int = 0, version: int = 1, **fields: object) -> State:
    """Return a VM with its tree."""
    fields = {"power": RUNNING, "owner": "ann", "host": "hosts/hv01", **fields}
    vm = VirtualMachine(name=VM, display_name="web01", version=version, **fields)  # type: ignore[arg-type]
    vm.update_time.FromSeconds(1_790_000_000 + version)
    at = f"{VM}/snapshots/{uid(current)}" if current else ""
    tree = SnapshotTree(nodes=nodes, current_node=at, current_snapshot=at, version=version, update_time=vm.update_time)
    return State(vm, tree)


def told(before: State, after: State) -> list[tuple[str, str, str, str]]:
    """Return the changes, without their subjects' resource names."""
    return [(c.name, c.field, c.before, c.after) for c in changes(before, after)]


def test_between_equal_states_nothing_differs() -> None:
    assert told(state(node(1, "one"), version=1), state(node(1, "one"), version=9)) == []


def test_of_the_vm_each_value_is_told() -> None:
    before = state(node(1, "one"), node(2, "two", 1), current=1, labels={"tier": "gold", "old": "x"})
    after = state(
        node(1, "one"),
        node(2, "two", 1),
        current=2,
        power=STOPPED,
        owner="bob",
        host="hosts/hv02",
        labels={"tier": "tin", "new": "y"},
        disks=[Disk(location="SCSI:0:0", path="a.vhdx")],
    )
    after.vm.service_offering.cpu_count = 4
    assert told(before, after) == [
        ("web01", "power", "RUNNING", "STOPPED"),
        ("web01", "host", "hv01", "hv02"),
        ("web01", "owner", "ann", "bob"),
        ("web01", "current", f"one ({uid(1)})", f"two ({uid(2)})"),
        ("web01", "cpus", "", "4"),
        ("web01", "label old", "x", ""),
        ("web01", "label tier", "gold", "tin"),
        ("web01", "label new", "", "y"),
        ("web01", "disk SCSI:0:0", "", "a.vhdx"),
    ]


def test_of_the_tree_what_came_went_and_changed_is_told() -> None:
    before = state(node(1, "one"), node(2, "two", 1), node(3, "three", 2), foreign("theirs"))
    failed = Failure(reason="CHECKPOINT_MISSING")
    after = state(
        node(1, "uno"),
        node(3, "three", 1),
        node(4, "four", 3, kind=Snapshot.DISK_AND_MEMORY, state=Snapshot.ERROR, failure=failed),
    )
    assert told(before, after) == [
        ("uno", "name", "one", "uno"),
        ("two", "", f"READY, below one ({uid(1)})", ""),
        ("three", "parent", f"two ({uid(2)})", f"uno ({uid(1)})"),
        ("theirs", "", "not ours, below none", ""),
        ("four", "", "", f"ERROR (CHECKPOINT_MISSING), below three ({uid(3)})"),
    ]


def test_a_snapshot_that_got_into_error_is_held_and_described_is_told() -> None:
    failed = Failure(reason="CHECKPOINT_MISSING")
    held = node(1, "one", state=Snapshot.ERROR, failure=failed, hold=Snapshot.Hold(actor="eve"), description="keep")
    found = list(changes(state(node(1, "one")), state(held)))
    assert found == [
        Change(held.id, "one", "state", "READY", "ERROR (CHECKPOINT_MISSING)"),
        Change(held.id, "one", "description", "", "keep"),
        Change(held.id, "one", "held", "", "by eve"),
    ]


@pytest.fixture
def past(service: FakeService) -> FakeService:
    """Let the service know a VM at two versions."""
    known = {3: state(node(1, "one"), version=3), 8: state(node(1, "one"), version=8, power=STOPPED)}

    def vm(request: GetVirtualMachineRequest) -> Message:
        return known[request.as_of_version].vm if request.WhichOneof("as_of") else VirtualMachine(name=VM)

    def tree(request: GetSnapshotTreeRequest) -> Message:
        return known[request.as_of_version].tree

    service.answers |= {"GetVirtualMachine": vm, "GetSnapshotTree": tree}
    return service


def test_differences_are_laid_out_for_people(ctl: Ctl, past: FakeService) -> None:
    assert past.answers
    assert ctl("audit", "diff", VM, "--from", "3", "--to", "8", "--utc").out.splitlines() == [
        "web01 from version 3 (2026-09-21 14:13:23Z) to version 8 (2026-09-21 14:13:28Z)",
        "WHAT   BEFORE   AFTER",
        "power  RUNNING  STOPPED",
    ]
    assert ctl("audit", "diff", VM, "--from", "3", "--to", "3").out.endswith("\nNothing differs.\n")


def test_ids_are_short_but_not_those_in_paths(ctl: Ctl, service: FakeService) -> None:
    path = f"D:\\{uid(1)}\\web01-{uid(1)[:8]}.vhdx"
    known = {
        1: state(node(1, "one"), version=1),
        2: state(node(1, "one"), current=1, version=2, disks=[Disk(location="SCSI:0:0", path=path)]),
    }
    service.answers["GetSnapshotTree"] = lambda r: known[r.as_of_version].tree
    service.answers["GetVirtualMachine"] = lambda r: known[r.as_of_version or 1].vm
    rows = [line.split() for line in ctl("audit", "diff", VM, "--from", "1", "--to", "2").out.splitlines()]
    assert ["current", "-", "one", f"({uid(1)[:8]})"] in rows
    assert ["disk", "SCSI:0:0", "-", path] in rows
    assert f"one ({uid(1)})" in ctl("audit", "diff", VM, "--from", "1", "--to", "2", "--full-ids").out


def test_differences_are_a_document_for_programs(ctl: Ctl, past: FakeService) -> None:
    assert past.answers
    assert json.loads(ctl("audit", "diff", VM, "--from", "3", "--to", "8", "-o", "json").out) == {
        "virtual_machine": VM,
        "from": {"version": 3, "time": "2026-09-21T14:13:23Z"},
        "to": {"version": 8, "time": "2026-09-21T14:13:28Z"},
        "changes": [{"subject": VM, "name": "web01", "field": "power", "before": "RUNNING", "after": "STOPPED"}],
    }


def test_a_vm_and_its_tree_are_shown_as_they_were(ctl: Ctl, past: FakeService) -> None:
    assert past.answers
    tree = ctl("snapshot", "tree", VM, "--at", "8", "--utc", "--ascii").out.splitlines()
    assert tree[0] == "As of version 8, 2026-09-21 14:13:28Z."
    assert any(line.startswith("one ") for line in tree)
    shown = ctl("vm", "show", VM, "--at", "8", "--utc").out
    assert shown.startswith("As of version 8, 2026-09-21 14:13:28Z.\n")
    assert "STOPPED" in shown
    assert json.loads(ctl("vm", "show", VM, "--at", "3", "-o", "json").out)["version"] == "3"
