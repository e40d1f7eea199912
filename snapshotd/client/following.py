"""Calls that have no end. They outlast a restart of the server: the client says so, and goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.streams import warn

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

_PAUSE_S: Final = 1.0
"""Between two attempts to find the server again."""
PASSES: Final = frozenset({"", "STOPPING", "VIEW_BEHIND", "LOG_UNAVAILABLE", "VIEWS_UNREADABLE"})
"""Reasons of an UNAVAILABLE that pass: there is no server, it stops, or a disk fails it for a while."""


def follow(
    server: Server,
    method: Callable[[grpc.Channel], grpc.UnaryStreamMultiCallable[RequestT, ResponseT]],
    request: Callable[[], RequestT],
) -> Iterator[ResponseT]:
    """Yield what a call without an end sends, for ever.

    Args:
        server: the server to call.
        method: returns the method, on a channel.
        request: returns the request to begin with, and to go on with when the server is back.

    Raises Failed if the first call fails, or if a later one is refused.
    """
    begun = away = False
    while True:
        failed = Failed(f"Cannot go on: {server.address} has ended the stream.", ExitCode.UNAVAILABLE)
        channel = server.open_channel()
        try:
            for answer in method(channel)(request(), metadata=server.metadata):
                if away:
                    warn(f"The server at {server.address} is back.")
                begun, away = True, False
                yield answer
        except grpc.RpcError as error:
            failed = server.failed(error)
        finally:
            channel.close()
        if not begun or not passes(failed):
            raise failed
        if not away:
            warn(f"{_lost(server, failed)} Trying again until it is back; Ctrl-C ends this.")
        away = True
        server.pause(_PAUSE_S)


def passes(failed: Failed) -> bool:
    """Return whether an error is over when the server is back."""
    return failed.exit_code is ExitCode.UNAVAILABLE and failed.reason in PASSES


def _lost(server: Server, failed: Failed) -> str:
    return f"Lost the server at {server.address}{f' ({failed.reason})' if failed.reason else ''}."
