"""Reads a host's HTTP reply within limits: no more than so many bytes, and not beyond a moment.

The time-outs of sockets count anew with each byte that comes, and the libraries read whatever comes: lines, headers,
interim replies, chunks and bodies. So the limits stand below all of that, where the bytes come off the socket. A body
is never decompressed: none is asked for compressed, and a few bytes could stand for gigabytes.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from http.client import HTTPResponse
from typing import TYPE_CHECKING

import requests
from urllib3.exceptions import HTTPError

from snapshotd.hyperv.transport import Broken

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGEST_REPLY = 16 * 1024 * 1024
"""Bytes of one reply, with its headers. The envelopes that we ask for have 150 KB at most [documented]."""

_PIECE = 64 * 1024
"""Bytes of one read of a body."""


class BoundedReply(HTTPResponse):
    """A reply that ends with Broken if it is too large, and with TimeoutError if it takes too long.

    Args:
        sock: where it comes from.
        time_left_s: returns how many seconds it may still take.
        method: of the request.
    """

    def __init__(self, sock: socket.socket, time_left_s: Callable[[], float], method: str | None = None) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_Bounded(sock, self.fp, time_left_s))


class _Bounded(io.RawIOBase):
    """The bytes that come off a socket, within the limits of a reply."""

    def __init__(self, sock: socket.socket, stream: io.BufferedIOBase, time_left_s: Callable[[], float]) -> None:
        self._sock = sock
        self._stream = stream.detach()
        self._time_left_s = time_left_s
        self._left = LARGEST_REPLY

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Read what there is. Raises Broken and TimeoutError at the limits."""
        left_s = self._time_left_s()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        count = self._stream.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise Broken(f"what answers there is no WinRM service: its reply has more than {LARGEST_REPLY >> 20} MiB")
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._stream.close()
        super().close()


def read_body(response: requests.Response) -> None:
    """Read a response's body as it came, in the place of requests, which would decompress it."""
    try:
        body = b"".join(response.raw.stream(_PIECE, decode_content=False))
    except HTTPError as error:
        raise requests.ConnectionError(error, request=response.request) from error
    # What requests would do itself, but for the decompression.
    response._content = body  # noqa: SLF001  (it has no other way)
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001  (as above)
