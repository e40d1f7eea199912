"""What people read of a connection that failed: where, and why, and nothing of the libraries' own texts."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.hyperv.credentials import Credential, Secret
from snapshotd.hyperv.no_answer import HostUnreachable, in_words
from snapshotd.hyperv.session import HostSession, KeptScript
from snapshotd.hyperv.transport import Broken
from snapshotd.hyperv.winrs import WinRsLimits, open_winrs

LIMITS = WinRsLimits(connect_s=0.2, operation_s=0.2, margin_s=0.01, close_s=0.2)


def unreachable(port: int) -> str:
    """Start a session where no host answers; return what is said."""
    way = HostConnection(host="hosts/hv01", address="127.0.0.1", port=port, transport=HostConnection.NTLM_HTTP)
    session = HostSession(
        open_winrs(way, Credential("user", Secret("geheim")), LIMITS), KeptScript("powershell.exe", (), b"", b"READY")
    )
    with pytest.raises(HostUnreachable) as error:
        session.start(time.monotonic() + 10)
    session.close()
    return str(error.value)


@contextmanager
def listener(*, closes: bool) -> Iterator[int]:
    """Take one connection, and close it or say nothing on it."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                if not closes:
                    ended.wait()

        taking = threading.Thread(target=take)
        taking.start()
        yield server.getsockname()[1]
        ended.set()
        taking.join()


def test_a_port_that_nobody_listens_on_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert unreachable(port) == f"127.0.0.1:{port}: connection refused"


def test_a_connection_that_the_other_side_closes_is_told_in_words() -> None:
    with listener(closes=True) as port:
        assert unreachable(port) == f"127.0.0.1:{port}: connection closed"


@pytest.mark.slow
def test_a_host_that_says_nothing_is_told_in_words() -> None:
    with listener(closes=False) as port:
        assert unreachable(port) == f"127.0.0.1:{port}: timed out"


def failed(cause: BaseException) -> Broken:
    """Wrap a cause as the libraries do."""
    request = requests.Request("POST", "http://hv01.example.com:5985/wsman").prepare()
    try:
        try:
            raise cause
        except type(cause):
            raise requests.ConnectionError("HTTPConnectionPool: Max retries exceeded", request=request)  # noqa: B904
    except requests.ConnectionError as between:
        error = Broken(f"ConnectionError: {between}")
        error.__cause__ = between
        return error


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name not found"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "connection closed"),
    ],
)
def test_the_usual_causes_have_their_words(cause: OSError, words: str) -> None:
    assert in_words(failed(cause)) == f"hv01.example.com:5985: {words}"


def test_what_is_unusual_keeps_its_text() -> None:
    assert in_words(failed(KeyError("Header"))) == "ConnectionError: HTTPConnectionPool: Max retries exceeded"
    assert in_words(Broken("HTTP 200 with a body that is not sealed")) == "HTTP 200 with a body that is not sealed"
