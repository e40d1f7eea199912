"""Why a command has no answer: one error for each `NoAnswer.Reason`, and the one that only the pool sees.

The border: once the first byte of a command may have left this machine, the error is `ConnectionLost`, and nobody knows
whether the command took effect. Before that, it is one of the errors that say "Nothing was sent". No error here ever
holds a secret.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import ClassVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidChunkLength, InvalidHeader, ProtocolError

from snapshotd.api.v1.executor_pb2 import NoAnswer

_LONGEST_DETAIL = 2000
"""Characters. The texts of a host are cut before they go into a message that is stored."""


_NO_HTTP = "what answers there does not speak HTTP"


class NoHostAnswer(Exception):
    """The root: the host's script gave no answer, and why."""

    reason: ClassVar[NoAnswer.Reason.ValueType]
    """The reason that the server is told."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail[:_LONGEST_DETAIL])

    def message(self) -> NoAnswer:
        """Return the message for the server."""
        return NoAnswer(reason=self.reason, detail=str(self))


class HostUnreachable(NoHostAnswer):
    """The host could not be reached, or was lost before the command was sent. Nothing was sent."""

    reason = NoAnswer.HOST_UNREACHABLE


class AuthenticationFailed(NoHostAnswer):
    """The host refused the credential. Nothing was sent."""

    reason = NoAnswer.AUTHENTICATION_FAILED


class CertificateRefused(NoHostAnswer):
    """The host refused the client certificate. Nothing was sent.

    No AuthenticationFailed: no account is locked for it, so nothing has to wait.
    """

    reason = NoAnswer.AUTHENTICATION_FAILED


class CredentialMissing(NoHostAnswer):
    """This executor has no usable credential of that name. Nothing was sent."""

    reason = NoAnswer.CREDENTIAL_MISSING


class HostRefused(NoHostAnswer):
    """The host or this executor refused the command before the script saw it (quota, transport). Nothing was sent."""

    reason = NoAnswer.HOST_REFUSED


class ConnectionLost(NoHostAnswer):
    """The connection, the shell or the script ended before an answer came. The outcome is unknown."""

    reason = NoAnswer.CONNECTION_LOST


class DeadlineExceeded(NoHostAnswer):
    """The script was ended at its deadline, or no session was free until then."""

    reason = NoAnswer.DEADLINE_EXCEEDED


class MalformedAnswer(NoHostAnswer):
    """The script wrote something that the protocol does not allow. The outcome is unknown."""

    reason = NoAnswer.MALFORMED_ANSWER


class StaleSession(Exception):
    """A kept session was gone before a byte of the command had left. Another session may carry the command."""


def in_words(error: BaseException) -> str:
    """Return what was wrong with a connection: its address and the system's word, not the texts of the libraries.

    An error that is not a usual failure of a connection keeps its text.
    """
    address, problem = "", ""
    for link in causes(error):
        request = link.request if isinstance(link, requests.RequestException) else None
        if request is not None and request.url:
            address = urlsplit(request.url).netloc
        problem = _problem(link) or problem
    return f"{address}: {problem}" if address and problem else str(error)


def said_by_tls(error: ssl.SSLError) -> str:
    """Return the TLS library's word for what went wrong, such as "wrong version number"."""
    return (error.reason or "no reason given").replace("_", " ").lower()


def _problem(error: BaseException) -> str:
    match error:
        case socket.gaierror():
            return "name not found"
        case RemoteDisconnected() | ConnectionResetError() | BrokenPipeError():
            return "connection closed"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "connection closed"
        case ssl.SSLError():
            return f"the TLS connection failed ({said_by_tls(error)})"
        case InvalidChunkLength() | InvalidHeader() | ProtocolError():
            return _NO_HTTP
        case IncompleteRead():
            return "the reply breaks off"
        case HTTPException():
            # The root of all that http.client finds wrong with a reply.
            return _NO_HTTP
        case TimeoutError() | requests.Timeout():
            return "timed out"
        case OSError(strerror=str() as text):
            return text[:1].lower() + text[1:]
        case _:
            return ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then its cause, and so on."""
    while error is not None:
        yield error
        within = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        # urllib3 takes errors of TLS into its own, as arguments.
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__) or within
