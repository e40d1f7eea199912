"""Channels: the pings of both sides agree, and proxies are for other machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from snapshotd.channels import ANSWER_S, PERMITTED_S, PING_S, SERVER_PINGS, channel_options


def test_both_sides_agree_on_pings_and_find_a_dead_peer_in_15_s() -> None:
    ours, servers = dict(channel_options("127.0.0.1:1")), dict(SERVER_PINGS)
    assert ours["grpc.keepalive_time_ms"] >= 2 * servers["grpc.http2.min_ping_interval_without_data_ms"]
    for side in (ours, servers):
        waits = {side["grpc.keepalive_timeout_ms"], side["grpc.http2.ping_timeout_ms"]}
        assert side["grpc.keepalive_time_ms"] + max(waits) < 15_000
    assert (PING_S, ANSWER_S, PERMITTED_S) == (5, 3, 1), "docs/tls.md has these"


@pytest.mark.slow
async def test_a_stream_on_which_nothing_comes_for_long_is_not_ended_for_its_pings() -> None:
    permitted, ping_s = 200, 1.0
    server = grpc.aio.server(options=[(k, permitted if "without_data" in k else v) for k, v in SERVER_PINGS])

    async def mute(_: bytes, __: object) -> AsyncIterator[bytes]:
        yield b"there"
        await asyncio.Event().wait()

    handler: Any = grpc.unary_stream_rpc_method_handler(mute)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"Mute": handler}),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address, channel_options(address, ping_s)) as channel:
            method: Any = channel.unary_stream("/t.T/Mute")
            stream = method(b"")
            assert await stream.read() == b"there"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.read(), 4.5 * ping_s)
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("address", "goes_through"),
    [
        ("127.0.0.1:7443", 0),
        ("[::1]:7443", 0),
        ("localhost:7443", 0),
        ("unix:/run/s.sock", 0),
        ("10.0.0.1:7443", 1),
        ("snapshots.example.com:7443", 1),
    ],
)
def test_a_proxy_of_the_environment_is_for_other_machines_only(address: str, goes_through: int) -> None:
    assert dict(channel_options(address))["grpc.enable_http_proxy"] == goes_through
