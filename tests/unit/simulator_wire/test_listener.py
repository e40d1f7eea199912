"""What a connection's thread meets: a cut connection is expected, everything else is logged."""

from __future__ import annotations

import errno
import logging
import socket
import socketserver

import pytest

from snapshotd.simulator.listener import open_listener


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "./x"), True),
        (KeyError("x"), True),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), False),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), False),
    ],
)
def test_an_error_in_a_handler_is_logged_unless_the_connection_was_cut(
    error: Exception, caplog: pytest.LogCaptureFixture, *, logged: bool
) -> None:
    class Failing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            raise error

    listener = open_listener("127.0.0.1:0", Failing)
    listener.start("failing")
    host, _, port = listener.address.rpartition(":")
    with caplog.at_level(logging.ERROR), socket.create_connection((host, int(port)), timeout=5) as connection:
        assert connection.recv(1) == b""
    listener.stop()
    assert (repr(error) in caplog.text or str(error) in caplog.text) is logged
