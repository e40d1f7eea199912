"""Channels: the pings of both sides agree, and proxies are for other machines."""

from __future__ import annotations

import pytest

from snapshotd.channels import ANSWER_S, PERMITTED_S, PING_S, SERVER_PINGS, channel_options


def test_both_sides_agree_on_pings_and_find_a_dead_peer_in_15_s() -> None:
    ours, servers = dict(channel_options("127.0.0.1:1")), dict(SERVER_PINGS)
    assert ours["grpc.keepalive_time_ms"] >= 2 * servers["grpc.http2.min_recv_ping_interval_without_data_ms"]
    for side in (ours, servers):
        waits = {side["grpc.keepalive_timeout_ms"], side["grpc.http2.ping_timeout_ms"]}
        assert side["grpc.keepalive_time_ms"] + max(waits) < 15_000
    assert (PING_S, ANSWER_S, PERMITTED_S) == (5, 3, 1), "docs/tls.md has these"


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
