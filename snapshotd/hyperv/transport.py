"""The port between a session and the way to its host: one kept process, lines in, output out.

WinRS is one way (winrs.py); a constrained endpoint (JEA) needs PSRP and will be another one. Nothing here connects.

Threads: a transport is used by one thread at a time; only `abort` may come from another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Output:
    """What a process wrote since it was last asked."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    """None while it runs."""


class TransportError(Exception):
    """The root. After any of these the transport is of no use but to be closed."""


class SignInRefused(TransportError):
    """The host refused the credential."""


class NothingSent(TransportError):
    """The request was not carried out, for certain: not a byte of it left, or the host knew no such shell."""


class RequestRefused(TransportError):
    """The host answered with a fault: it does not carry out this request."""


class Broken(TransportError):
    """No connection, or it failed while a request was under way, which may have arrived or not.

    So is an answer that no WinRM service gives, e.g. a redirect: something else may have passed the request on.
    """


class HostTransport(Protocol):
    """One process on one host. All methods block."""

    def start(self, executable: str, arguments: tuple[str, ...]) -> None:
        """Connect, sign in, and start the process. Raises TransportError."""

    def write(self, data: bytes) -> None:
        """Write to its stdin. Raises NothingSent when not a byte can have arrived, else any other TransportError."""

    def read(self, wait_s: float) -> Output:
        """Wait up to `wait_s` seconds (rounded up to whole ones) for output; empty when there is none yet."""

    def terminate(self) -> None:
        """End the process, whatever it is doing. Raises TransportError."""

    def close(self) -> None:
        """Give back everything on both sides. Raises nothing for a host that is gone; harmless when repeated."""

    def abort(self) -> None:
        """Cut the connection under a call that blocks in another thread; that call raises Broken."""
