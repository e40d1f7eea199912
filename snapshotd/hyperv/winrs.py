"""WinRS through pywinrm: a shell with one process in it, over http, with every message sealed by NTLM.

It never sends or accepts unsealed data, and never uses basic authentication over http. It refuses https, which is not
built yet. It never opens a second connection for one sign-in (one_connection.py).

Facts (docs/hyperv.md, section 3): one thread at a time may use a Protocol, and none after an exception [run]. The read
time-out must exceed the operation time-out [documented]. Fault 2150858793 is an empty Receive, 2150858843 an unknown
shell or command [documented]. `powershell.exe` is started through cmd, as pywinrm and Ansible do [observed]. A shell's
IdleTimeOut ends the process of a client that has disappeared [documented, not verified by us].
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from winrm.encryption import Encryption
from winrm.exceptions import InvalidCredentialsError, WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol
from winrm.transport import Transport

from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.domain.host_address import WINRM_HTTP_PORT, is_address, without_user
from snapshotd.hyperv.credentials import Credential
from snapshotd.hyperv.no_answer import HostRefused
from snapshotd.hyperv.one_connection import REFUSED, OneConnectionAdapter
from snapshotd.hyperv.transport import Broken, NothingSent, Output, RequestRefused, SignInRefused, TransportError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_UTF8 = 65001
_NO_SUCH_SHELL = 2150858843
_NO_NTLM = "the host's WinRM listener does not offer to sign in by Negotiate"
_ENABLE = (
    "This executor knows no other way. To allow it, run on the host: "
    "Set-Item WSMan:\\localhost\\Service\\Auth\\Negotiate $true"
)
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)(?=\s*(?:,|$)|\s+[^\s=,])")
"""A scheme in WWW-Authenticate: a word that stands alone or before its parameters, and is no parameter itself."""
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*+"?', re.DOTALL)
"""A parameter's value, which may hold anything."""
_LONGEST_OFFER = 200
"""How many characters of what a host says of itself an error shows."""
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

    Raises HostRefused for a transport that is not built yet, and for an invalid address.
    """
    if connection.transport not in {HostConnection.NTLM_HTTP, HostConnection.TRANSPORT_UNSPECIFIED}:
        name = HostConnection.Transport.Name(connection.transport)
        raise HostRefused(f"transport {name} of {connection.host} is not built yet. Use NTLM_HTTP.")
    address = connection.address
    if not is_address(address):
        raise HostRefused(
            f"address {without_user(address)[:80]!r} of {connection.host} is not a DNS name or an IP address."
        )
    host = f"[{address}]" if ":" in address else address
    return WinRsTransport(f"http://{host}:{connection.port or WINRM_HTTP_PORT}/wsman", credential, limits)


class _SealedTransport(Transport):
    """pywinrm's transport, limited to one connection and to sealed replies."""

    def __init__(self, endpoint: str, credential: Credential, adapter: OneConnectionAdapter) -> None:
        super().__init__(
            endpoint,
            auth_method="ntlm",
            username=credential.username,
            password=credential.password.reveal(),
            # Not None: with that, requests sets no_proxy in the environment for a moment, which all threads share.
            proxy="",
            # Over http there is no channel to bind to.
            send_cbt=False,
            ca_trust_path=None,  # type: ignore[arg-type]  # documented, but not in its type: no CA from the environment
            server_cert_validation="validate",
            message_encryption="always",
        )
        self._adapter = adapter

    def setup_encryption(self, session: requests.Session) -> None:
        # Only the one connection is allowed: no https, no redirect, no proxy, nothing that the environment says.
        session.trust_env = False
        session.adapters.clear()
        session.mount("http://", self._adapter)
        request = session.prepare_request(requests.Request("POST", self.endpoint, data=None))
        place = urlsplit(self.endpoint).netloc
        try:
            response = session.send(request)
        except PermissionError as error:
            # requests_ntlm's word for a 401 without a challenge.
            raise RequestRefused(f"{_NO_NTLM} with NTLM, and gave no NTLM challenge when asked. {_ENABLE}") from error
        except (requests.RequestException, TransportError):
            raise
        except Exception as error:
            # What requests_ntlm and spnego let through when they read a challenge (KeyError, binascii's and NTLM's).
            raise Broken(f"{place}: what answers there gave no NTLM challenge that can be read") from error
        _check_sign_in(response, place)
        self.encryption = Encryption(session, "ntlm")

    def _get_message_response_text(self, response: requests.Response) -> bytes:
        # pywinrm would accept a reply that is not sealed, which anybody on the way could write.
        sealed = self.encryption and self.encryption.protocol_string.decode() in response.headers.get(
            "Content-Type", ""
        )
        if not response.content:
            raise Broken(f"the host answered HTTP {response.status_code} with an empty body")
        if not sealed:
            raise Broken(f"the host answered HTTP {response.status_code} with a body that is not sealed")
        try:
            text: bytes = super()._get_message_response_text(response)
        except Exception as error:
            # What pywinrm and spnego let through (IndexError, struct's and NTLM's own).
            raise Broken("the host answered with a sealed body that cannot be opened") from error
        return text


def _check_sign_in(response: requests.Response, place: str) -> None:
    """Raise what a sign-in has come to, unless it was taken.

    Raises SignInRefused, RequestRefused if the listener knows no way to sign in that we do, and Broken if what answers
    is no WinRM service.
    """
    tried = "Authorization" in response.request.headers
    if response.status_code == 401 and tried:
        raise SignInRefused(REFUSED)
    if response.status_code == 401:
        offered = response.headers.get("WWW-Authenticate", "")
        schemes = ", ".join(dict.fromkeys(_SCHEME.findall(_QUOTED.sub('""', offered)))) or "nothing"
        raise RequestRefused(f"{_NO_NTLM}; it offers {schemes[:_LONGEST_OFFER]}. {_ENABLE}")
    if not (tried and 200 <= response.status_code < 300):
        server = ascii(response.headers.get("Server", "no name"))[:_LONGEST_OFFER]
        raise Broken(
            f"{place}: what answers there is no WinRM service (HTTP {response.status_code} to a sign-in; "
            f"it calls itself {server})"
        )


class WinRsTransport:
    """One connection, one shell, one process. See HostTransport for the methods."""

    def __init__(self, endpoint: str, credential: Credential, limits: WinRsLimits) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._adapter = OneConnectionAdapter(limits.connect_s)
        self._protocol = _protocol(endpoint, credential, self._adapter)
        self._shell = ""
        self._command = ""
        self._broken = False

    def open(self, deadline: float) -> None:
        """Connect, sign in, and open a shell."""
        self._ask(lambda p: p.transport.build_session(), deadline=deadline)
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
            self._protocol.transport.close_session()

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
        except InvalidCredentialsError as error:
            self._broken = True
            raise SignInRefused(REFUSED) from error
        except TransportError:
            self._broken = True
            raise
        except WinRMTransportError as error:
            self._broken = True
            raise Broken(f"the host answered HTTP {error.code}, and not as a WinRM service does") from error
        except requests.RequestException as error:
            self._broken = True
            _log.debug("%s: %r", self._endpoint, error)
            raise Broken("the connection failed") from error
        except Exception as error:
            # pywinrm lets through any error that the text of a reply causes (KeyError, StopIteration, ParseError,
            # AssertionError). The exchange is out of step then, whichever it was.
            self._broken = True
            _log.debug("%s: %r", self._endpoint, error)
            raise Broken("the reply is not the XML of a WinRM service") from error


def _protocol(endpoint: str, credential: Credential, adapter: OneConnectionAdapter) -> Protocol:
    transport = _SealedTransport(endpoint, credential, adapter)
    protocol = Protocol(endpoint, transport="ntlm", username=transport.username, password=transport.password)
    protocol.transport = transport
    return protocol
