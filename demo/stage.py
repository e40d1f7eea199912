"""The programs of the demo, and a gRPC client that works with them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
from google.longrunning.operations_pb2 import GetOperationRequest, Operation, WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsStub

from demo.checks import Checks, say
from demo.programs import Daemon, SimulatedHost, find_pwsh, make_folders
from snapshotd.api.v1 import operation_pb2, snapshot_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub

PATIENCE_S: Final = 90.0
LONG_MS: Final = 600_000
"""How long the host works on something that an outage must interrupt; later it is told to finish."""
DISK: Final = snapshot_pb2.Snapshot.DISK
MEMORY: Final = snapshot_pb2.Snapshot.DISK_AND_MEMORY


class Stage:
    """The programs, and a gRPC client of the daemon.

    Args:
        directory: holds all state and logs.
        engine: the engine of the simulated host.
    """

    def __init__(self, directory: Path, engine: str) -> None:
        self.ids = {name: str(uuid.uuid4()) for name in ("web01", "db01", "old01")}
        disk, second = {"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}
        vms = [
            {"id": self.ids["web01"], "name": "web01", "state": "Running", "disks": [disk]},
            {"id": self.ids["db01"], "name": "db01", "state": "Running", "disks": [disk, second]},
            {"id": self.ids["old01"], "name": "old01", "state": "Off", "disks": [disk]},
        ]
        options = ["--engine", engine, "--duration", "checkpoint=300", "merge=400", "start=100", "restore=100"]
        if engine == "pwsh" and (pwsh := find_pwsh()) is not None:
            options += ["--pwsh", str(pwsh)]
        self.host = SimulatedHost(directory / "hv01", {"host": {"name": "hv01"}, "vms": vms}, options)
        quick = ["--retries-longest", "2 s", "--snapshots-merge-poll", "500 ms"]
        self.copies, self.exports, folders = make_folders(directory / "hv01")
        self.daemon = Daemon(directory / "daemon", executor=False, options=[*quick, *folders])
        self.directory = directory
        self.checks = Checks()
        self.written: dict[str, dict[str, str]] = {"SCSI:0:0": {}, "SCSI:0:1": {}}
        self.as_taken: dict[str, dict[str, dict[str, str]]] = {}
        """The contents of db01's disks, by snapshot name."""

    def connect(self) -> None:
        """Open a channel to the daemon."""
        channel = grpc.insecure_channel(self.daemon.address, options=[("grpc.enable_http_proxy", 0)])
        grpc.channel_ready_future(channel).result(PATIENCE_S)
        self.hosts, self.vms = HostServiceStub(channel), VirtualMachineServiceStub(channel)
        self.snapshots, self.operations = SnapshotServiceStub(channel), OperationsStub(channel)
        self.admin = AdminServiceStub(channel)

    def vm(self, name: str) -> str:
        """Return a VM's resource name."""
        return f"virtualMachines/{self.ids[name]}"

    def write(self, location: str, block: str, data: str) -> None:
        """Write to a disk as db01's guest."""
        self.host.control("write_disk", vm="db01", location=location, block=block, data=data)
        self.written[location][block] = data

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds. If it does not in time, the check has failed."""
        end = time.monotonic() + PATIENCE_S
        while not (held := holds()) and time.monotonic() < end:
            time.sleep(0.02)
        self.checks.check(what, held, True)

    def ended(self, operation: Operation) -> Operation:
        """Wait until an operation has ended, check that it succeeded, and return it."""
        until = time.monotonic() + PATIENCE_S
        while not operation.done and time.monotonic() < until:
            request = WaitOperationRequest(name=operation.name)
            request.timeout.FromSeconds(5)
            operation = self.operations.WaitOperation(request)
        text = operation.error.message if operation.HasField("error") else "" if operation.done else "has not ended"
        self.checks.check(f"{kind_of(operation)} succeeded", text, "")
        return operation

    def waits(self, operation: Operation) -> bool:
        """Return whether an operation waits for something."""
        metadata = operation_pb2.OperationMetadata()
        self.operations.GetOperation(GetOperationRequest(name=operation.name)).metadata.Unpack(metadata)
        return bool(metadata.wait.reason)

    def create(self, vm: str, name: str, kind: snapshot_pb2.Snapshot.Kind.ValueType) -> Operation:
        """Request a snapshot, and return the operation."""
        snapshot = snapshot_pb2.Snapshot(display_name=name, kind=kind)
        request = snapshot_pb2.CreateSnapshotRequest(
            parent=self.vm(vm), snapshot=snapshot, request_id=str(uuid.uuid4())
        )
        return self.snapshots.CreateSnapshot(request)

    def take(self, name: str, kind: snapshot_pb2.Snapshot.Kind.ValueType = DISK) -> None:
        """Take a snapshot of db01."""
        say(f"take {name!r} of db01 ({'disks and memory' if kind == MEMORY else 'disks'})")
        self.ended(self.create("db01", name, kind))
        self.as_taken[name] = {location: dict(blocks) for location, blocks in self.written.items()}

    def named(self, name: str) -> str:
        """Return the resource name of a snapshot of db01."""
        request = snapshot_pb2.ListSnapshotsRequest(parent=self.vm("db01"), filter=f'display_name = "{name}"')
        return self.snapshots.ListSnapshots(request).snapshots[0].name

    def truth(self, vm: str) -> dict[str, Any]:
        """Return a VM as the host sees it."""
        (found,) = [v for v in self.host.control("state")["vms"] if v["id"] == self.ids[vm]]
        return dict(found)

    def show_tree(self) -> None:
        """Print the tree for people, and compare it with the host."""
        sys.stdout.write(self.ctl("snapshot", "tree", "db01"))
        told = json.loads(self.ctl("snapshot", "tree", "db01", "-o", "json"))
        own = {n["id"]: n["snapshot"]["checkpoint_id"] for n in told["nodes"]}
        parents = {own[n["id"]]: own.get(n["parent"], "") for n in told["nodes"]}
        truth = self.truth("db01")
        self.checks.check("parents are the host's", parents, {c["id"]: c["parent"] for c in truth["checkpoints"]})
        self.checks.check("current is the host's", own.get(told["current_node"], ""), truth["current"])

    def compare_disks(self, name: str) -> None:
        """Compare what db01's guest sees with the disks at the time of a snapshot."""
        for location, blocks in self.as_taken[name].items():
            seen = self.host.control("read_disk", vm="db01", location=location)["blocks"]
            self.checks.check(f"{location} is as in {name!r}", seen, blocks)
        self.written = {location: dict(blocks) for location, blocks in self.as_taken[name].items()}

    def ctl(self, *arguments: str) -> str:
        """Run snapshotctl, and return its output."""
        command = [sys.executable, "-m", "snapshotd.client", *arguments, "--server", self.daemon.address]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kind_of(operation: Operation) -> str:
    """Return what an operation does, for people."""
    metadata = operation_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return operation_pb2.OperationMetadata.Kind.Name(metadata.kind).lower().replace("_", " ")
