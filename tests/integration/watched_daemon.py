"""A whole daemon in this process, with its executor, a simulated host and metrics: for those who watch it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from google.longrunning.operations_pb2 import Operation, WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsStub
from prometheus_client.metrics_core import Metric

from demo.programs import CREDENTIAL, SimulatedHost, write_credential
from snapshotd import bootstrap, daemon
from snapshotd.api.v1 import admin_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub
from snapshotd.settings import load
from tests.scraped import families_of

VM: Final = "11111111-1111-4111-8111-111111111111"


async def page(address: str, path: str) -> str:
    """Return a page that an endpoint serves."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    whole = await reader.read()
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return body.decode()


@dataclass(frozen=True)
class Watched:
    """A daemon with a host and a VM."""

    service: daemon.Service
    channel: grpc.aio.Channel
    metrics: str
    """Where its metrics are."""
    host: SimulatedHost

    async def scrape(self) -> Mapping[str, Metric]:
        """Return what a scrape gets, by the name of the family."""
        text = await page(self.metrics, "/metrics")
        return {family.name: family for family in families_of(text)}

    async def snapshot(self, name: str, **metadata: str) -> Operation:
        """Take a snapshot, and wait for its end."""
        snapshot = snapshot_pb2.Snapshot(display_name=name, kind=snapshot_pb2.Snapshot.DISK)
        request = snapshot_pb2.CreateSnapshotRequest(parent=f"virtualMachines/{VM}", snapshot=snapshot)
        told = tuple(metadata.items())
        asked = await SnapshotServiceStub(self.channel).CreateSnapshot(request, metadata=told)
        return await self.ended(asked)

    async def ended(self, asked: Operation) -> Operation:
        """Wait for the end of an operation, which must succeed."""
        wait = WaitOperationRequest(name=asked.name)
        wait.timeout.FromSeconds(30)
        ended = await OperationsStub(self.channel).WaitOperation(wait)
        assert ended.done
        assert not ended.HasField("error"), ended.error.message
        return ended

    async def follow(self) -> None:
        """Let who follows the log come to its end."""
        assert self.service.follower is not None
        await self.service.follower.catch_up()


@asynccontextmanager
async def watched(directory: Path, **settings: str) -> AsyncIterator[Watched]:
    """Run a daemon with one VM on a simulated host; end it by a signal. Settings are written with __ for the dot."""
    vms = [{"id": VM, "name": "web01", "state": "Off", "disks": [{"location": "SCSI:0:0"}]}]
    flags = {
        "server.listen": f"unix:{directory / 's'}",
        "metrics.listen": "127.0.0.1:0",
        "storage.directory": str(directory / "storage"),
        "executor.credentials": str(write_credential(directory)),
    }
    whole = load(None, {}, flags | {name.replace("__", "."): value for name, value in settings.items()})
    with (
        SimulatedHost(directory / "hv01", {"host": {"name": "hv01"}, "vms": vms}) as host,
        bootstrap.open_service(whole) as service,
    ):
        serving = asyncio.create_task(daemon.serve(service))
        try:
            async with grpc.aio.insecure_channel(flags["server.listen"]) as channel, asyncio.timeout(60):
                await _prepare(channel, host)
                yield Watched(service, channel, service.endpoint.address if service.endpoint else "", host)
        finally:
            if not serving.done():
                os.kill(os.getpid(), signal.SIGTERM)
            assert await serving == 0


async def _prepare(channel: grpc.aio.Channel, host: SimulatedHost) -> None:
    """Register host and VM, once the daemon serves and an executor is there."""
    await channel.channel_ready()
    way = host_pb2.Host(address="127.0.0.1", port=host.port, credential=CREDENTIAL)
    await HostServiceStub(channel).RegisterHost(host_pb2.RegisterHostRequest(host_id="hv01", host=way))
    while not (await AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest())).executors:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    request = vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_id=VM)
    await VirtualMachineServiceStub(channel).RegisterVirtualMachine(request)
