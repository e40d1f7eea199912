"""The WS-Management endpoint: HTTP, sign-in, sealed bodies, and one action after the other on the shells.

    connection ──► sign-in (ntlm.py) ──► unseal ──► actions.py ──► seal ──► reply

One thread for each connection. Never answers a request that was not sealed by its own connection's key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from snapshotd.simulator import soap
from snapshotd.simulator.actions import Call, act
from snapshotd.simulator.http1 import HttpConnection, HttpRequest
from snapshotd.simulator.listener import open_listener
from snapshotd.simulator.network import ConnectionDropped, Network
from snapshotd.simulator.ntlm import SEALED, Accounts, Challenge, NotSealed, SignIn, SignInRefused
from snapshotd.simulator.shells import Shells

_log = logging.getLogger(__name__)

_LARGEST_BODY: Final = 512_000
"""MaxEnvelopeSizekb of a host as installed [documented]; a sealed body is a little longer than its envelope."""
_REAPER_S: Final = 1.0


class WsmanEndpoint:
    """The endpoint of one host; listens as soon as it is made, and answers after start().

    Args:
        address: "host:port".
        accounts: who may sign in.
        shells: what the requests act on.
        network: what connections go through.
        machine: the host's name in faults.
    """

    def __init__(self, address: str, accounts: Accounts, shells: Shells, network: Network, machine: str) -> None:
        self.accounts = accounts
        self.shells = shells
        self.network = network
        self.machine = machine
        self.requests = 0
        """How many requests were answered on signed-in connections."""
        self._listener = open_listener(address, _handler_for(self))
        self._closing = threading.Event()
        self._reaper = threading.Thread(target=self._end_idle_shells, name="wsman-idle")

    @property
    def address(self) -> str:
        """Where it listens: "host:port"."""
        return self._listener.address

    def start(self) -> None:
        """Begin to answer."""
        self._listener.start("wsman")
        self._reaper.start()

    def close(self) -> None:
        """Stop answering, cut every connection and end every shell."""
        self._closing.set()
        self._listener.stop()
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

    def handle(self) -> None:
        network = self.endpoint.network
        if not network.admit(self.connection):
            return
        self._sign_in = SignIn(self.endpoint.accounts)
        try:
            super().handle()
        finally:
            network.forget(self.connection)

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
            return Challenge("" if self._sign_in.complete else "Negotiate", self._sign_in.complete)
        try:
            return self._sign_in.step(authorization)
        except SignInRefused as error:
            _log.info("sign-in from %s refused: %s", self.client_address, error)
            return Challenge("Negotiate", signed_in=False)

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
            self.reply(code, self._sign_in.seal(envelope), WWW_Authenticate=challenge, Content_Type=SEALED)


def _handler_for(endpoint: WsmanEndpoint) -> type[_Connection]:
    """Return the class of one endpoint's connections. socketserver wants a class where a factory would do."""
    return type("WsmanConnection", (_Connection,), {"endpoint": endpoint})
