"""One TCP connection for one sign-in: a second one is refused before a byte is sent.

NTLM signs in a connection, not a request. When the connection is gone, requests and urllib3 would open a new one in
silence and send on it what is sealed with the key of the old one. Here this is an error instead, and one that proves
that nothing of the request has left: so a session that was cut while it was idle costs no unknown outcome.
"""

from __future__ import annotations

import socket

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from snapshotd.hyperv.transport import NothingSent

_KEEPALIVE = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
"""So that a kept connection whose host vanished is known to be gone after a minute, before it is used."""


class OneConnectionAdapter(HTTPAdapter):
    """Carries every request of a session over the one connection that the first request opened.

    Args:
        connect_timeout_s: how long to wait for the connection.
    """

    def __init__(self, connect_timeout_s: float) -> None:
        self.read_timeout_s = connect_timeout_s
        """How long the next request may wait for its response; set before each."""
        self._connect_timeout_s = connect_timeout_s
        self._connection: HTTPConnection | None = None
        self._aborted = False
        self._connection_class = _connection_class(self)
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: object) -> None:  # noqa: FBT001, FBT002  (requests' signature)
        """Make the pool with keepalive on its sockets."""
        super().init_poolmanager(connections, maxsize, block, socket_options=_KEEPALIVE, **pool_kwargs)

    def get_connection_with_tls_context(self, *args: object, **kwargs: object) -> HTTPConnectionPool:
        """Return the pool, which makes connections that ask here first."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they are
        assert isinstance(pool, HTTPConnectionPool)
        pool.ConnectionCls = self._connection_class
        return pool

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        """Send a request with the time limits set here instead of the session's."""
        kwargs["timeout"] = (self._connect_timeout_s, self.read_timeout_s)
        return super().send(request, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they are

    def admit(self, connection: HTTPConnection) -> None:
        """Let the first connection be opened. Raises NothingSent for any other."""
        if self._connection is not None or self._aborted:
            raise NothingSent("the connection was closed by the host or on the way")
        self._connection = connection

    def check(self) -> None:
        """Raise NothingSent if the connection was cut while it was being opened."""
        if self._aborted:
            raise NothingSent("the connection was cut by this executor")

    def abort(self) -> None:
        """Cut the connection, whoever waits on it, and let none be opened."""
        self._aborted = True
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                # Already closed from the other side, which is what was asked for.
                return


def _connection_class(adapter: OneConnectionAdapter) -> type[HTTPConnection]:
    """Make the class of connections that belong to one adapter; urllib3 wants a class where a factory would do."""

    class AdmittedConnection(HTTPConnection):
        def connect(self) -> None:
            adapter.admit(self)
            super().connect()
            # After the socket is there: an abort that came earlier had none to cut.
            adapter.check()

    return AdmittedConnection
