"""What users of such systems complain about: each complaint is a test that begins with its words.

The whole product as processes over a simulated host. What is on record is compared with the host's own truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.longrunning.operations_pb2 import CancelOperationRequest, GetOperationRequest, Operation
from google.longrunning.operations_pb2 import WaitOperationRequest as Wait

from snapshotd.api.v1 import host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.snapshot_pb2 import Snapshot
from tests.e2e.system import System, metadata_of, refusal, until

LONG_MS = 600_000
"""How long the host works on what a test interrupts."""
CREATE_WAIT_S = 2
NAMES = (
    *(
        "restarted",
        "failed",
        "late",
        "orphan",
        "merged",
        "stopped",
        "parent",
        "waits",
        "limited",
        "full",
        "bad",
        "good",
    ),
    *("twice", "racing", "backed-up"),
)
pytestmark = pytest.mark.slow
VMS = {name: f"vm-{name}" for name in NAMES}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    options = ["--snapshots-create-wait", f"{CREATE_WAIT_S} s"]
    directory = tmp_path_factory.mktemp("system")
    with System(directory, tuple(VMS.values()), daemon_options=options) as running:
        yield running


class Vm:
    """One VM of the system, as its client and as its host see it."""

    def __init__(self, system: System, name: str) -> None:
        self.system, self.client = system, system.client
        self.name, self.vm_id = VMS[name], system.ids[VMS[name]]

    @property
    def resource(self) -> str:
        """Its resource name."""
        return f"virtualMachines/{self.vm_id}"

    @property
    def truth(self) -> dict[str, Any]:
        """The VM as its host has it."""
        return self.system.truth_of(self.vm_id)

    def take(self, name: str, *, memory: bool = False) -> Snapshot:
        """Take a snapshot, and return it."""
        done = self.client.wait(self.client.create(self.vm_id, name, memory=memory))
        assert not done.HasField("error"), done.error.message
        return self.snapshot(name)

    def snapshot(self, name: str) -> Snapshot:
        """Return the snapshot of that name that is not REMOVED."""
        (found,) = [s for s in self.client.list_snapshots(self.vm_id) if s.display_name == name]
        return found

    def delete(self, snapshot: Snapshot) -> Operation:
        """Ask for a delete."""
        return self.client.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=snapshot.name))

    def write(self, data: str) -> None:
        """Write the same to each of its disks."""
        for location in self.truth["disks"]:
            self.system.host.control("write_disk", vm=self.name, location=location, block="0", data=data)

    def control(self, action: str, **arguments: object) -> None:
        """Have the host do something."""
        self.system.host.control(action, **arguments)

    def agrees_with_its_host(self) -> None:
        """Check that the tree of record is the host's: own checkpoints, their parents, current, power."""
        tree, truth = self.client.tree(self.vm_id), self.truth
        own = {n.id: n.snapshot.checkpoint_id or n.foreign_checkpoint.checkpoint_id for n in tree.nodes}
        assert {own[n.id]: own.get(n.parent, "") for n in tree.nodes} == {
            c["id"]: c["parent"] for c in truth["checkpoints"]
        }
        assert own.get(tree.current_node, "") == truth["current"]


def ended_over_a_restart(vm: Vm, operation: Operation, job: str) -> None:
    """Kill the daemon while the host is at a job, start it again, and wait until the operation has succeeded."""
    until(lambda: vm.truth["job"] == job)
    vm.system.daemon.restart()
    vm.control("durations", checkpoint=0, remove=0)
    until(lambda: bool(vm.client.list_snapshots(vm.vm_id)))
    done = vm.client.wait(_now(vm, operation))
    assert not done.HasField("error"), done.error.message


def test_stuck_in_a_transient_state_for_ever_after_a_restart(system: System) -> None:
    vm = Vm(system, "restarted")
    first = vm.take("first")
    vm.control("durations", checkpoint=LONG_MS, remove=LONG_MS)
    ended_over_a_restart(vm, vm.client.create(vm.vm_id, "second"), "CreatingSnapshot")
    vm.control("durations", remove=LONG_MS)
    ended_over_a_restart(vm, vm.delete(first), "DeletingSnapshot")
    assert [(s.display_name, s.state) for s in vm.client.list_snapshots(vm.vm_id)] == [("second", Snapshot.READY)]
    vm.agrees_with_its_host()


def test_stuck_in_a_transient_state_for_ever_after_a_failed_delete(system: System) -> None:
    vm = Vm(system, "failed")
    snapshot = vm.take("kept")
    vm.control("fail", cmdlet="Remove-VMSnapshot", error_id="OperationFailed", message="No.", count=100)
    failed = vm.client.wait(vm.delete(snapshot))
    assert failed.HasField("error")
    assert vm.snapshot("kept").state == Snapshot.READY, "its checkpoint is intact"
    assert "No." in vm.snapshot("kept").failure.message
    vm.control("fail", cmdlet="Remove-VMSnapshot", error_id="OperationFailed", message="No.", count=0)
    assert not vm.client.wait(vm.delete(snapshot)).HasField("error"), "and it can be deleted again"
    vm.agrees_with_its_host()


def test_the_server_times_out_and_the_host_finishes_later_and_the_record_points_at_a_disk_path_that_is_gone(
    system: System,
) -> None:
    vm = Vm(system, "late")
    for name in ("a", "b", "c"):
        vm.take(name)
    vm.control("drop", when="after", kinds=["checkpoint_remove"], count=1)
    vm.control("durations", merge=1500)
    assert not vm.client.wait(vm.delete(vm.snapshot("b"))).HasField("error")
    vm.control("durations", merge=0)
    there = set(vm.truth["files"])
    for snapshot in vm.client.list_snapshots(vm.vm_id):
        assert snapshot.disks
        assert {disk.path for disk in snapshot.disks} <= there, snapshot.display_name
    told = vm.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=vm.resource))
    assert {d.location: d.path for d in told.disks} == {at: d["chain"][0] for at, d in vm.truth["disks"].items()}


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_snapshot_that_appears_after_its_create_timed_out_and_that_nobody_owns(
    system: System, *, cancelled: bool
) -> None:
    vm = Vm(system, "orphan")
    before = {c["id"] for c in vm.truth["checkpoints"]}
    name = f"late-{cancelled}"
    vm.control("durations", checkpoint=LONG_MS)
    operation = vm.client.create(vm.vm_id, name)
    until(lambda: vm.truth["job"] == "CreatingSnapshot")
    until(lambda: metadata_of(_now(vm, operation)).steps[0].failure.reason == "DEADLINE_EXCEEDED")
    if cancelled:
        vm.client.operations.CancelOperation(CancelOperationRequest(name=operation.name))
    vm.control("durations", checkpoint=0)  # only now does it appear
    done = vm.client.wait(operation)
    after = {c["id"] for c in vm.truth["checkpoints"]}
    if cancelled:
        assert done.error.code == grpc.StatusCode.CANCELLED.value[0]
        assert after == before
    else:
        assert not done.HasField("error"), done.error.message
        assert after - before == {vm.snapshot(name).checkpoint_id}
    vm.agrees_with_its_host()


def _now(vm: Vm, operation: Operation) -> Operation:
    return vm.client.operations.GetOperation(GetOperationRequest(name=operation.name))


def test_a_merge_that_succeeded_for_one_disk_treated_as_all_or_nothing(system: System) -> None:
    vm = Vm(system, "merged")
    snapshot = vm.take("one")
    vm.write("after")
    files = set(vm.truth["files"])
    vm.control("durations", merge=1000)
    operation = vm.delete(snapshot)
    until(lambda: len(vm.truth["files"]) < len(files))  # one disk of two is merged
    vm.control("durations", merge=LONG_MS)
    (left,) = (at for at, disk in vm.truth["disks"].items() if len(disk["chain"]) > 1)
    until(lambda: f"Left: {left}: 1 file" in metadata_of(_now(vm, operation)).wait.message)
    assert vm.snapshot("one").state == Snapshot.EXPUNGING
    system.executor.restart()
    vm.control("durations", merge=0)
    assert not vm.client.wait(operation).HasField("error")
    assert len(vm.truth["files"]) == len(vm.truth["disks"])
    for location in vm.truth["disks"]:
        assert system.host.control("read_disk", vm=vm.name, location=location)["blocks"] == {"0": "after"}


def test_stop_and_start_lose_the_checkpoints(system: System) -> None:
    vm = Vm(system, "stopped")
    for name in ("a", "b"):
        vm.take(name, memory=True)
    tree = [(s.display_name, s.parent, s.checkpoint_id, s.current) for s in vm.client.list_snapshots(vm.vm_id)]
    stop = vm_pb2.StopVirtualMachineRequest(name=vm.resource)
    assert not vm.client.wait(vm.client.vms.StopVirtualMachine(stop)).HasField("error")
    start = vm_pb2.StartVirtualMachineRequest(name=vm.resource)
    assert not vm.client.wait(vm.client.vms.StartVirtualMachine(start)).HasField("error")
    vm.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
    assert [(s.display_name, s.parent, s.checkpoint_id, s.current) for s in vm.client.list_snapshots(vm.vm_id)] == tree
    vm.agrees_with_its_host()


def test_a_delete_that_takes_children_with_it(system: System) -> None:
    vm = Vm(system, "parent")
    root = vm.take("root")
    for name in ("left", "right"):
        vm.take(name)
        request = snapshot_pb2.RevertToSnapshotRequest(name=root.name)
        assert not vm.client.wait(vm.client.snapshots.RevertToSnapshot(request)).HasField("error")
    assert not vm.client.wait(vm.delete(root)).HasField("error")
    left, right = vm.snapshot("left"), vm.snapshot("right")
    assert (left.state, right.state, left.parent, right.parent) == (Snapshot.READY, Snapshot.READY, "", "")
    vm.agrees_with_its_host()


def test_success_shown_before_the_work_is_done(system: System) -> None:
    vm = Vm(system, "waits")
    snapshot = vm.take("one")
    vm.control("durations", merge=LONG_MS)
    operation = vm.delete(snapshot)
    until(lambda: vm.truth["merging"])
    wait = Wait(name=operation.name)
    wait.timeout.FromSeconds(1)
    assert not vm.client.operations.WaitOperation(wait).done
    assert vm.snapshot("one").state == Snapshot.EXPUNGING
    vm.control("durations", merge=0)
    assert not vm.client.wait(operation).HasField("error")
    assert not vm.truth["merging"]
    assert vm.client.list_snapshots(vm.vm_id) == []


def test_the_limit_that_nobody_can_see(system: System) -> None:
    vm = Vm(system, "limited")
    limit = vm.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=vm.resource)).snapshot_limit
    for number in range(limit):
        vm.take(f"s{number}")
    told = vm.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=vm.resource))
    assert told.snapshot_count == told.snapshot_limit == limit
    code, reason, text = refusal(lambda: vm.client.create(vm.vm_id, "one more"))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SNAPSHOT_LIMIT_REACHED")
    assert str(limit) in text


def test_an_error_that_hides_its_cause(system: System) -> None:
    vm = Vm(system, "full")
    cause = "There is not enough space on the disk."
    vm.control("fail", cmdlet="Checkpoint-VM", error_id="OperationFailed", message=cause, count=100)
    failed = vm.client.wait(vm.client.create(vm.vm_id, "one"))
    vm.control("fail", cmdlet="Checkpoint-VM", error_id="OperationFailed", message=cause, count=0)
    assert cause in failed.error.message
    assert "OperationFailed" in failed.error.message, "and the id by which it can be looked up"
    request = snapshot_pb2.ListSnapshotsRequest(parent=vm.resource)
    assert cause in vm.client.snapshots.ListSnapshots(request).snapshots[0].failure.message


def test_one_bad_operation_blocking_all_others(system: System) -> None:
    bad, good = Vm(system, "bad"), Vm(system, "good")
    bad.control("durations", checkpoint=LONG_MS)
    stuck = bad.client.create(bad.vm_id, "stuck")
    until(lambda: bad.truth["job"] == "CreatingSnapshot")
    bad.control("durations", checkpoint=0)
    bad.control("storage", vm=bad.name, up=False)
    bad.control("critical", vm=bad.name)
    for number in range(3):
        good.take(f"s{number}")
    good.agrees_with_its_host()
    bad.control("critical", vm=bad.name, critical=False)
    bad.control("storage", vm=bad.name, up=True)
    bad.client.wait(stuck)
    bad.agrees_with_its_host()


def test_duplicate_names(system: System) -> None:
    vm = Vm(system, "twice")
    vm.take("nightly")
    code, reason, _ = refusal(lambda: vm.client.create(vm.vm_id, "nightly"))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "SNAPSHOT_EXISTS")
    assert not vm.client.wait(vm.delete(vm.snapshot("nightly"))).HasField("error")
    vm.take("nightly")
    assert len(vm.truth["checkpoints"]) == 1


def test_a_shutdown_racing_a_merge(system: System) -> None:
    vm = Vm(system, "racing")
    snapshot = vm.take("one")
    vm.write("after")
    vm.control("durations", merge=LONG_MS)
    operation = vm.delete(snapshot)
    until(lambda: vm.truth["merging"])
    stop = vm_pb2.StopVirtualMachineRequest(name=vm.resource)
    assert not vm.client.wait(vm.client.vms.StopVirtualMachine(stop)).HasField("error"), "it passes the merge"
    assert vm.snapshot("one").state == Snapshot.EXPUNGING
    code, reason, _ = refusal(lambda: vm.client.create(vm.vm_id, "two"))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MERGE_PENDING")
    vm.control("durations", merge=0)
    assert not vm.client.wait(operation).HasField("error")
    assert vm.truth["state"] == "Off"
    assert system.host.control("read_disk", vm=vm.name, location="SCSI:0:0")["blocks"] == {"0": "after"}
    vm.agrees_with_its_host()


def test_backup_products_recovery_checkpoints_taken_for_our_own(system: System) -> None:
    vm = Vm(system, "backed-up")
    own = vm.take("ours")
    made = system.host.control("admin", do="checkpoint", vm=vm.name, name="Backup", type="Recovery")
    vm.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
    assert [s.name for s in vm.client.list_snapshots(vm.vm_id)] == [own.name]
    tree = vm.client.tree(vm.vm_id)
    (foreign,) = [n.foreign_checkpoint for n in tree.nodes if n.HasField("foreign_checkpoint")]
    assert (foreign.display_name, foreign.checkpoint_type) == ("Backup", "Recovery")
    assert tree.current_snapshot == own.name, "the nearest one of ours"
    assert not vm.client.wait(vm.delete(own)).HasField("error")
    assert [c["name"] for c in vm.truth["checkpoints"]] == ["Backup"], made
    vm.agrees_with_its_host()
