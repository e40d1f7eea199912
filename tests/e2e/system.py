"""A whole system for tests: a simulated host, the daemon and an executor as processes, and a gRPC client."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.longrunning.operations_pb2 import ListOperationsRequest, Operation, WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from demo.programs import CREDENTIAL, Daemon, Executor, SimulatedHost
from snapshotd.api.v1 import admin_pb2, host_pb2, operation_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub

T = TypeVar("T")

PATIENCE_S = 60.0
QUICK = (
    *("--retries-first", "100 ms", "--retries-longest", "500 ms", "--snapshots-merge-poll", "100 ms"),
    *("--retries-answer-grace", "2 s", "--retries-observe-wait", "10 s"),
)
"""Options of a daemon that tries again soon."""


def inventory(
    names: Sequence[str], states: Mapping[str, str], over_image: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Describe VMs with two disks each, that run unless it is said; return the inventory, and their ids by name.

    The first disk of those in `over_image` stands on a golden image.
    """
    ids = {name: str(uuid.uuid4()) for name in names}
    second = {"location": "SCSI:0:1"}
    first = {n: {"location": "SCSI:0:0"} | ({"image": "golden"} if n in over_image else {}) for n in names}
    vms = [{"id": i, "name": n, "state": states.get(n, "Running"), "disks": [first[n], second]} for n, i in ids.items()]
    images = [{"name": "golden", "size_bytes": 1 << 30, "blocks": {"1": "os"}}] if over_image else []
    return {"host": {"name": "hv01"}, "images": images, "vms": vms}, ids


@dataclass
class Client:
    """Stubs of a daemon."""

    address: str
    credentials: grpc.ChannelCredentials | None = None
    """For TLS; without them, there is none."""
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        """Open a channel."""
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.channel = (
            grpc.insecure_channel(self.address, options=own)
            if self.credentials is None
            else grpc.secure_channel(self.address, self.credentials, options=own)
        )
        self.hosts, self.vms = HostServiceStub(self.channel), VirtualMachineServiceStub(self.channel)
        self.snapshots, self.operations = SnapshotServiceStub(self.channel), OperationsStub(self.channel)
        self.audit, self.admin = AuditServiceStub(self.channel), AdminServiceStub(self.channel)

    def register_host(
        self, port: int, credential: str = CREDENTIAL, host_id: str = "hv01", address: str = "127.0.0.1"
    ) -> None:
        """Make a host known."""
        host = host_pb2.Host(address=address, port=port, credential=credential)
        self.hosts.RegisterHost(host_pb2.RegisterHostRequest(host_id=host_id, host=host))

    def register_vm(self, vm_id: str, owner: str = "") -> vm_pb2.VirtualMachine:
        """Take a VM under our care, as soon as an executor is there."""
        until(lambda: bool(self.admin.GetStatus(admin_pb2.GetStatusRequest()).executors))
        request = vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_id=vm_id, owner=owner)
        return self.vms.RegisterVirtualMachine(request)

    def create(self, vm_id: str, name: str, *, memory: bool = False, **fields: Any) -> Operation:  # noqa: ANN401
        """Ask for a snapshot."""
        kind = snapshot_pb2.Snapshot.DISK_AND_MEMORY if memory else snapshot_pb2.Snapshot.DISK
        snapshot = snapshot_pb2.Snapshot(display_name=name, kind=kind)
        request = snapshot_pb2.CreateSnapshotRequest(parent=f"virtualMachines/{vm_id}", snapshot=snapshot, **fields)
        return self.snapshots.CreateSnapshot(request)

    def attach(self, vm_id: str, path: str, location: str = "", **fields: Any) -> Operation:  # noqa: ANN401
        """Ask for a volume to be attached; with a size: a new one."""
        name = f"virtualMachines/{vm_id}"
        return self.vms.AttachVolume(vm_pb2.AttachVolumeRequest(name=name, path=path, location=location, **fields))

    def detach(self, vm_id: str, location: str, **fields: Any) -> Operation:  # noqa: ANN401
        """Ask for a volume to be detached."""
        name = f"virtualMachines/{vm_id}"
        return self.vms.DetachVolume(vm_pb2.DetachVolumeRequest(name=name, location=location, **fields))

    def resize(self, vm_id: str, location: str, size_bytes: int, **fields: Any) -> Operation:  # noqa: ANN401
        """Ask for a volume to get another size."""
        request = vm_pb2.ResizeVolumeRequest(
            name=f"virtualMachines/{vm_id}", location=location, size_bytes=size_bytes, **fields
        )
        return self.vms.ResizeVolume(request)

    def succeeded(self, operation: Operation) -> Operation:
        """Wait for an operation, which must succeed."""
        ended = self.wait(operation)
        assert not ended.HasField("error"), ended.error.message
        return ended

    def wait(self, operation: Operation) -> Operation:
        """Wait until an operation has ended."""
        request = WaitOperationRequest(name=operation.name)
        request.timeout.FromSeconds(int(PATIENCE_S))
        ended = self.operations.WaitOperation(request)
        assert ended.done, metadata_of(ended)
        return ended

    def list_snapshots(self, vm_id: str) -> list[snapshot_pb2.Snapshot]:
        """Return a VM's snapshots that are not REMOVED."""
        request = snapshot_pb2.ListSnapshotsRequest(parent=f"virtualMachines/{vm_id}", page_size=1000)
        return list(self.snapshots.ListSnapshots(request).snapshots)

    def tree(self, vm_id: str) -> snapshot_pb2.SnapshotTree:
        """Return a VM's tree."""
        return self.snapshots.GetSnapshotTree(snapshot_pb2.GetSnapshotTreeRequest(name=f"virtualMachines/{vm_id}"))

    def all_operations(self) -> Iterator[Operation]:
        """Return all operations."""
        request = ListOperationsRequest(page_size=200)
        while True:
            page = self.operations.ListOperations(request)
            yield from page.operations
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def all_ended(self) -> bool:
        """Return whether no operation is active."""
        return not self.operations.ListOperations(ListOperationsRequest(filter="done = false", page_size=1)).operations

    def events(self) -> int:
        """Return how many events there are."""
        return self.admin.GetStatus(admin_pb2.GetStatusRequest()).log_head_position


class System:
    """A host, a daemon and an executor of its own.

    Args:
        directory: for everything.
        names: of the VMs.
        host_options: of the simulated host.
        states: of those VMs that do not run.
        daemon_options: of the daemon, beside QUICK.
        over_image: those VMs whose first disk stands on a golden image.
    """

    def __init__(
        self,
        directory: Path,
        names: Sequence[str] = ("web01",),
        host_options: Sequence[str] = (),
        states: Mapping[str, str] | None = None,
        daemon_options: Sequence[str] = (),
        over_image: Sequence[str] = (),
    ) -> None:
        described, self.ids = inventory(names, states or {}, over_image)
        self.host = SimulatedHost(directory / "hv01", described, host_options)
        self.daemon = Daemon(directory / "daemon", executor=False, options=(*QUICK, *daemon_options))
        self._directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.host)
        self._stack.enter_context(self.daemon)
        quick = ["--executor-shell-idle", "10 s"]
        self.executor = Executor(self._directory / "executor", self.daemon.address, ["hv01"], quick)
        self._stack.enter_context(self.executor)
        self.client = Client(self.daemon.address)
        self.client.register_host(self.host.port)
        for vm_id in self.ids.values():
            self.client.register_vm(vm_id)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.channel.close()
        self._stack.close()

    def kill(self, victim: str) -> None:
        """Kill the "daemon", the "executor" or a "script"; start it again where it does not do so by itself."""
        match victim:
            case "script":
                self.host.control("kill_scripts")
            case "executor":
                self.executor.restart()
            case _:
                self.daemon.restart()
                self.client = Client(self.daemon.address)

    def truth_of(self, vm_id: str) -> dict[str, Any]:
        """Return a VM as the host has it."""
        (found,) = [vm for vm in self.host.control("state")["vms"] if vm["id"] == vm_id]
        return dict(found)


def metadata_of(operation: Operation) -> operation_pb2.OperationMetadata:
    """Return what an operation tells of itself."""
    metadata = operation_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def until(holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait until something holds."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


def refusal(call: Callable[[], T]) -> tuple[grpc.StatusCode, str, str]:
    """Return the code, reason and message that a call is refused with; it carries exactly one ErrorInfo, of ours."""
    try:
        answer = call()
    except grpc.RpcError as error:
        refused: Any = error
        status = rpc_status.from_call(refused)
        assert status is not None, refused
        infos = [d for d in status.details if d.TypeName() == ErrorInfo.DESCRIPTOR.full_name]
        assert len(infos) == 1, status
        info = ErrorInfo()
        infos[0].Unpack(info)
        assert info.domain == "snapshotd"
        return refused.code(), info.reason, refused.details()
    raise AssertionError(f"not refused: {answer}")
