"""Another offering, by gRPC, compared with what the simulated host has."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.host_pb2 import SyncHostRequest
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from tests.e2e.system import System, metadata_of, refusal

GIB = 1 << 30


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), ("web01", "run01"), states={"web01": "Off"}) as running:
        yield running


def asked(system: System, vm: str, *, plan: bool = False, **offering: int | bool) -> pb.ChangeServiceOfferingRequest:
    """Return a request for another offering."""
    return pb.ChangeServiceOfferingRequest(
        name=f"virtualMachines/{system.ids[vm]}",
        service_offering=pb.ServiceOffering(**offering),  # type: ignore[arg-type]  # by their fields
        validate_only=plan,
    )


def shown(system: System, vm: str) -> pb.ServiceOffering:
    """Return a VM's offering as it is on record."""
    request = pb.GetVirtualMachineRequest(name=f"virtualMachines/{system.ids[vm]}")
    return system.client.vms.GetVirtualMachine(request).service_offering


def has(system: System, vm: str) -> tuple[object, object]:
    """Return the processors and the memory that the host has."""
    there = system.truth_of(system.ids[vm])["offering"]
    return there["cpu_count"], there["memory_bytes"]


@pytest.mark.slow
def test_memory_snapshots_go_disk_snapshots_stay_and_a_revert_brings_the_old_offering_back(system: System) -> None:
    client, vm_id, name = system.client, system.ids["web01"], f"virtualMachines/{system.ids['web01']}"
    client.wait(client.create(vm_id, "disks"))
    client.wait(client.vms.StartVirtualMachine(pb.StartVirtualMachineRequest(name=name)))
    client.wait(client.create(vm_id, "memory", memory=True))
    stop = pb.StopVirtualMachineRequest(name=name, mode=pb.StopVirtualMachineRequest.TURN_OFF)
    client.wait(client.vms.StopVirtualMachine(stop))
    before = has(system, "web01")
    disks, memory = client.list_snapshots(vm_id)

    plan = Plan()
    planned = client.vms.ChangeServiceOffering(asked(system, "web01", plan=True, cpu_count=6, memory_bytes=6 * GIB))
    assert planned.response.Unpack(plan)
    assert list(plan.snapshots_discarded) == [memory.name]
    assert [s.name for s in plan.steps] == ["remove", "merge", "configure", "configure"]

    changed = client.wait(client.vms.ChangeServiceOffering(asked(system, "web01", cpu_count=6, memory_bytes=6 * GIB)))
    assert metadata_of(changed).state == OperationMetadata.SUCCEEDED
    assert list(metadata_of(changed).snapshots_removed) == [memory.name]
    told = shown(system, "web01")
    assert (told.cpu_count, told.memory_bytes) == has(system, "web01") == (6, 6 * GIB)
    (left,) = client.list_snapshots(vm_id)
    assert (left.name, left.service_offering.cpu_count) == (disks.name, before[0])

    client.wait(client.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=left.name)))
    told = shown(system, "web01")
    assert (told.cpu_count, told.memory_bytes) == has(system, "web01") == before
    synced = client.hosts.SyncHost(SyncHostRequest(name="hosts/hv01"))
    assert not synced.drifts


@pytest.mark.slow
def test_dynamic_memory_is_set_with_its_bounds_and_only_what_is_named_changes(system: System) -> None:
    client, before = system.client, shown(system, "web01")
    wanted = asked(system, "web01", dynamic_memory=True, minimum_bytes=GIB, maximum_bytes=16 * GIB)
    client.wait(client.vms.ChangeServiceOffering(wanted))
    after = shown(system, "web01")
    assert (after.dynamic_memory, after.minimum_bytes, after.maximum_bytes) == (True, GIB, 16 * GIB)
    assert (after.cpu_count, after.memory_bytes) == (before.cpu_count, before.memory_bytes)
    client.wait(client.vms.ChangeServiceOffering(asked(system, "web01", dynamic_memory=False)))
    assert shown(system, "web01").dynamic_memory is False


@pytest.mark.slow
def test_what_cannot_be_is_refused(system: System) -> None:
    change = system.client.vms.ChangeServiceOffering
    for wrong, said in (
        ({}, "at least one field"),
        ({"cpu_count": -1}, "must be 1 or more"),
        ({"memory_bytes": GIB + 1}, "multiple of 2 MiB"),
        ({"dynamic_memory": True, "minimum_bytes": 2 * GIB, "maximum_bytes": GIB}, "must not be above maximum_bytes"),
        ({"minimum_bytes": GIB}, "goes with dynamic memory only"),
    ):
        code, reason, message = refusal(lambda wrong=wrong: change(asked(system, "web01", **wrong)))  # type: ignore[misc]
        assert (code, reason, said in message) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", True), message
    code, reason, message = refusal(lambda: change(asked(system, "run01", cpu_count=4)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OFFERING_NEEDS_STOPPED_VM")
    assert "`snapshotctl vm stop run01`" in message
