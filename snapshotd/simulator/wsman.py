"""The WS-Management endpoint: HTTP, sign-in, sealed bodies, and one action after the other on the shells.

    connection (TLS) ──► sign-in (ways_in.py) ──► unseal ──► actions.py ──► seal ──► reply

One thread for each connection. Over http, never answers a request that was not sealed by its own connection's key.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from snapshotd.simulator import soap
from snapshotd.simulator.actions import Call, act
from snapshotd.simulator.http1 import HttpConnection, HttpRequest
from snapshotd.simulator.listener import open_listener
from snapshotd.simulator.network import ConnectionDropped, Network
from snapshotd.simulator.ntlm import Accounts, Challenge, NotSealed, SignInRefused
from snapshotd.simulator.shells import Shells
from snapshotd.simulator.ways_in import ConnectionSignIn, WaysIn

_log = logging.getLogger(__name__)

_LARGEST_BODY: Final = 512_000
"""MaxEnvelopeSizekb of a host as installed [documented]; a sealed body is a little longer than its envelope."""
_LINGER_S: Final = 2.0
_REAPER_S: Final = 1.0


class WsmanEndpoint:
    """The endpoint of one host; listens as soon as it is made, and answers after start().

    Args:
        address: "host:port".
        accounts: who may sign in.
        shells: what the requests act on.
        network: what connections go through.
        machine: the host's name in faults.
        ways: how to sign in, and where https is served.
    """

    def __init__(
        self,
        address: str,
        accounts: Accounts,
        shells: Shells,
        network: Network,
        machine: str,
        ways: WaysIn | None = None,
    ) -> None:
        self.accounts = accounts
        self.ways = ways or WaysIn()
        self.shells = shells
        self.network = network
        self.machine = machine
        self.requests = 0
        """How many requests were answered on signed-in connections."""
        self._listeners = [open_listener(address, _handler_for(self, secure=False))]
        if self.ways.https:
            try:
                self._listeners.append(open_listener(self.ways.https, _handler_for(self, secure=True)))
            except BaseException:
                self._listeners[0].stop()
                raise
        self._closing = threading.Event()
        self._reaper = threading.Thread(target=self._end_idle_shells, name="wsman-idle")

    @property
    def address(self) -> str:
        """Where it listens: "host:port"."""
        return self._listeners[0].address

    @property
    def https(self) -> str:
        """Where it listens for https: "host:port"; empty: nowhere."""
        return self._listeners[1].address if len(self._listeners) > 1 else ""

    def start(self) -> None:
        """Begin to answer."""
        for listener in self._listeners:
            listener.start("wsman")
        self._reaper.start()

    def close(self) -> None:
        """Stop answering, cut every connection and end every shell."""
        self._closing.set()
        for listener in self._listeners:
            listener.stop()
        self.network.cut_all()
        self.shells.end_all()
        if self._reaper.is_alive():
            self._reaper.join()

    def _end_idle_shells(self) -> None:
        while not self._closing.wait(_REAPER_S):
            self.shells.end_idle()

    def answer(self, text: bytes, connected: Callable[[], bool]) -> tuple[HTTPStatus, bytes]:
        """Carry out one envelope, and write the reply.

        Args:
            text: the envelope.
            connected: tells whether its client is still there.

        Raises MalformedEnvelope when there is nothing that could be answered, ConnectionDropped for a lost one.
        """
        request = soap.parse_request(text)
        self.requests += 1
        try:
            return HTTPStatus.OK, act(Call(request, self.shells, connected))
        except soap.WsmanFault as fault:
            return HTTPStatus.INTERNAL_SERVER_ERROR, soap.faulted(request, fault, self.machine)
        except OSError as error:
            # Of this machine, e.g. a program that cannot be started: the client must not take it for a cut connection.
            _log.exception("%s failed", request.action)
            failed = soap.cannot_do(f"The simulated host failed: {error}")
            return HTTPStatus.INTERNAL_SERVER_ERROR, soap.faulted(request, failed, self.machine)


class _Connection(HttpConnection):
    """One connection, with its sign-in."""

    largest_body = _LARGEST_BODY
    endpoint: WsmanEndpoint
    secure: bool

    def setup(self) -> None:
        self._certificate = b""
        if self.secure:
            assert self.endpoint.ways.certificates is not None
            context, self._certificate = self.endpoint.ways.certificates.shown()
            # The handshake waits for the other side, so it is made when the network has admitted the connection.
            self.request = context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        super().setup()

    def finish(self) -> None:
        super().finish()
        if self.secure:
            # socketserver closes the socket that it has accepted, which has passed its connection on to this one.
            self.connection.close()

    def handle(self) -> None:
        network = self.endpoint.network
        if not network.admit(self.connection):
            return
        try:
            shown = False
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
                shown = bool(self.connection.getpeercert())
            self._sign_in = ConnectionSignIn(
                self.endpoint.accounts,
                self.endpoint.ways,
                secure=self.secure,
                server_certificate=self._certificate,
                shown=shown,
            )
            super().handle()
        except ssl.SSLError as error:
            _log.info("TLS with %s failed: %s", self.client_address, error)
            self._end_gently()
        finally:
            network.forget(self.connection)

    def _end_gently(self) -> None:
        """Wait for the other side to close: what it has sent would otherwise have the alert thrown away."""
        socket.socket.shutdown(self.connection, socket.SHUT_WR)
        self.connection.settimeout(_LINGER_S)
        while socket.socket.recv(self.connection, _LARGEST_BODY):
            pass

    def post(self, request: HttpRequest, body: bytes) -> None:
        self.endpoint.network.travel()
        if request.path.rstrip("/").lower() != "/wsman":
            self.reply(HTTPStatus.NOT_FOUND)
            return
        challenge = self._challenge(request.headers.get("authorization", ""))
        if not challenge.signed_in:
            self.reply(HTTPStatus.UNAUTHORIZED, WWW_Authenticate=challenge.header)
        elif not body:
            self.reply(HTTPStatus.OK, WWW_Authenticate=challenge.header)
        else:
            self._act(request.headers.get("content-type", ""), body, challenge.header)

    def _challenge(self, authorization: str) -> Challenge:
        """Take the sign-in one step further."""
        if not authorization:
            complete = self._sign_in.complete
            return Challenge("" if complete else self._sign_in.offer(), complete)
        try:
            return self._sign_in.step(authorization)
        except SignInRefused as error:
            _log.info("sign-in from %s refused: %s", self.client_address, error)
            return Challenge(self._sign_in.offer(), signed_in=False)

    def _act(self, content_type: str, body: bytes, challenge: str) -> None:
        network = self.endpoint.network
        try:
            text = self._sign_in.unseal(content_type, body)
            code, envelope = self.endpoint.answer(text, lambda: network.is_open(self.connection))
        except NotSealed as error:
            # With AllowUnencrypted=false a host answers 500 without a body [observed by users of other clients].
            _log.info("request from %s refused: %s", self.client_address, error)
            self.reply(HTTPStatus.INTERNAL_SERVER_ERROR, close=True)
        except soap.MalformedEnvelope as error:
            _log.info("request from %s refused: %s", self.client_address, error)
            self.reply(HTTPStatus.BAD_REQUEST, WWW_Authenticate=challenge)
        except ConnectionDropped:
            self.closing = True
        else:
            kind, reply = self._sign_in.seal(content_type, envelope)
            self.reply(code, reply, WWW_Authenticate=challenge, Content_Type=kind)


def _handler_for(endpoint: WsmanEndpoint, *, secure: bool) -> type[_Connection]:
    """Return the class of one listener's connections. socketserver wants a class where a factory would do."""
    return type("WsmanConnection", (_Connection,), {"endpoint": endpoint, "secure": secure})
