"""WinRS through pywinrm: a shell with one process in it, over http with sealed messages, or over https.

How a connection signs in: exchange.py, by one of the ways in ways.py. It never opens a second connection for one
sign-in (one_connection.py).

Facts (docs/hyperv.md, section 3): one thread at a time may use a Protocol, and none after an exception [run]. The read
time-out must exceed the operation time-out [documented]. Fault 2150858793 is an empty Receive, 2150858843 an unknown
shell or command [documented]. `powershell.exe` is started through cmd, as pywinrm and Ansible do [observed]. A shell's
IdleTimeOut ends the process of a client that has disappeared [documented, not verified by us].
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import requests
from winrm.exceptions import WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol

from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.domain.host_address import is_address, without_user
from snapshotd.hyperv.credentials import Credential
from snapshotd.hyperv.exchange import Exchange
from snapshotd.hyperv.host_tls import HostTls
from snapshotd.hyperv.no_answer import HostRefused, NoHostAnswer
from snapshotd.hyperv.one_connection import REFUSED, OneConnectionAdapter
from snapshotd.hyperv.transport import (
    Broken,
    CertificateNotTaken,
    NothingSent,
    Output,
    RequestRefused,
    SignInRefused,
    TransportError,
)
from snapshotd.hyperv.ways import Method, check_kind, way_of

T = TypeVar("T")

_log = logging.getLogger(__name__)

_UTF8 = 65001
_NO_SUCH_SHELL = 2150858843
_CHUNK = 48 * 1024
"""Bytes of stdin in one request. In base64 they stay well below the 150 KB that the oldest hosts take [documented]."""


class _OperationTimedOut(TransportError):
    """The host has nothing to answer yet. That is normal for a Receive, and for nothing else."""


@dataclass(frozen=True)
class WinRsLimits:
    """Times of one WinRS connection, in seconds."""

    connect_s: float = 5.0
    """How long opening the TCP connection may take."""
    operation_s: float = 20.0
    """How long the host may take for one request; also the longest wait of one Receive."""
    margin_s: float = 5.0
    """How much longer than the host this side waits before the connection counts as dead."""
    close_s: float = 3.0
    """How long the requests that close a shell may take."""
    shell_idle_s: int = 300
    """After so long without a request, the host ends a shell, such as one that a killed executor left behind."""


def open_winrs(connection: HostConnection, credential: Credential, limits: WinRsLimits) -> WinRsTransport:
    """Return the transport for a host, not connected yet.

    Raises HostRefused for a transport, an address or a CA file that cannot be, CredentialMissing for a credential that
    its way cannot use.
    """
    address = connection.address
    if not is_address(address):
        raise HostRefused(
            f"address {without_user(address)[:80]!r} of {connection.host} is not a DNS name or an IP address."
        )
    way = way_of(connection)
    check_kind(way, connection, credential)
    if not way.https and connection.ca_file:
        raise HostRefused(f"{connection.host} has a CA file, and its transport {way.name} has no certificate to check.")
    own = credential.secret if way.method is Method.CERTIFICATE else None
    tls = HostTls(connection.ca_file, own) if way.https else None
    host = f"[{address}]" if ":" in address else address
    endpoint = f"{way.scheme}://{host}:{connection.port or way.port}/wsman"
    adapter = OneConnectionAdapter(limits.connect_s, tls, _refusal(tls))
    return WinRsTransport(endpoint, adapter, Exchange(endpoint, way, credential, adapter), limits)


def _refusal(tls: HostTls | None) -> Callable[[], TransportError]:
    """Return what makes the error of a refused sign-in: with a client certificate, no account is locked for it."""
    own = tls.own if tls is not None else None
    if own is None:
        return lambda: SignInRefused(REFUSED)
    return lambda: CertificateNotTaken(
        f"the host refused the client certificate: {own}. Map it to an account on the host (New-Item "
        "WSMan:\\localhost\\ClientCertificate), trust its issuer there, and allow it: Set-Item "
        "WSMan:\\localhost\\Service\\Auth\\Certificate $true"
    )


class WinRsTransport:
    """One connection, one shell, one process. See HostTransport for the methods."""

    def __init__(self, endpoint: str, adapter: OneConnectionAdapter, exchange: Exchange, limits: WinRsLimits) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._adapter = adapter
        self._exchange = exchange
        # Its own transport, which asks for a user, is never used.
        self._protocol = Protocol(endpoint, transport="plaintext", username="-", password="-", proxy="")  # noqa: S106
        self._protocol.transport = exchange  # type: ignore[assignment]  # has all that Protocol uses
        self._shell = ""
        self._command = ""
        self._broken = False

    def open(self, deadline: float) -> None:
        """Connect, sign in, and open a shell."""
        self._ask(lambda _: self._exchange.build_session(), deadline=deadline)
        self._adapter.signed_in = True
        idle = f"PT{self._limits.shell_idle_s}S"
        self._shell = self._ask(lambda p: p.open_shell(codepage=_UTF8, idle_timeout=idle), deadline=deadline)

    def start(self, executable: str, arguments: tuple[str, ...], deadline: float) -> None:
        """Start the process in the shell."""
        self._command = self._ask(
            lambda p: p.run_command(self._shell, executable, arguments, console_mode_stdin=False), deadline=deadline
        )

    def write(self, data: bytes, deadline: float) -> None:
        """Write to the stdin of the process. Raises NothingSent only if not even the first byte was sent."""
        for start in range(0, len(data), _CHUNK):
            send = partial(self._send, data[start : start + _CHUNK])
            try:
                self._ask(send, deadline=deadline)
            except NothingSent as error:
                if start == 0:
                    raise
                raise Broken(f"after {start} bytes: {error}") from error

    def _send(self, chunk: bytes, protocol: Protocol) -> None:
        protocol.send_command_input(self._shell, self._command, chunk)

    def read(self, wait_s: float) -> Output:
        """Receive once."""
        try:
            stdout, stderr, exit_code, done = self._ask(
                lambda p: p.get_command_output_raw(self._shell, self._command), min(wait_s, self._limits.operation_s)
            )
        except _OperationTimedOut:
            return Output(b"", b"", None)
        return Output(stdout, stderr, exit_code if done else None)

    def terminate(self) -> None:
        """Signal the process to end."""
        self._ask(lambda p: p.cleanup_command(self._shell, self._command), self._limits.close_s)

    def close(self) -> None:
        """Delete the shell, which ends the process. Close the connection."""
        try:
            if self._shell and not self._broken:
                self._ask(lambda p: p.close_shell(self._shell, close_session=False), self._limits.close_s)
        except TransportError as error:
            _log.debug("could not delete the shell on %s (%s); the host ends it when it is idle", self._endpoint, error)
        finally:
            self._shell = ""
            self._exchange.close_session()

    def abort(self) -> None:
        """Cut the connection, even under a thread that waits on it."""
        self._adapter.abort()

    def _ask(
        self, request: Callable[[Protocol], T], operation_s: float | None = None, *, deadline: float = math.inf
    ) -> T:
        """Carry out one request within its time limits. Raise the error that tells what a failure means.

        Only what may take no longer than a command has its deadline. To read what the host says at that moment, and to
        end the script, come after it.
        """
        operation = max(1, math.ceil(operation_s if operation_s is not None else self._limits.operation_s))
        self._protocol.operation_timeout_sec = operation
        self._adapter.begin(min(operation + self._limits.margin_s, deadline - time.monotonic()))
        try:
            return request(self._protocol)
        except WinRMOperationTimeoutError as error:
            raise _OperationTimedOut(f"the host did not carry out the request within {operation} s") from error
        except WSManFaultError as fault:
            text = f"{fault.reason} (fault {fault.wsman_fault_code}, {fault.fault_subcode})"
            if fault.wsman_fault_code == _NO_SUCH_SHELL:
                raise NothingSent(text) from fault
            raise RequestRefused(f"{text}. Check the host's WinRM quotas and settings.") from fault
        except (TransportError, NoHostAnswer):
            self._broken = True
            raise
        except WinRMTransportError as error:
            self._broken = True
            raise Broken(f"the host answered HTTP {error.code}, and not as a WinRM service does") from error
        except requests.RequestException as error:
            self._broken = True
            _log.debug("%s: %r", self._endpoint, error)
            if self._adapter.own_refused(error):
                raise self._adapter.refused() from error
            raise Broken("the connection failed") from error
        except Exception as error:
            # pywinrm lets through any error that the text of a reply causes (KeyError, StopIteration, ParseError,
            # AssertionError). The exchange is out of step then, whichever it was.
            self._broken = True
            _log.debug("%s: %r", self._endpoint, error)
            raise Broken("the reply is not the XML of a WinRM service") from error
