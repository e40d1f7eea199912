"""The port between a session and its host: one kept process, lines in, output out.

WinRS implements it (winrs.py). A constrained endpoint (JEA) needs PSRP and would be another one. Nothing here connects.

Threads: one thread at a time uses a transport; only `abort` may come from another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Output:
    """What a process wrote since the last read."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    """None while it runs."""


class TransportError(Exception):
    """The root. After any of these errors, the transport can only be closed."""


class SignInRefused(TransportError):
    """The host refused the credential, at the sign-in or later."""


class CertificateNotTaken(TransportError):
    """The host refused the client certificate, at the sign-in or later. No account is locked for that."""


class NothingSent(TransportError):
    """The request was certainly not carried out: not a byte of it left, or the host knew no such shell."""


class RequestRefused(TransportError):
    """The host refused the request with a fault."""


class Broken(TransportError):
    """There is no connection, or it failed during a request, which may or may not have arrived.

    Also raised for an answer that no WinRM service gives, such as a redirect: something may have forwarded the request.
    """


class HostTransport(Protocol):
    """One process on one host. All methods block. A `deadline` is in seconds of the monotonic clock."""

    def open(self, deadline: float) -> None:
        """Connect, sign in once, and make room for a process. Raises TransportError, at the deadline too."""

    def start(self, executable: str, arguments: tuple[str, ...], deadline: float) -> None:
        """Start the process, after `open`. Raises TransportError, at the deadline too."""

    def write(self, data: bytes, deadline: float) -> None:
        """Write to its stdin. Raises NothingSent if not a byte can have arrived, else another TransportError.

        The deadline is such an error too.
        """

    def read(self, wait_s: float) -> Output:
        """Return output, within `wait_s` seconds (rounded up to whole ones); empty if there is none yet."""

    def terminate(self) -> None:
        """End the process, whatever it is doing. Raises TransportError."""

    def close(self) -> None:
        """Close everything on both sides. May be repeated. Raises nothing for a host that is gone."""

    def abort(self) -> None:
        """Cut the connection. A call that blocks in another thread raises Broken."""
