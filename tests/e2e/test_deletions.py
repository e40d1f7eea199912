"""Deletes of several snapshots by running programs, which are killed meanwhile, against the host's own record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.operation_pb2 import Plan
from tests.e2e.system import Client, System, metadata_of, until

SCOPES = pb.DeleteSnapshotRequest
DURATIONS = ["--duration", "remove=30", "merge=150"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), ("web01", "web02", "web03", "web04"), DURATIONS) as running:
        yield running


def name_of(checkpoint: dict[str, Any]) -> str:
    """Return a checkpoint's name for people."""
    return str(checkpoint["name"]).partition(" #")[0]


def grow(system: System, vm: str) -> None:
    """Grow a tree on a running VM, with others' checkpoints among ours, and other contents in each.

    a ─┬─ b ─┬─ c ── theirs-c
       │     └─ d
       └─ theirs-a ── e, current
    """
    taken = 0
    for name, below in (("a", ""), ("b", "a"), ("c", "b"), ("theirs-c", "c"), ("d", "b"), ("theirs-a", "a"), ("e", "")):
        if below and name_of(current(system, vm)) != below:
            revert(system, vm, below)
        for location in ("SCSI:0:0", "SCSI:0:1"):
            taken += 1
            system.host.control("write_disk", vm=vm, location=location, block=str(taken % 3), data=f"{name} {taken}")
        if name.startswith("theirs"):
            system.host.control("admin", do="checkpoint", vm=vm, name=name)
        else:
            ended = system.client.wait(system.client.create(system.ids[vm], name, memory=name != "c"))
            assert not ended.HasField("error"), ended.error.message


def current(system: System, vm: str) -> dict[str, Any]:
    """Return the VM's current checkpoint."""
    truth = system.truth_of(system.ids[vm])
    return next(c for c in truth["checkpoints"] if c["id"] == truth["current"])


def revert(system: System, vm: str, to: str) -> None:
    """Bring the VM back."""
    operation = system.client.snapshots.RevertToSnapshot(pb.RevertToSnapshotRequest(name=own(system, vm)[to].name))
    ended = system.client.wait(operation)
    assert not ended.HasField("error"), ended.error.message


def own(system: System, vm: str) -> dict[str, pb.Snapshot]:
    """Return the VM's snapshots, by name."""
    return {s.display_name: s for s in system.client.list_snapshots(system.ids[vm])}


def without(before: dict[str, Any], gone: set[str]) -> dict[str, Any]:
    """Return what must be left of a VM, by the names of what is deleted: contents as before, below what is nearest."""
    by_id = {c["id"]: c for c in before["checkpoints"]}

    def nearest(checkpoint_id: str) -> str:
        while checkpoint_id and name_of(by_id[checkpoint_id]) in gone:
            checkpoint_id = by_id[checkpoint_id]["parent"]
        return checkpoint_id

    kept = (c for c in before["checkpoints"] if name_of(c) not in gone)
    return {
        "disks": {at: disk["sha256"] for at, disk in before["disks"].items()},
        "current": nearest(before["current"]),
        "checkpoints": {c["id"]: (name_of(c), nearest(c["parent"]), c["disks"]) for c in kept},
    }


def there(system: System, vm: str) -> dict[str, Any]:
    """Return what is there of the VM, in the form of `without`."""
    return without(system.truth_of(system.ids[vm]), set())


def removals(system: System, operation: Operation) -> int:
    """Return how many checkpoints an operation has removed; no step has done so twice."""
    effects = [e for e in system.host.decisive() if e["operation"] == operation.name]
    assert {e["effect"] for e in effects} <= {"checkpoint_removed"}
    assert len({e["step"] for e in effects}) == len(effects)
    return len(effects)


def delete(
    system: System, vm: str, name: str, scope: pb.DeleteSnapshotRequest.Scope.ValueType, *, validate_only: bool = False
) -> Operation:
    """Ask for a delete."""
    request = pb.DeleteSnapshotRequest(name=own(system, vm)[name].name, scope=scope, validate_only=validate_only)
    return system.client.snapshots.DeleteSnapshot(request)


def kill_all_meanwhile(system: System, operation: Operation) -> None:
    """Kill script, daemon and executor, each when another snapshot is being deleted."""
    system.host.control("kill_script", at="Remove-VMSnapshot:started", count=1)
    until(lambda: removals(system, operation) > 0)
    system.daemon.restart()
    system.client = Client(system.daemon.address)
    until(lambda: removals(system, operation) > 1)
    system.executor.restart()


def response_of(ended: Operation) -> pb.DeleteSnapshotResponse:
    """Return the response of a delete that has succeeded."""
    assert not ended.HasField("error"), ended.error.message
    response = pb.DeleteSnapshotResponse()
    assert ended.response.Unpack(response)
    return response


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize(("vm", "killed"), [("web01", False), ("web02", True)], ids=["undisturbed", "killed meanwhile"])
def test_a_subtree_goes_leaf_by_leaf_and_others_keep_all_they_hold(system: System, vm: str, *, killed: bool) -> None:
    grow(system, vm)
    before, snapshots = system.truth_of(system.ids[vm]), own(system, vm)
    plan = Plan()
    delete(system, vm, "b", SCOPES.WITH_DESCENDANTS, validate_only=True).response.Unpack(plan)
    assert there(system, vm) == without(before, set())
    operation = delete(system, vm, "b", SCOPES.WITH_DESCENDANTS)
    if killed:
        kill_all_meanwhile(system, operation)
    ended = system.client.wait(operation)
    assert list(response_of(ended).removed) == [snapshots[name].name for name in ("c", "d", "b")]
    assert list(metadata_of(ended).snapshots_removed) == list(response_of(ended).removed)
    assert list(plan.snapshots_discarded) == list(response_of(ended).removed)
    assert list(plan.warnings) == [
        "Checkpoint theirs-c is not ours and stays. The host moves it: it will stand below a."
    ]
    assert there(system, vm) == without(before, {"b", "c", "d"})
    assert removals(system, operation) == 3
    assert set(own(system, vm)) == {"a", "e"}
    assert system.client.tree(system.ids[vm]).current_snapshot == plan.new_current == snapshots["e"].name


@pytest.mark.slow
@pytest.mark.kill
def test_all_go_but_the_one_that_cannot_and_the_answer_names_it(system: System) -> None:
    vm = "web03"
    grow(system, vm)
    before, snapshots = system.truth_of(system.ids[vm]), own(system, vm)
    fails = {"cmdlet": "Remove-VMSnapshot", "error_id": "OperationFailed", "message": "No."}
    system.host.control("fail", **fails, count=1)
    request = pb.DeleteAllSnapshotsRequest(parent=f"virtualMachines/{system.ids[vm]}")
    operation = system.client.snapshots.DeleteAllSnapshots(request)
    kill_all_meanwhile(system, operation)
    ended = system.client.wait(operation)
    details = pb.DeleteAllSnapshotsResponse()
    assert [d for d in ended.error.details if d.Unpack(details)]
    (left,) = [name for name, s in snapshots.items() if s.name in details.failures]
    assert details.failures[snapshots[left].name].reason == "HOST_ERROR"
    assert set(details.removed) == {s.name for s in snapshots.values()} - {snapshots[left].name}
    assert f"Cannot delete 1 of 5 snapshots of VM {vm}. {left}: No." in ended.error.message
    assert there(system, vm) == without(before, set(snapshots) - {left})
    assert {name: s.state for name, s in own(system, vm).items()} == {left: pb.Snapshot.READY}
    again = system.client.wait(system.client.snapshots.DeleteAllSnapshots(request))
    response = pb.DeleteAllSnapshotsResponse()
    again.response.Unpack(response)
    assert (list(response.removed), dict(response.failures)) == ([snapshots[left].name], {})
    assert there(system, vm) == without(before, set(snapshots))
    assert (removals(system, operation), removals(system, again)) == (4, 1)
    nothing = system.client.snapshots.DeleteAllSnapshots(request)
    assert (nothing.done, metadata_of(nothing).step_count) == (True, 0)


@pytest.mark.slow
def test_a_failure_in_the_middle_leaves_the_rest_as_it_is(system: System) -> None:
    vm = "web04"
    grow(system, vm)
    before, snapshots = system.truth_of(system.ids[vm]), own(system, vm)
    operation = delete(system, vm, "a", SCOPES.ONLY_DESCENDANTS)
    until(lambda: removals(system, operation) > 0)
    fails = {"cmdlet": "Remove-VMSnapshot", "error_id": "OperationFailed", "message": "No."}
    system.host.control("fail", **fails, count=9)
    ended = system.client.wait(operation)
    system.host.control("fail", **fails, count=0)
    gone = {name for name, s in snapshots.items() if s.name in metadata_of(ended).snapshots_removed}
    assert 0 < len(gone) < 4
    assert there(system, vm) == without(before, gone)
    rest = set(snapshots) - gone
    assert {name: s.state for name, s in own(system, vm).items()} == dict.fromkeys(rest, pb.Snapshot.READY)
    assert ended.error.message.count("Not deleted: ") == 1
