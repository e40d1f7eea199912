"""Executor and WinRM sessions together: a dispatch goes over gRPC in, over WinRM out, and its answer back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, NoAnswer
from snapshotd.executor.service import Executor
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.pool import HostPools, PoolSettings
from tests.integration.executor_feed import Feed, Stream
from tests.integration.polling import until
from tests.integration.winrm_endpoint import SCRIPT, Endpoint, serve


class FrozenProxy:
    """A TCP proxy that can stop relaying without closing anything, as a stopped process or a dead network does."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._relays: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.flows = asyncio.Event()
        self.flows.set()

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything."""
        for relay in self._relays:
            relay.cancel()
        for writer in self._writers:
            writer.close()
        assert self._server is not None
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, there_writer]
        flows = self.flows
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            self._relays.append(asyncio.create_task(self._relay(source, sink, flows)))

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        while data := await source.read(65536):
            await flows.wait()
            sink.write(data)
        sink.close()


@pytest.fixture
async def feed() -> AsyncIterator[Feed]:
    feed = Feed()
    await feed.start()
    yield feed
    await feed.stop()


@pytest.fixture
def pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPools:
    (tmp_path / "users").write_text("WORKGROUP:snap:secret\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(tmp_path / "users"))
    (tmp_path / "hv").write_text("WORKGROUP\\snap:secret\n")
    (tmp_path / "hv").chmod(0o600)
    return HostPools(Credentials(tmp_path, {}), SCRIPT, PoolSettings())


async def start(executor: Executor, feed: Feed) -> tuple[asyncio.Task[None], asyncio.Event, Stream]:
    stop = asyncio.Event()
    running = asyncio.create_task(executor.run(stop))
    return running, stop, await feed.attached()


async def test_a_dispatch_goes_all_the_way_and_on_stop_every_shell_is_given_back(feed: Feed, pools: HostPools) -> None:
    endpoint = Endpoint()
    server = serve(endpoint)
    settings = ExecutorSettings(server=f"127.0.0.1:{feed.port}")
    running, stop, stream = await start(Executor(settings, pools.open), feed)
    stream.host(port=endpoint.port)
    stream.dispatch("vm1")
    stream.dispatch("vm2")
    outcomes = [await stream.outcome() for _ in range(2)]
    assert {o.answer.vms[0].vm_id for o in outcomes} == {"vm1", "vm2"}
    assert {o.answer.verdict for o in outcomes} == {HostAnswer.REPORTED}
    endpoint.faults = {"Receive": ["cut_before"]}
    stream.dispatch("vm3")
    assert (await stream.outcome()).no_answer.reason == NoAnswer.CONNECTION_LOST
    assert endpoint.created == 2
    stop.set()
    await asyncio.wait_for(running, 10)
    # The one whose connection was cut is the host's to end.
    assert len(endpoint.shells) == 1
    server.shutdown()
    server.server_close()


@pytest.mark.slow
async def test_a_server_that_is_there_and_does_nothing_is_left_within_seconds(feed: Feed, pools: HostPools) -> None:
    proxy = FrozenProxy(feed.port)
    port = await proxy.start()
    settings = ExecutorSettings(
        server=f"127.0.0.1:{port}", keepalive_s=0.3, keepalive_timeout_s=0.3, reconnect_first_s=0.05, flush_s=0.5
    )
    running, stop, _ = await start(Executor(settings, pools.open), feed)
    proxy.flows.clear()
    proxy.flows = asyncio.Event()
    proxy.flows.set()
    again = await feed.attached()
    await until(lambda: not again.received.empty())
    stop.set()
    await asyncio.wait_for(running, 10)
    await proxy.stop()
