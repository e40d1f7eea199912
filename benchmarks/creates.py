"""Whole creates per second over gRPC: from the call until the operation has ended, on a host that answers at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import grpc
from google.longrunning.operations_pb2 import WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsStub

from snapshotd.api.v1 import admin_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub

_PER_VM = 8
"""Snapshots that each VM gets: below its limit."""


def creates_per_second(directory: Path, callers: int, creates: int, *, stored: bool) -> float:
    """Return whole creates per second.

    Args:
        directory: holds the daemon's storage.
        callers: how many call at the same time, each on its own VMs.
        creates: how many snapshots are taken in all.
        stored: whether the event log is on disk; else it is in memory.
    """
    command = [sys.executable, "-m", "benchmarks.instant_daemon", str(directory)]
    command += [] if stored else ["--without-store"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        assert daemon.stdout is not None
        address = json.loads(daemon.stdout.readline())["serving"]
        try:
            return asyncio.run(_measure(address, callers, creates))
        finally:
            daemon.terminate()


async def _measure(address: str, callers: int, creates: int) -> float:
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        vms = [str(uuid.uuid4()) for _ in range(-(-creates // _PER_VM))]
        await _register(channel, vms)
        shares = [vms[n::callers] for n in range(callers)]
        began = time.perf_counter()
        await asyncio.gather(*(_call(channel, share) for share in shares))
        return len(vms) * _PER_VM / (time.perf_counter() - began)


async def _register(channel: grpc.aio.Channel, vms: list[str]) -> None:
    # Another process attaches, so there is no event to wait for.
    while not (await AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest())).executors:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    host = host_pb2.Host(address="127.0.0.1", credential="none")
    await HostServiceStub(channel).RegisterHost(host_pb2.RegisterHostRequest(host_id="hv01", host=host))
    service = VirtualMachineServiceStub(channel)
    for vm in vms:
        await service.RegisterVirtualMachine(vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_id=vm))


async def _call(channel: grpc.aio.Channel, vms: list[str]) -> None:
    snapshots, operations = SnapshotServiceStub(channel), OperationsStub(channel)
    for vm in vms:
        for number in range(_PER_VM):
            snapshot = snapshot_pb2.Snapshot(display_name=f"s{number}", kind=snapshot_pb2.Snapshot.DISK)
            request = snapshot_pb2.CreateSnapshotRequest(
                parent=f"virtualMachines/{vm}", snapshot=snapshot, request_id=str(uuid.uuid4())
            )
            operation = await snapshots.CreateSnapshot(request)
            ended = await operations.WaitOperation(WaitOperationRequest(name=operation.name))
            assert ended.done, ended
            assert not ended.HasField("error"), ended
