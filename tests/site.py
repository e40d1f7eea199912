"""An HTTP server on loopback for tests, whose answers a test sets: what an identity provider has at its addresses."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A server on loopback that answers each path as a test says."""

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                with suppress(ConnectionError):  # the client has had enough
                    site.answers.get(self.path, status(404))(self)

            do_GET = do_CONNECT = answer  # noqa: N815  (the library's own names)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's own name)
                pass

        self.server = ThreadingHTTPServer((address, 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://{address}:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def status(code: int, **headers: str) -> Answer:
    """Return an answer without a body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()

    return answer


def body(content: object) -> Answer:
    """Return an answer: bytes as they are, and anything else as JSON."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        status(200)(request)
        request.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    return answer
