"""Where the simulated host's two HTTP servers listen. Never looks at a request."""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading

_log = logging.getLogger(__name__)


class PortInUse(Exception):
    """An address cannot be listened on."""


def open_listener(address: str, handler: type[socketserver.BaseRequestHandler]) -> Listener:
    """Listen on "host:port" (port 0: any). Raises PortInUse when that cannot be, ValueError for no address."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an address of the form host:port: {address!r}")
    host = host.removeprefix("[").removesuffix("]")
    kind = Listener6 if ":" in host else Listener
    try:
        return kind((host, int(port)), handler)
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {address}: {error.strerror}. Give another address, or port 0 for any."
        ) from error


class Listener(socketserver.ThreadingTCPServer):
    """A server with a thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    _serving: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where it listens: "host:port"."""
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self, name: str) -> None:
        """Begin to answer, in a thread of this name."""
        self._serving = threading.Thread(target=self.serve_forever, name=name, kwargs={"poll_interval": 0.05})
        self._serving.start()

    def stop(self) -> None:
        """Stop listening, whether it was started or not; connections go on."""
        if self._serving is not None:
            # Without a thread that serves, shutdown() would wait for ever.
            self.shutdown()
            self._serving.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002  (socketserver's hook)
        """Log what a connection's thread did not expect; a cut connection is expected."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            _log.error("request of %s failed", client_address, exc_info=error)


class Listener6(Listener):
    """The same over IPv6."""

    address_family = socket.AF_INET6
