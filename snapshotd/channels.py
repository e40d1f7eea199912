"""How the programs keep in touch over gRPC: the pings of both sides, which must agree, and proxies.

A peer that is frozen or cut off sends no error. Each side finds it out by pings that stay without an answer: after
PING_S without traffic and ANSWER_S more, so within 8 s. A server ends the connection of somebody who pings more often
than it permits (too_many_pings); ours permits PERMITTED_S, a fraction of what our own clients and executors do.
"""

from __future__ import annotations

from typing import Final

from snapshotd.setting_values import is_local

SECRET_METADATA: Final = "x-snapshotd-executor-secret"  # noqa: S105  (the name of it)
"""What the executor in the server's own process sends, and nobody else knows."""
PING_S: Final = 5.0
"""Between two pings on a quiet connection, by either side."""
ANSWER_S: Final = 3.0
"""After so long without an answer to a ping, the connection is dead."""
PERMITTED_S: Final = 1.0
"""The least time between two pings of a caller without traffic that the server takes."""

Options = tuple[tuple[str, int], ...]


def _pings(ping_s: float, answer_s: float) -> Options:
    return (
        ("grpc.keepalive_time_ms", int(ping_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(answer_s * 1000)),
        # Without it, an unanswered ping counts only after 60 s (tried with grpcio 1.85.3).
        ("grpc.http2.ping_timeout_ms", int(answer_s * 1000)),
    )


SERVER_PINGS: Final[Options] = (
    *_pings(PING_S, ANSWER_S),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", int(PERMITTED_S * 1000)),
)
"""Options of a server."""


def channel_options(address: str, ping_s: float = PING_S, answer_s: float = ANSWER_S) -> Options:
    """Return the options of a channel to an address (host:port or unix:/path)."""
    return (
        # A proxy of the environment does not know this machine's loopback.
        ("grpc.enable_http_proxy", int(not is_local(address))),
        *_pings(ping_s, answer_s),
        ("grpc.http2.max_pings_without_data", 0),
    )
