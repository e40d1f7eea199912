"""The parts of a running daemon: one that fails is logged, shown and started again, and takes no other along."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from projections.projections import Projections
from snapshotd import bootstrap, daemon, executor_from_settings
from snapshotd.api.v1 import admin_pb2, host_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.domain.state import replace
from snapshotd.server.serving import GrpcServer
from snapshotd.settings import load
from snapshotd.store.errors import LogBroken
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.contract.failing_commits import failing_commit
from tests.integration.polling import until

PARTS = {"projections": "projections", "core": "runtime", "sync schedule": "schedule"}


@dataclass
class Failing:
    """A part of a daemon that fails as soon as it is run, while `broken`; everything else is the real one's."""

    real: Any
    broken: bool = True
    ends: bool = False
    """It ends by itself in place of failing."""

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    async def run(self) -> None:
        """Run, or fail."""
        if self.broken and self.ends:
            return
        if self.broken:
            raise KeyError("a defect")
        await self.real.run()


@dataclass(frozen=True)
class Running:
    """A daemon that runs in this process, and a client of it."""

    log: SqliteEventLog
    channel: grpc.aio.Channel
    serving: asyncio.Task[int]

    async def problems(self) -> dict[str, admin_pb2.Problem]:
        """Return the problems by subject."""
        status = await AdminServiceStub(self.channel).GetStatus(admin_pb2.GetStatusRequest())
        return {problem.subject: problem for problem in status.problems}

    async def healthy(self) -> bool:
        """Return whether the whole serves."""
        stub: Any = HealthStub(self.channel)  # its types do not know its methods
        checked = await stub.Check(HealthCheckRequest())
        return bool(checked.status == HealthCheckResponse.SERVING)

    async def register(self, host_id: str) -> list[str]:
        """Register a host; return the names of all."""
        stub = HostServiceStub(self.channel)
        host = host_pb2.Host(address="10.0.0.1", credential="hv")
        await stub.RegisterHost(host_pb2.RegisterHostRequest(host_id=host_id, host=host))
        return [host.name for host in (await stub.ListHosts(host_pb2.ListHostsRequest())).hosts]


@asynccontextmanager
async def running(storage: Path, spoil: Callable[[daemon.Service], daemon.Service]) -> AsyncIterator[Running]:
    """Run a daemon that was spoilt; end it by a signal."""
    settings = load(None, {}, {"server.listen": f"unix:{storage / 's'}", "storage.directory": str(storage)})
    started = asyncio.Event()
    with SqliteEventLog(storage / "events.db") as log:
        projections = Projections(log, storage / "views.db")
        service = bootstrap.compose(
            settings, log, projections, log.installation_id, executor_from_settings.open_pool(settings)
        )

        def make_server() -> GrpcServer:
            started.set()
            return service.make_server()

        serving = asyncio.create_task(daemon.serve(spoil(replace(service, make_server=make_server))))
        await started.wait()
        async with grpc.aio.insecure_channel(f"unix:{storage / 's'}") as channel:
            async with asyncio.timeout(10):
                await channel.channel_ready()
            yield Running(log, channel, serving)
        if not serving.done():
            os.kill(os.getpid(), signal.SIGTERM)
            assert await serving == 0
        projections.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_HEALTH_S", 0.02)
    monkeypatch.setattr(daemon, "_GRACE_S", 0.1)
    monkeypatch.setattr(daemon, "_AGAIN_FIRST_S", 0.01)
    monkeypatch.setattr(daemon, "_AGAIN_LONGEST_S", 0.05)
    monkeypatch.setattr(daemon, "_PROVEN_S", 0.2)


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    """Poll until something is true."""
    async with asyncio.timeout(10):
        while not await true():  # noqa: ASYNC110  (as in polling.py)
            await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("name", [*PARTS, "executor"])
async def test_a_part_that_fails_is_told_and_started_again_and_takes_no_other_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, *, ends: bool
) -> None:
    part = Failing(None, ends=ends)

    def spoil(service: daemon.Service) -> daemon.Service:
        if name == "executor":

            async def run_executor(address: str, stop: asyncio.Event) -> None:
                if part.broken:
                    await part.run()
                else:
                    await stop.wait()

            return replace(service, run_executor=run_executor)
        part.real = getattr(service, PARTS[name])
        spoilt: dict[str, Any] = {PARTS[name]: part}
        return replace(service, **spoilt)

    async with running(tmp_path, spoil) as served:
        await eventually(lambda: named(served, name))
        problem = (await served.problems())[name]
        assert problem.reason == "INTERNAL"
        assert (f"{name} ended by itself" if ends else "KeyError: 'a defect'") in problem.message
        await eventually(lambda: unhealthy(served))
        if name != "projections":
            assert await served.register("hv01") == ["hosts/hv01"]
        part.broken = False
        await eventually(served.healthy)
        assert name not in await served.problems()
        assert await served.register("hv02")
    assert caplog.text.count(f"{name} failed; it is started again") == 1
    assert ("Traceback" in caplog.text) is not ends


async def named(served: Running, name: str) -> bool:
    """Return whether there is a problem with a part."""
    return name in await served.problems()


async def unhealthy(served: Running) -> bool:
    """Return whether the whole does not serve."""
    return not await served.healthy()


@pytest.mark.slow
async def test_a_broken_log_ends_the_daemon_and_nothing_else_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with running(tmp_path, lambda service: replace(service, run_executor=None)) as served:
        with failing_commit(served.log), pytest.raises(grpc.aio.AioRpcError):
            await served.register("hv01")
        with pytest.raises(LogBroken):
            await served.serving
    await until(lambda: caplog.text.count("Cannot go on") == 1)
