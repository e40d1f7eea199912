"""One TCP connection for one sign-in: a second one is refused before a byte is sent on it.

NTLM signs in a connection, not a request. If the connection is gone, requests and urllib3 would silently open a new
one, and send data on it that is sealed with the key of the old one. Here this is an error instead. The error is
NothingSent if nothing of the request was written to the first connection either, so a session that is cut while idle
leaves no unknown outcome. A request may be written several times (requests signs in and writes it again), so what
counts is what was written since `begin`.

A host is reached at its registered address, never through a proxy: NTLM signs in the connection, which would be the
proxy's. Redirects are never followed: no WinRM service sends one, and it could lead a sealed command anywhere.
A request and all its replies have one limit of time, however the bytes come (reply.py).
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from snapshotd.hyperv.host_tls import HostTls
from snapshotd.hyperv.no_answer import causes
from snapshotd.hyperv.reply import BoundedReply, read_body
from snapshotd.hyperv.transport import Broken, NothingSent, SignInRefused, TransportError

_KEEPALIVE = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
"""Keepalive finds out after a minute, before the next use, that the host of a kept connection has vanished."""

REFUSED = (
    "the host refused the sign-in: the user or the password is wrong, or the account is locked, disabled, "
    "or may not use WinRM"
)
"""What a 401 means to people."""

_SHORTEST_S = 0.001
"""Seconds of the shortest time-out; 0 would mean not to wait at all."""

_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})

_LONGEST_LOCATION = 200
"""How many characters of a redirect's target an error shows."""


class OneConnectionAdapter(HTTPAdapter):
    """Carries every request of a session over the one connection that the first request opened.

    Args:
        connect_timeout_s: how long to wait for the connection, and then for its TLS.
        tls: what the connection must be over https; None: it is http.
        refused: makes the error of a sign-in that the host refuses.
    """

    def __init__(
        self,
        connect_timeout_s: float,
        tls: HostTls | None = None,
        refused: Callable[[], TransportError] = lambda: SignInRefused(REFUSED),
    ) -> None:
        self._deadline_s = time.monotonic() + connect_timeout_s
        self._written = False
        self.connect_timeout_s = connect_timeout_s
        self._tls = tls
        self.refused = refused
        self._pool: HTTPConnectionPool | None = None
        self._connection: HTTPConnection | None = None
        self._aborted = False
        self.signed_in = False
        """From now on no request may begin another sign-in."""
        self._connection_class = _connection_class(self)
        super().__init__(pool_connections=1, pool_maxsize=1)

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *_: object, **__: object
    ) -> HTTPConnectionPool:
        """Return the pool of the one connection. TLS is put on it here, never by urllib3, which knows other CAs."""
        if self._pool is None:
            url = urlsplit(request.url or "")
            host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
            self._pool = HTTPConnectionPool(host, url.port, maxsize=1, socket_options=_KEEPALIVE)
            self._pool.ConnectionCls = self._connection_class
        return self._pool

    def cert_verify(self, *_: object, **__: object) -> None:
        """Do nothing: the certificate is checked when the connection is made."""

    def close(self) -> None:
        """Close the connection."""
        super().close()
        if self._pool is not None:
            self._pool.close()

    def begin(self, limit_s: float) -> None:
        """Begin a request. Nothing of it is written yet; it and its responses may take `limit_s` seconds in all."""
        self._deadline_s = time.monotonic() + limit_s
        self._written = False

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        """Send a request within the limits of this adapter, never through a proxy, and read the whole response.

        Raises Broken for a redirect and for a response that is too large, and what `refused` makes if the host wants
        another sign-in.
        """
        left_s = self.time_left_s()
        if left_s <= 0:
            raise self._failure("the time for the request was over")
        request.headers["Accept-Encoding"] = "identity"
        kwargs["timeout"] = (min(self.connect_timeout_s, left_s), left_s)
        kwargs["proxies"] = {}
        response = super().send(request, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they are
        if response.status_code in _REDIRECTS:
            response.close()
            location = ascii(response.headers.get("Location", ""))[:_LONGEST_LOCATION]
            raise Broken(f"the host answered with a redirect (HTTP {response.status_code} to {location}): not followed")
        if response.status_code == 401 and self.signed_in:
            response.close()
            raise self.refused()
        read_body(response)
        return response

    def time_left_s(self) -> float:
        """Return how many seconds the request may still take."""
        return self._deadline_s - time.monotonic()

    def admit(self, connection: HTTPConnection) -> None:
        """Admit the first connection. Raises NothingSent or Broken for any other."""
        self.check()
        if self._connection is not None:
            raise self._failure("the host, or something on the way, closed the connection")
        self._connection = connection

    def check(self) -> None:
        """Raise NothingSent or Broken if the connection was cut from this side."""
        if self._aborted:
            raise self._failure("the connection was cut by this executor")

    def secure(self, connection: HTTPConnection) -> None:
        """Put TLS on a connection, if there must be. Raises as HostTls.shake_hands does; then it is closed."""
        if self._tls is None:
            return
        place = f"[{connection.host}]" if ":" in connection.host else connection.host
        limit_s = max(min(self.connect_timeout_s, self.time_left_s()), _SHORTEST_S)
        secured = self._tls.wrap(connection.sock, connection.host)
        # From now on an abort finds it.
        connection.sock = secured
        self.check()
        try:
            self._tls.shake_hands(secured, connection.host, f"{place}:{connection.port}", limit_s)
        except BaseException:
            connection.sock = None
            secured.close()
            raise

    def certificate(self) -> bytes | None:
        """Return the host's certificate; None over http."""
        sock = self._connection.sock if self._connection is not None else None
        return sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None

    def own_refused(self, error: BaseException) -> bool:
        """Return whether an error is the host's alert that it does not take this side's certificate."""
        shows_own = self._tls is not None and self._tls.own is not None
        return shows_own and any(
            isinstance(link, ssl.SSLError) and "ALERT" in (link.reason or "") for link in causes(error)
        )

    def writes(self) -> None:
        """Note that the connection is about to write a part of the request."""
        self.check()
        self._written = True

    def _failure(self, text: str) -> NothingSent | Broken:
        return Broken(f"{text} after the request was written") if self._written else NothingSent(text)

    def abort(self) -> None:
        """Cut the connection, even under a thread that waits on it, and admit no other."""
        self._aborted = True
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            try:
                # Not that of a socket with TLS: it takes the TLS off first, and another thread may write just then.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                # The other side has closed it already.
                return


def _connection_class(adapter: OneConnectionAdapter) -> type[HTTPConnection]:
    """Return the class of the connections of one adapter. urllib3 wants a class where a factory would do."""

    class Reply(BoundedReply):
        def __init__(self, sock: socket.socket, *, method: str | None = None) -> None:
            super().__init__(sock, adapter.time_left_s, method)

    class AdmittedConnection(HTTPConnection):
        response_class = Reply

        def connect(self) -> None:
            adapter.admit(self)
            super().connect()
            adapter.secure(self)
            # Only now is there a socket: an earlier abort had none to cut.
            adapter.check()

        def send(self, data: object) -> None:
            if self.sock is None:
                self.connect()
            adapter.writes()
            # What the last response left is not the limit of this request.
            self.sock.settimeout(max(adapter.time_left_s(), _SHORTEST_S))
            super().send(data)  # type: ignore[arg-type]  # passed on as it is

    return AdmittedConnection
