"""Bad input, over gRPC: a clear error each, with code, reason and what to do, and nothing recorded."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import (
    CancelOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    Operation,
    WaitOperationRequest,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from demo.programs import Executor, write_credential
from snapshotd.api.v1 import audit_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.snapshot_pb2 import Snapshot
from tests.e2e.system import System, metadata_of, refusal, until

C = grpc.StatusCode
NOBODY = "00000000-1111-4222-8333-444444444444"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), ("web01", "off01", "plain01", "full01")) as running:
        stop = vm_pb2.StopVirtualMachineRequest(name=f"virtualMachines/{running.ids['off01']}")
        running.client.wait(running.client.vms.StopVirtualMachine(stop))
        yield running


Refused = Callable[[System], object]


def create(vm: str, **fields: object) -> Refused:
    """Ask for a snapshot of a VM, with other fields than usual."""

    def call(system: System) -> object:
        kind = fields.get("kind", Snapshot.DISK)
        snapshot = Snapshot(display_name=str(fields.get("name", "s")), description=str(fields.get("description", "")))
        snapshot.kind = kind  # type: ignore[assignment]  # a number of the enum, or not
        if fields.get("labels"):
            snapshot.labels["a b"] = "c"
        request = snapshot_pb2.CreateSnapshotRequest(
            parent=str(fields.get("parent", f"virtualMachines/{system.ids.get(vm, NOBODY)}")),
            snapshot=snapshot,
            request_id=str(fields.get("request_id", "")),
        )
        return system.client.snapshots.CreateSnapshot(request)

    return call


OFF, SHUTDOWN = vm_pb2.StopVirtualMachineRequest.TURN_OFF, vm_pb2.StopVirtualMachineRequest.SHUTDOWN


def stop(mode: vm_pb2.StopVirtualMachineRequest.Mode.ValueType, timeout_s: int) -> Refused:
    """Build a stop with a timeout."""

    def call(system: System) -> object:
        timeout = Duration(seconds=timeout_s)
        name = f"virtualMachines/{system.ids['web01']}"
        request = vm_pb2.StopVirtualMachineRequest(name=name, mode=mode, shutdown_timeout=timeout)
        return system.client.vms.StopVirtualMachine(request)

    return call


def snapshot_of(system: System, snapshot_id: str = NOBODY) -> str:
    """Name a snapshot of web01."""
    return f"virtualMachines/{system.ids['web01']}/snapshots/{snapshot_id}"


CASES: dict[str, tuple[Refused, grpc.StatusCode, str, str]] = {
    "a VM that is not registered": (create("nobody"), C.NOT_FOUND, "VIRTUAL_MACHINE_NOT_FOUND", NOBODY),
    "a parent that is no VM": (create("", parent="vms/web01"), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "vms/web01"),
    "a name that is too long": (create("web01", name="x" * 256), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "255"),
    "an unprintable name": (
        create("web01", name="a\x1bb"),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "print",
    ),
    "a description that is too long": (
        create("web01", description="x" * 256),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "description",
    ),
    "no kind": (create("web01", kind=0), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "DISK_AND_MEMORY"),
    "a label that is none": (create("web01", labels=True), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "labels"),
    "a request id that is no UUID": (create("web01", request_id="1"), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "UUID"),
    "memory of a stopped VM": (
        create("off01", kind=Snapshot.DISK_AND_MEMORY),
        C.FAILED_PRECONDITION,
        "MEMORY_NEEDS_RUNNING_VM",
        "STOPPED",
    ),
    "a snapshot that is not there": (
        lambda s: s.client.snapshots.RevertToSnapshot(snapshot_pb2.RevertToSnapshotRequest(name=snapshot_of(s))),
        C.NOT_FOUND,
        "SNAPSHOT_NOT_FOUND",
        NOBODY,
    ),
    "a scope that there is not": (
        lambda s: s.client.snapshots.DeleteSnapshot(
            snapshot_pb2.DeleteSnapshotRequest(name=snapshot_of(s), scope=9)  # type: ignore[arg-type]  # no such scope
        ),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "WITH_DESCENDANTS",
    ),
    "a method that is not built": (
        lambda s: s.client.hosts.DrainHost(host_pb2.DrainHostRequest(name="hosts/hv01")),
        C.UNIMPLEMENTED,
        "UNIMPLEMENTED",
        "DrainHost",
    ),
    "a stream of events of a type that does not exist": (
        lambda s: list(s.client.audit.WatchEvents(audit_pb2.WatchEventsRequest(types=["x"]))),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "must be a type of event",
    ),
    "a method that does not exist": (
        lambda s: s.client.channel.unary_unary("/snapshotd.api.v1.SnapshotService/Frobnicate")(b""),  # type: ignore[arg-type]  # raw bytes
        C.UNIMPLEMENTED,
        "UNIMPLEMENTED",
        "Frobnicate",
    ),
    "a start of a running VM": (
        lambda s: s.client.vms.StartVirtualMachine(
            vm_pb2.StartVirtualMachineRequest(name=f"virtualMachines/{s.ids['web01']}")
        ),
        C.FAILED_PRECONDITION,
        "WRONG_POWER_STATE",
        "RUNNING",
    ),
    "a timeout of what is no shutdown": (stop(OFF, 9), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "mode SHUTDOWN only"),
    "a timeout of nothing": (stop(SHUTDOWN, 0), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "above 0"),
    "a timeout of days": (stop(SHUTDOWN, 86_401), C.INVALID_ARGUMENT, "INVALID_ARGUMENT", "24 h"),
    "a restart by saving": (
        lambda s: s.client.vms.RestartVirtualMachine(
            vm_pb2.RestartVirtualMachineRequest(
                name=f"virtualMachines/{s.ids['web01']}", mode=vm_pb2.StopVirtualMachineRequest.SAVE
            )
        ),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "SHUTDOWN or TURN_OFF",
    ),
    "an operation that is not there": (
        lambda s: s.client.operations.GetOperation(GetOperationRequest(name=f"operations/{NOBODY}.1-0123abcd")),
        C.NOT_FOUND,
        "OPERATION_NOT_FOUND",
        NOBODY,
    ),
    "an operation's name that is none": (
        lambda s: s.client.operations.CancelOperation(CancelOperationRequest(name="operations/1")),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "operations/1",
    ),
    "a host's id of 20 kB": (
        lambda s: s.client.register_host(5985, host_id="H" * 20_000),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "host_id",
    ),
    "a credential's name of 20 kB": (
        lambda s: s.client.register_host(5985, host_id="hv02", credential="é" * 20_000),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "Never give the secret",
    ),
    "a start time that is none": (
        lambda s: s.client.audit.ListEvents(audit_pb2.ListEventsRequest(start_time=Timestamp(seconds=10**15))),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "start_time",
    ),
    "an end time with too many nanos": (
        lambda s: s.client.audit.ListEvents(audit_pb2.ListEventsRequest(end_time=Timestamp(nanos=2 * 10**9))),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "end_time",
    ),
    "a time-out below zero": (
        lambda s: s.client.operations.WaitOperation(
            WaitOperationRequest(name=f"operations/{NOBODY}.1-0123abcd", timeout=Duration(nanos=-5))
        ),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "timeout",
    ),
    "a filter that cannot be read": (
        lambda s: s.client.operations.ListOperations(ListOperationsRequest(filter="colour = red")),
        C.INVALID_ARGUMENT,
        "FILTER_INVALID",
        "colour = red",
    ),
    "a page size below zero": (
        lambda s: s.client.hosts.ListHosts(host_pb2.ListHostsRequest(page_size=-1)),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "-1",
    ),
    "a host that is not there": (
        lambda s: s.client.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv99")),
        C.NOT_FOUND,
        "HOST_NOT_FOUND",
        "hv99",
    ),
    "a host id that is none": (
        lambda s: s.client.register_host(5985, host_id="Not A Host"),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "Not A Host",
    ),
    "a host whose id is taken": (lambda s: s.client.register_host(1), C.ALREADY_EXISTS, "HOST_EXISTS", "hv01"),
    "a secret where a credential's name should be": (
        lambda s: s.client.register_host(5985, credential="admin:Passw0rd", host_id="hv02"),
        C.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
        "Never give the secret",
    ),
    "a host that still has VMs": (
        lambda s: s.client.hosts.RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv01")),
        C.FAILED_PRECONDITION,
        "HOST_IN_USE",
        "Unregister",
    ),
    "a VM that its host does not have": (
        lambda s: s.client.register_vm(NOBODY),
        C.NOT_FOUND,
        "VIRTUAL_MACHINE_NOT_FOUND",
        NOBODY,
    ),
    "a VM that is registered already": (
        lambda s: s.client.register_vm(s.ids["web01"]),
        C.ALREADY_EXISTS,
        "VIRTUAL_MACHINE_EXISTS",
        "snapshotctl vm show",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_clearly_and_leaves_no_trace(system: System, case: str) -> None:
    call, code, reason, names = CASES[case]
    before = system.client.events()
    found_code, found_reason, message = refusal(lambda: call(system))
    assert (found_code, found_reason) == (code, reason), message
    assert names in message
    assert system.client.events() == before


@pytest.mark.parametrize("actor", ["snapshotd", "x" * 101, ""])
def test_a_caller_cannot_be_the_service_itself_or_nonsense(system: System, actor: str) -> None:
    metadata = (("x-snapshotd-actor", actor),)
    call = system.client.hosts.ListHosts
    code, reason, message = refusal(lambda: call(host_pb2.ListHostsRequest(), metadata=metadata))
    assert (code, reason) == (C.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert "x-snapshotd-actor" in message


def test_a_request_id_with_another_payload_is_refused_and_with_the_same_one_answered(system: System) -> None:
    vm_id, request_id = system.ids["plain01"], str(uuid.uuid4())
    first = system.client.create(vm_id, "once", request_id=request_id)
    system.client.wait(first)
    before = system.client.events()
    assert system.client.create(vm_id, "once", request_id=request_id).name == first.name
    code, reason, _ = refusal(lambda: system.client.create(vm_id, "twice", request_id=request_id))
    assert (code, reason) == (C.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert system.client.events() == before
    code, reason, _ = refusal(lambda: system.client.create(vm_id, "once"))
    assert (code, reason) == (C.ALREADY_EXISTS, "SNAPSHOT_EXISTS")


@pytest.mark.slow
def test_one_snapshot_over_the_limit_is_refused(system: System) -> None:
    vm_id = system.ids["full01"]
    for number in range(10):
        system.client.wait(system.client.create(vm_id, f"s{number}"))
    before = system.client.events()
    code, reason, message = refusal(lambda: system.client.create(vm_id, "one more"))
    assert (code, reason) == (C.RESOURCE_EXHAUSTED, "SNAPSHOT_LIMIT_REACHED")
    assert "snapshots.max_per_vm is 10" in message
    assert system.client.events() == before


def test_disabled_checkpoints_are_respected(system: System) -> None:
    vm_id = system.ids["plain01"]
    system.host.control("admin", do="set_checkpoint_type", vm="plain01", type="Disabled")
    system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
    before = system.client.events()
    code, reason, _ = refusal(lambda: system.client.create(vm_id, "refused"))
    assert (code, reason) == (C.FAILED_PRECONDITION, "CHECKPOINTS_DISABLED")
    assert system.client.events() == before
    system.host.control("admin", do="set_checkpoint_type", vm="plain01", type="Production")
    system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))


@pytest.mark.slow
def test_a_busy_vm_and_an_unready_snapshot_are_refused_and_name_what_is_under_way(system: System) -> None:
    vm_id = system.ids["web01"]
    system.host.control("durations", checkpoint=600_000)
    busy = system.client.create(vm_id, "slow")
    until(lambda: system.client.list_snapshots(vm_id)[-1].state == Snapshot.CREATING)
    (creating,) = [s for s in system.client.list_snapshots(vm_id) if s.display_name == "slow"]
    code, reason, message = refusal(lambda: system.client.create(vm_id, "second"))
    assert (code, reason) == (C.ABORTED, "OPERATION_ACTIVE")
    assert busy.name in message
    revert = snapshot_pb2.RevertToSnapshotRequest(name=creating.name)
    code, reason, _ = refusal(lambda: system.client.snapshots.RevertToSnapshot(revert))
    assert (code, reason) == (C.ABORTED, "OPERATION_ACTIVE")
    system.host.control("durations", checkpoint=0)
    system.client.wait(busy)
    system.host.control("fail", cmdlet="Checkpoint-VM", error_id="OperationFailed", message="No room.", count=9)
    failed = system.client.wait(system.client.create(vm_id, "broken"))
    assert failed.HasField("error")
    assert "OperationFailed" in str(failed.error.details[0])
    assert "No room." in failed.error.message
    system.host.control("fail", cmdlet="Checkpoint-VM", error_id="OperationFailed", count=0)
    (broken,) = [s for s in system.client.list_snapshots(vm_id) if s.display_name == "broken"]
    assert broken.state == Snapshot.ERROR
    revert = snapshot_pb2.RevertToSnapshotRequest(name=broken.name)
    code, reason, message = refusal(lambda: system.client.snapshots.RevertToSnapshot(revert))
    assert (code, reason) == (C.FAILED_PRECONDITION, "SNAPSHOT_NOT_READY")
    assert "ERROR" in message


def sync_calls(system: System) -> dict[str, Callable[[], object]]:
    """Return the calls that need a host's answer at once."""
    hosts, vms = system.client.hosts, system.client.vms
    return {
        "discover": lambda: hosts.DiscoverVirtualMachines(
            host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv01"), timeout=30
        ),
        "sync": lambda: hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), timeout=30),
        "register": lambda: vms.RegisterVirtualMachine(
            vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_name="any"), timeout=30
        ),
    }


def check_waiting(system: System, operation: Operation, reason: str) -> None:
    """Check that an accepted operation waits and says why."""

    def waits() -> bool:
        found = system.client.operations.GetOperation(GetOperationRequest(name=operation.name))
        return metadata_of(found).wait.reason == reason

    until(waits)


@pytest.mark.slow
def test_a_host_that_is_not_reached_is_said_and_what_is_asynchronous_waits_for_it(tmp_path: Path) -> None:
    with System(tmp_path, ("web01",)) as system:
        vm_id = system.ids["web01"]
        system.host.control("network", up=False)
        for name, call in sync_calls(system).items():
            before = system.client.events()
            code, reason, message = refusal(call)
            assert (code, reason) == (C.UNAVAILABLE, "HOST_UNREACHABLE"), name
            assert "winrm" in message
            assert system.client.events() == before
        accepted = system.client.create(vm_id, "patient")
        check_waiting(system, accepted, "HOST_UNREACHABLE")
        system.host.control("network", up=True)
        assert not system.client.wait(accepted).HasField("error")

        write_credential(tmp_path / "executor", "let-me-in")
        system.executor.restart()
        until(lambda: refusal(sync_calls(system)["discover"])[1] == "AUTHENTICATION_FAILED")
        for name, call in sync_calls(system).items():
            code, reason, message = refusal(call)
            assert (code, reason) == (C.UNAVAILABLE, "AUTHENTICATION_FAILED"), name
            assert "let-me-in" not in message
        accepted = system.client.create(vm_id, "refused")
        check_waiting(system, accepted, "AUTHENTICATION_FAILED")
        write_credential(tmp_path / "executor")
        assert not system.client.wait(accepted).HasField("error")

        system.executor.stop()
        until(lambda: refusal(sync_calls(system)["discover"])[1] == "NO_EXECUTOR")
        accepted = system.client.create(vm_id, "alone")
        check_waiting(system, accepted, "NO_EXECUTOR")
        with Executor(tmp_path / "executor", system.daemon.address, ["hv01"]):
            assert not system.client.wait(accepted).HasField("error")
