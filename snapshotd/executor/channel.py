"""The gRPC channel to the server: a new one for each attempt, with the files of TLS as they are then."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from snapshotd.channels import Options, channel_options
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.setting_values import is_local
from snapshotd.tls import ClientContent, TlsFileInvalid


class ServerAddressRefused(ValueError):
    """The server is on another machine, and the connection would not be encrypted."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A channel, and the content of the files that it was opened with."""

    channel: grpc.aio.Channel
    tls: ClientContent | None


def open_channel(settings: ExecutorSettings) -> Opened:
    """Open a new channel for one attempt.

    Raises ServerAddressRefused for an address off this machine without TLS, and TlsFileInvalid.
    """
    options: Options = (
        *channel_options(settings.server, settings.keepalive_s, settings.keepalive_timeout_s),
        # This executor times its attempts. A pooled subchannel would remember the back-off of the last one.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    )
    # A unix socket leads nowhere else, and its file has rights of its own.
    if settings.tls is None or settings.server.startswith("unix:"):
        if not is_local(settings.server):
            raise ServerAddressRefused(
                f"Cannot attach to {settings.server!r} without TLS: it is on another machine. Set executor.ca."
            )
        return Opened(grpc.aio.insecure_channel(settings.server, options), None)
    content = settings.tls.read()
    return Opened(grpc.aio.secure_channel(settings.server, content.credentials(), options), content)


def changed(settings: ExecutorSettings, tls: ClientContent | None) -> bool:
    """Return whether the files of TLS have another content now, and can be used. None: they could not be, so far."""
    if settings.tls is None or settings.server.startswith("unix:"):
        return False
    try:
        return settings.tls.read() != tls
    except TlsFileInvalid:
        return False
