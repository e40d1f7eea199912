"""Checkpoints that others made become ours on a simulated host, and snapshots get other names: on record and there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import snapshot_pb2 as pb
from tests.e2e.system import System

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), ("web01", "db01")) as running:
        yield running


def names_on_host(system: System, vm_id: str) -> dict[str, str]:
    """Return the names of a VM's checkpoints, by id."""
    return {c["id"]: c["name"] for c in system.truth_of(vm_id)["checkpoints"]}


def agrees(system: System, vm_id: str) -> None:
    """Check that the tree of record is the host's, and that another look finds no drift."""
    tree, truth = system.client.tree(vm_id), system.truth_of(vm_id)
    own = {n.id: n.snapshot.checkpoint_id or n.foreign_checkpoint.checkpoint_id for n in tree.nodes}
    assert {own[n.id]: own.get(n.parent, "") for n in tree.nodes} == {
        c["id"]: c["parent"] for c in truth["checkpoints"]
    }
    assert own.get(tree.current_node, "") == truth["current"]
    assert not system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01")).drifts


def succeeded(system: System, operation: Operation) -> Operation:
    """Wait for an operation, which must succeed."""
    done = system.client.wait(operation)
    assert not done.HasField("error"), done.error.message
    return done


def test_an_adopted_checkpoint_bears_our_marker_and_stands_in_the_tree_where_it_was(system: System) -> None:
    vm_id, client = system.ids["web01"], system.client
    succeeded(system, client.create(vm_id, "one"))
    made = system.host.control("admin", do="checkpoint", vm="web01", name="by hand", automatic=False, type="Standard")[
        "checkpoint"
    ]
    succeeded(system, client.create(vm_id, "two"))
    request = pb.AdoptCheckpointRequest(
        parent=f"virtualMachines/{vm_id}", checkpoint_id=made, snapshot=pb.Snapshot(labels={"by": "hand"})
    )
    adopted = pb.Snapshot()
    assert succeeded(system, client.snapshots.AdoptCheckpoint(request)).response.Unpack(adopted)
    assert (adopted.display_name, dict(adopted.labels), adopted.adopted) == ("by hand", {"by": "hand"}, True)
    assert names_on_host(system, vm_id)[made] == f"by hand #{adopted.uid}"
    parents = {s.display_name: s.parent.rpartition("/")[2] for s in client.list_snapshots(vm_id)}
    ids = {s.display_name: s.uid for s in client.list_snapshots(vm_id)}
    assert parents == {"one": "", "by hand": ids["one"], "two": ids["by hand"]}
    agrees(system, vm_id)
    succeeded(system, client.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=adopted.name)))
    agrees(system, vm_id)


def test_a_renamed_snapshot_is_renamed_on_its_host_and_a_running_vm_runs_on(system: System) -> None:
    vm_id, client = system.ids["db01"], system.client
    succeeded(system, client.create(vm_id, "old", memory=True))
    (snapshot,) = client.list_snapshots(vm_id)
    said = pb.Snapshot(name=snapshot.name, display_name="new", description="words")
    renamed = pb.Snapshot()
    update = client.snapshots.UpdateSnapshot(pb.UpdateSnapshotRequest(snapshot=said))
    assert succeeded(system, update).response.Unpack(renamed)
    assert (renamed.display_name, renamed.description) == ("new", "words")
    assert names_on_host(system, vm_id) == {snapshot.checkpoint_id: f"new #{snapshot.uid}"}
    assert system.truth_of(vm_id)["state"] == "Running"
    agrees(system, vm_id)
