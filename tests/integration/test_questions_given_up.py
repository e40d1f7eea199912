"""The real server and an executor that does not answer: when nobody waits for a report any more, it is told so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from projections.projections import Projections
from snapshotd import bootstrap, executor_from_settings
from snapshotd.api.v1 import executor_pb2, host_pb2
from snapshotd.api.v1.executor_pb2_grpc import ExecutorServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.channels import channel_options
from snapshotd.domain.host import Host
from snapshotd.domain.ids import HostId
from snapshotd.server.runtime import Runtime
from snapshotd.settings import load
from snapshotd.store.sqlite_log import SqliteEventLog

WANTED = Host(host_id=HostId("hv01"), address="10.0.0.1", transport="NTLM_HTTP", credential="hv")
WAIT_S = 0.1
DISCOVER = host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv01")


@dataclass(frozen=True)
class Served:
    """A server with one host, and a silent executor for it."""

    runtime: Runtime
    hosts: Any
    """Its stub; its types are those of a channel that blocks."""
    executor: Any
    """Its stream."""

    async def next(self, kind: str) -> executor_pb2.AttachResponse:
        """Return the next message of a kind that the executor is sent."""
        while True:
            message: executor_pb2.AttachResponse = await asyncio.wait_for(self.executor.read(), 10)
            if message.WhichOneof("message") == kind:
                return message

    def under_way(self) -> int:
        """Return how many orders take room of the host."""
        return len(self.runtime.dispatcher.flights)


@pytest_asyncio.fixture
async def served(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    flags = {"server.listen": "127.0.0.1:0", "storage.directory": str(tmp_path), "retries.observe_wait": request.param}
    settings = load(None, {}, flags | {"retries.answer_grace": "10 ms"})
    with SqliteEventLog(tmp_path / "events.db") as log:
        projections = Projections(log, tmp_path / "views.db")
        service = bootstrap.compose(
            settings, log, projections, log.installation_id, executor_from_settings.open_pool(settings)
        )
        server = service.make_server()
        await server.start(projections.views.progress())
        async with grpc.aio.insecure_channel(server.address, channel_options(server.address)) as channel:
            executor = ExecutorServiceStub(channel).Attach()
            hello = executor_pb2.Hello(executor_id=str(uuid4()), hosts=["*"])
            await executor.write(executor_pb2.AttachRequest(hello=hello))
            served = Served(service.runtime, HostServiceStub(channel), executor)
            await served.next("welcome")
            await service.hosts.register(WANTED, actor="ann", request_id="", digest="")
            yield served
            executor.cancel()
        await server.stop(0)
        projections.close()


@pytest.mark.parametrize("served", ["1 h"], indirect=True)
async def test_when_the_caller_goes_away_the_order_takes_no_room_and_the_executor_is_told(served: Served) -> None:
    call = served.hosts.DiscoverVirtualMachines(DISCOVER)
    sent = (await served.next("dispatch")).dispatch.dispatch_id
    assert served.under_way() == 1
    call.cancel()
    assert (await served.next("abandon")).abandon.dispatch_id == sent
    assert served.under_way() == 0


@pytest.mark.parametrize("served", ["100 ms"], indirect=True)
async def test_when_no_answer_comes_in_time_the_order_takes_no_room_and_the_executor_is_told(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.hosts.DiscoverVirtualMachines(DISCOVER)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    sent = (await served.next("dispatch")).dispatch.dispatch_id
    assert (await served.next("abandon")).abandon.dispatch_id == sent
    assert served.under_way() == 0
