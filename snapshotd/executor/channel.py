"""The gRPC channel to the server. It is not encrypted, so it is for loopback only until there is TLS."""

from __future__ import annotations

import grpc

from snapshotd.executor.settings import ExecutorSettings
from snapshotd.setting_values import is_local


class ServerAddressRefused(ValueError):
    """The server's address is not on this machine, and the connection would not be encrypted."""


def open_channel(settings: ExecutorSettings) -> grpc.aio.Channel:
    """Open a new channel for one attempt.

    Raises ServerAddressRefused for an address off this machine.
    """
    if not is_local(settings.server):
        raise ServerAddressRefused(
            f"Cannot attach to {settings.server!r}: TLS is not built yet. Set executor.server to a loopback address."
        )
    return grpc.aio.insecure_channel(
        settings.server,
        options=[
            # A proxy of the environment does not know this machine's loopback.
            ("grpc.enable_http_proxy", 0),
            ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
            # Without it, an unanswered keepalive ping counts only after 60 s (tried with grpcio 1.85.3).
            ("grpc.http2.ping_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
            ("grpc.http2.max_pings_without_data", 0),
            # This executor times its attempts. A pooled subchannel would remember the back-off of the last one.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", 16 * 1024 * 1024),
        ],
    )
