"""What is no message of its type is refused as such, in every method, and so is a call without a message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from snapshotd.api.v1 import executor_pb2
from tests.integration.fuzzing import METHODS
from tests.integration.test_fuzzed_calls import reason
from tests.integration.whole_server import Served, serve


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path) as running:
        following = asyncio.create_task(running.projections.run())
        yield running
        following.cancel()


async def refusal(channel: grpc.aio.Channel, path: str, *messages: bytes) -> tuple[str, str]:
    """Return code and reason of a call that is refused.

    A single message is sent together with the end of the stream: gRPC's client tells INTERNAL, by itself, if the server
    has answered before a message of a stream was sent.
    """

    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    one: Any = channel.unary_stream(path)
    several: Any = channel.stream_stream(path)
    call = one(*messages, timeout=60) if len(messages) == 1 else several(requests(), timeout=60)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in call:
            pass
    return refused.value.code().name, reason(refused.value)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.full_name)
async def test_every_method_refuses_what_it_cannot_read(
    served: Served, method: MethodDescriptor, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"/{method.containing_service.full_name}/{method.name}"
    ends = {await refusal(served.channel, path, data) for data in (b"\xff", b"\x0a\x7f", b"\x0b")}
    if not method.client_streaming:
        ends.add(await refusal(served.channel, path))
    assert ends <= {("INVALID_ARGUMENT", "MALFORMED_REQUEST"), ("UNIMPLEMENTED", "UNIMPLEMENTED")}
    assert len(ends) == 1
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_text_that_is_no_utf_8_is_refused(served: Served) -> None:
    path = "/snapshotd.api.v1.HostService/GetHost"
    assert await refusal(served.channel, path, b"\x0a\x02\xff\xfe") == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


async def test_an_executor_whose_second_message_cannot_be_read_is_told_so(served: Served) -> None:
    hello = executor_pb2.Hello(executor_id="11111111-2222-4333-8444-555555555555", hosts=["*"])
    first = executor_pb2.AttachRequest(hello=hello).SerializeToString()
    attach = "/snapshotd.api.v1.ExecutorService/Attach"
    assert await refusal(served.channel, attach, first, b"\xff") == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


async def test_many_malformed_requests_are_one_line_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        await refusal(served.channel, "/grpc.health.v1.Health/Check", b"\xff")
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "malformed request of /grpc.health.v1.Health/Check from" in record.getMessage()
    assert "more since" not in record.getMessage()


async def test_health_is_checked_listed_and_watched(served: Served) -> None:
    health: Any = HealthStub(served.channel)  # its types do not know its methods
    api: Any = health_pb2
    listed = (await health.List(api.HealthListRequest())).statuses
    assert {"", "snapshotd.api.v1.HostService", "snapshotd.projection.tree"} <= set(listed)
    assert {status.status for status in listed.values()} == {api.HealthCheckResponse.SERVING}
    assert await refusal(served.channel, "/grpc.health.v1.Health/Check", b"\x0a\x01x") == (
        "NOT_FOUND",
        "HEALTH_SERVICE_NOT_FOUND",
    )
    watched, unknown = (health.Watch(api.HealthCheckRequest(service=name)) for name in ("", "x"))
    assert (await watched.read()).status == api.HealthCheckResponse.SERVING
    assert (await unknown.read()).status == api.HealthCheckResponse.SERVICE_UNKNOWN
    stopping = asyncio.create_task(served.server.stop(grace_s=60))
    assert (await watched.read()).status == api.HealthCheckResponse.NOT_SERVING
    watched.cancel()
    unknown.cancel()
    await stopping
