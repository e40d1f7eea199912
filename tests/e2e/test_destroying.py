"""VMs are destroyed, by gRPC: what goes and what stays, compared with what the simulated host has, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import audit_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.executor_pb2 import ABSENT
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from tests.e2e.system import System, metadata_of, refusal

pytestmark = pytest.mark.slow

OFF = ("kept01", "gone01", "held01", "foreign01", "shares01", "shared01", "by-hand01")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    over_image = ("gone01", "other01")
    names = ("run01", "other01", *OFF)
    states = dict.fromkeys(OFF, "Off")
    with System(tmp_path_factory.mktemp("system"), names, states=states, over_image=over_image) as running:
        yield running


def name_of(system: System, vm: str) -> str:
    """Return a VM's resource name."""
    return f"virtualMachines/{system.ids[vm]}"


def destroy(system: System, vm: str, **fields: object) -> Operation:
    """Ask for a VM's destruction."""
    request = pb.DestroyVirtualMachineRequest(name=name_of(system, vm), **fields)  # type: ignore[arg-type]  # by their fields
    return system.client.vms.DestroyVirtualMachine(request)


def planned(system: System, vm: str, **fields: object) -> Plan:
    """Return what a VM's destruction would lead to."""
    plan = Plan()
    assert destroy(system, vm, validate_only=True, **fields).response.Unpack(plan)
    return plan


def succeeded(system: System, operation: Operation) -> OperationMetadata:
    """Wait for an operation, which must succeed."""
    done = system.client.wait(operation)
    assert not done.HasField("error"), done.error.message
    return metadata_of(done)


def write(system: System, vm: str, location: str, block: int, data: str) -> None:
    """Let a guest write."""
    system.host.control("write_disk", vm=vm, location=location, block=str(block), data=data)


def shown(system: System, vm: str) -> pb.VirtualMachine:
    """Return a VM as it is on record."""
    return system.client.vms.GetVirtualMachine(pb.GetVirtualMachineRequest(name=name_of(system, vm)))


def disks_of(system: System, vm: str) -> dict[str, Path]:
    """Return the files that a VM's disks begin with, by place."""
    return {disk.location: Path(disk.path) for disk in shown(system, vm).disks}


def content(file: Path) -> dict[str, str]:
    """Return what a guest that has only this file would read."""
    held = json.loads(file.read_text(encoding="utf-8"))
    return {**(content(Path(held["parent"])) if held["parent"] else {}), **held["blocks"]}


def is_there(system: System, vm: str) -> bool:
    """Return whether the host has a VM."""
    return any(there["id"] == system.ids[vm] for there in system.host.control("state")["vms"])


def test_a_running_vm_goes_with_its_snapshots_and_its_disks_keep_what_the_guest_saw_last(system: System) -> None:
    client, vm_id = system.client, system.ids["run01"]
    disks = disks_of(system, "run01")
    write(system, "run01", "SCSI:0:0", 1, "first")
    succeeded(system, client.create(vm_id, "disks"))
    write(system, "run01", "SCSI:0:0", 1, "second")
    succeeded(system, client.create(vm_id, "memory", memory=True))
    write(system, "run01", "SCSI:0:0", 2, "third")
    write(system, "run01", "SCSI:0:1", 1, "data")

    plan = planned(system, "run01")
    assert [s.name for s in plan.steps] == ["stop", "remove", "merge", "remove", "merge", "remove VM"]
    leaf, root = sorted(client.list_snapshots(vm_id), key=lambda s: s.display_name, reverse=True)
    assert list(plan.snapshots_discarded) == [leaf.name, root.name]
    assert any("stay as they are" in warning for warning in plan.warnings), plan.warnings

    told = succeeded(system, destroy(system, "run01", expected_plan=plan.etag))
    assert set(told.snapshots_removed) == {leaf.name, root.name}
    assert not is_there(system, "run01")
    assert content(disks["SCSI:0:0"]) == {"1": "second", "2": "third"}
    assert content(disks["SCSI:0:1"]) == {"1": "data"}
    assert not list(disks["SCSI:0:0"].parent.glob("*.avhdx"))


def test_what_is_on_record_of_a_destroyed_vm_is_read_and_not_changed(system: System) -> None:
    client, vm_id, name = system.client, system.ids["kept01"], name_of(system, "kept01")
    succeeded(system, client.create(vm_id, "last"))
    (snapshot,) = client.list_snapshots(vm_id)
    succeeded(system, destroy(system, "kept01"))

    vm = shown(system, "kept01")
    assert (pb.VirtualMachine.State.Name(vm.state), vm.power) == ("DESTROYED", ABSENT)
    assert client.list_snapshots(vm_id) == []
    again = client.snapshots.GetSnapshot(snapshot_pb2.GetSnapshotRequest(name=snapshot.name))
    assert again.state == snapshot_pb2.Snapshot.REMOVED
    events = client.audit.ListEvents(audit_pb2.ListEventsRequest(virtual_machine=name, page_size=1000))
    assert {"VmRegistered", "SnapshotRemoved", "OperationSucceeded"} <= {event.type for event in events.events}
    assert not client.tree(vm_id).nodes

    listed = pb.ListVirtualMachinesRequest(page_size=1000)
    assert vm_id not in {vm.uid for vm in client.vms.ListVirtualMachines(listed).virtual_machines}
    listed.show_unregistered = True
    assert vm_id in {vm.uid for vm in client.vms.ListVirtualMachines(listed).virtual_machines}

    forbidden = (grpc.StatusCode.FAILED_PRECONDITION, "VM_DESTROYED")
    assert refusal(lambda: client.create(vm_id, "more"))[:2] == forbidden
    assert refusal(lambda: destroy(system, "kept01"))[:2] == forbidden
    unregister = pb.UnregisterVirtualMachineRequest(name=name)
    assert refusal(lambda: client.vms.UnregisterVirtualMachine(unregister))[:2] == forbidden
    assert not client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01")).drifts


def test_its_own_disks_are_deleted_and_the_image_below_stays(system: System) -> None:
    vm_id, client = system.ids["gone01"], system.client
    own = disks_of(system, "gone01")
    image = Path(json.loads(own["SCSI:0:0"].read_text(encoding="utf-8"))["parent"])
    succeeded(system, client.create(vm_id, "one"))
    write(system, "gone01", "SCSI:0:0", 1, "own")
    leaves = disks_of(system, "gone01")

    plan = planned(system, "gone01", delete_disks=True)
    assert [s.name for s in plan.steps][-2:] == ["remove VM", "delete files"]
    said = " ".join(plan.warnings)
    assert all(str(path) in said for path in (*own.values(), image)), said
    assert f"{image} is left: VM other01 uses it." in plan.warnings

    told = succeeded(system, destroy(system, "gone01", delete_disks=True))
    assert not is_there(system, "gone01")
    assert not any(path.exists() for path in (*own.values(), *leaves.values()))
    assert content(image) == {"1": "os"}
    assert content(disks_of(system, "other01")["SCSI:0:0"])["1"] == "os"
    assert all(str(path) in told.outcome_detail for path in own.values()), told


def test_a_disk_that_another_vm_has_stays_and_is_named(system: System) -> None:
    disks = disks_of(system, "shares01")
    system.host.control("admin", do="attach", vm="shared01", location="SCSI:0:2", path=str(disks["SCSI:0:1"]))
    system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
    plan = planned(system, "shares01", delete_disks=True)
    assert f"{disks['SCSI:0:1']} is left: VM shared01 uses it." in plan.warnings
    told = succeeded(system, destroy(system, "shares01", delete_disks=True))
    assert (disks["SCSI:0:0"].exists(), disks["SCSI:0:1"].exists()) == (False, True)
    assert "(another VM uses it)" in told.outcome_detail
    assert "shared01" not in told.outcome_detail  # who may see the one VM need not see the other


def test_one_that_nobody_has_registered_keeps_its_disk_too(system: System) -> None:
    """Before the host deletes a file, it looks at all of its VMs, also at those that nobody knows to use it."""
    disks = disks_of(system, "by-hand01")
    system.host.control("admin", do="attach", vm="shared01", location="SCSI:0:3", path=str(disks["SCSI:0:0"]))
    ended = system.client.wait(destroy(system, "by-hand01", delete_disks=True))
    assert "FileInUse" in ended.error.message or "is in a chain of shared01" in ended.error.message, ended.error
    assert not is_there(system, "by-hand01")
    assert all(path.exists() for path in disks.values())
    assert pb.VirtualMachine.State.Name(shown(system, "by-hand01").state) == "DESTROYED"


def test_a_held_snapshot_refuses_it(system: System) -> None:
    client, vm_id = system.client, system.ids["held01"]
    succeeded(system, client.create(vm_id, "precious"))
    (snapshot,) = client.list_snapshots(vm_id)
    client.snapshots.HoldSnapshot(snapshot_pb2.HoldSnapshotRequest(name=snapshot.name, reason="audit"))
    for only_plan in (True, False):
        code, reason, message = refusal(lambda o=only_plan: destroy(system, "held01", validate_only=o))  # type: ignore[misc]
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_HELD"), message
    assert is_there(system, "held01")


def test_each_checkpoint_of_others_must_be_named(system: System) -> None:
    for name in ("backup", "by hand"):
        system.host.control("admin", do="checkpoint", vm="foreign01", name=name, automatic=False, type="Standard")
    system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
    code, reason, message = refusal(lambda: destroy(system, "foreign01", foreign_checkpoints=["backup"]))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FOREIGN_CHECKPOINTS")
    assert ("'by hand'" in message, "'backup'" in message) == (True, False), message
    unknown = refusal(lambda: destroy(system, "foreign01", foreign_checkpoints=["backup", "by hand", "nightly"]))
    assert unknown[:2] == (grpc.StatusCode.NOT_FOUND, "CHECKPOINT_NOT_FOUND")
    plan = planned(system, "foreign01", foreign_checkpoints=["backup", "by hand"])
    assert any("'backup'" in warning and "'by hand'" in warning for warning in plan.warnings), plan.warnings
    disks = disks_of(system, "foreign01")
    succeeded(system, destroy(system, "foreign01", foreign_checkpoints=["backup", "by hand"]))
    assert not is_there(system, "foreign01")
    assert disks


def test_what_changed_since_the_plan_was_shown_is_not_carried_out(system: System) -> None:
    plan = planned(system, "other01")
    succeeded(system, system.client.create(system.ids["other01"], "newer"))
    code, reason, _ = refusal(lambda: destroy(system, "other01", expected_plan=plan.etag))
    assert (code, reason) == (grpc.StatusCode.ABORTED, "PLAN_CHANGED")
    assert is_there(system, "other01")


def test_a_vm_that_was_unregistered_is_not_destroyed(system: System) -> None:
    name = name_of(system, "shared01")
    system.client.vms.UnregisterVirtualMachine(pb.UnregisterVirtualMachineRequest(name=name))
    assert refusal(lambda: destroy(system, "shared01"))[0] == grpc.StatusCode.NOT_FOUND
    assert is_there(system, "shared01")
