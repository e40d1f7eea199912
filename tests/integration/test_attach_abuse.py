"""The real server and executors that misbehave: one that poses as another, and those that say nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from snapshotd import bootstrap
from snapshotd.api.v1 import admin_pb2, executor_pb2
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.executor_pb2_grpc import ExecutorServiceStub
from snapshotd.server import executor_service, interceptors
from tests.certificates import Authority
from tests.integration.polling import until
from tests.integration.whole_server import serve

SERVERS = Authority("servers")


@pytest_asyncio.fixture
async def channel(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[grpc.aio.Channel]:
    monkeypatch.setattr(bootstrap, "LEASE_TTL_S", getattr(request, "param", 8.0))
    async with serve(tmp_path) as served:
        running = asyncio.create_task(served.runtime.run())
        yield served.channel
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def attach(channel: grpc.aio.Channel, executor_id: str, version: str = "") -> Any:  # noqa: ANN401
    """Attach an executor, and return its stream; its types are those of a channel that blocks."""
    stream: Any = ExecutorServiceStub(channel).Attach()
    hello = executor_pb2.Hello(executor_id=executor_id, hosts=["*"], version=version)
    await stream.write(executor_pb2.AttachRequest(hello=hello))
    assert (await stream.read()).HasField("welcome")
    return stream


async def names(channel: grpc.aio.Channel) -> list[str]:
    """Return the executors that the status shows."""
    status = await AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest())
    return [e.executor_id for e in status.executors]


async def test_what_the_status_shows_of_an_executor_does_not_let_another_take_its_place(
    channel: grpc.aio.Channel,
) -> None:
    secret = str(uuid4())
    stream = await attach(channel, secret)
    (name,) = await names(channel)
    assert secret not in name
    posing: Any = ExecutorServiceStub(channel).Attach()
    await posing.write(executor_pb2.AttachRequest(hello=executor_pb2.Hello(executor_id=name, hosts=["*"])))
    assert await posing.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await names(channel) == [name]
    stream.cancel()


async def test_an_executor_that_reconnects_takes_its_own_place(channel: grpc.aio.Channel) -> None:
    secret = str(uuid4())
    first = await attach(channel, secret)
    second = await attach(channel, secret)
    assert await first.read() is grpc.aio.EOF
    assert len(await names(channel)) == 1
    second.cancel()


async def test_an_executor_that_does_not_have_to_sign_in_is_called_by_its_own_name_alone(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapshotd")
    stream = await attach(channel, str(uuid4()))
    (executor,) = (await AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest())).executors
    assert executor.signed_in_as == ""
    assert f"executor {executor.executor_id} attached, for *" in caplog.text
    stream.cancel()


async def test_a_stream_without_a_hello_is_ended(channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_service, "LEASE_TTL_S", 0.05)
    stream: Any = ExecutorServiceStub(channel).Attach()
    assert await asyncio.wait_for(stream.read(), 10) is grpc.aio.EOF
    assert await names(channel) == []


@pytest.mark.parametrize("channel", [0.5], indirect=True)
async def test_a_hello_and_then_silence_is_ended_by_the_lease(channel: grpc.aio.Channel) -> None:
    stream = await attach(channel, str(uuid4()), version="x" * 5_000)
    status = await AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest())
    assert len(status.executors[0].version) == 100
    assert await asyncio.wait_for(stream.read(), 10) is grpc.aio.EOF
    assert await names(channel) == []


@pytest.mark.parametrize("tls", [False, True])
async def test_two_hundred_mute_streams_are_ended_in_time_and_cost_nothing_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tls: bool
) -> None:
    monkeypatch.setattr(executor_service, "LEASE_TTL_S", 0.5)
    certificate, key = SERVERS.issue("server").write(tmp_path, "server")
    flags = {"server.certificate": str(certificate), "server.key": str(key)} if tls else {}
    roots = grpc.ssl_channel_credentials(SERVERS.write(tmp_path, "ca").read_bytes())
    async with serve(tmp_path, flags) as served:
        address = served.server.address
        async with grpc.aio.secure_channel(address, roots) if tls else grpc.aio.insecure_channel(address) as channel:
            await names(channel)
            before = len(asyncio.all_tasks())
            mute: list[Any] = [ExecutorServiceStub(channel).Attach() for _ in range(200)]
            ended = await asyncio.wait_for(asyncio.gather(*(stream.read() for stream in mute)), 20)
            assert ended == [grpc.aio.EOF] * 200
            assert await names(channel) == []
            await until(lambda: len(asyncio.all_tasks()) <= before)
        assert served.server._answering._gate._crowd._all == 0


async def test_a_call_that_sends_no_request_is_ended(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "_REQUEST_S", 0.1)
    call: Any = channel.stream_stream("/snapshotd.api.v1.HostService/ListHosts")
    with pytest.raises(grpc.aio.AioRpcError, match=r"none came within 0\.1 s"):
        await call().read()


@pytest.mark.parametrize("name", ["snapshotd", "SnapshotD", "snap shotd", "s n a p s h o t d", "SNAP SHOTD"])
async def test_nobody_calls_himself_as_the_service_is_called(channel: grpc.aio.Channel, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="is the name of the service itself"):
        await AdminServiceStub(channel).GetStatus(admin_pb2.GetStatusRequest(), metadata=(("x-snapshotd-actor", name),))
