"""The one connection of a session over real sockets: what was cut sends nothing, and what was sent is not denied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import requests
from urllib3.connection import HTTPConnection

from snapshotd.hyperv.one_connection import OneConnectionAdapter
from snapshotd.hyperv.transport import Broken, NothingSent


class Server(ThreadingHTTPServer):
    """Takes POSTs, and keeps what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.connections = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Stay quiet."""

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def adapter() -> Iterator[OneConnectionAdapter]:
    adapter = OneConnectionAdapter(2)
    yield adapter
    adapter.close()


Post = Callable[[bytes], requests.Response]


@pytest.fixture
def post(server: Server, adapter: OneConnectionAdapter) -> Iterator[Post]:
    with requests.Session() as session:
        session.mount("http://", adapter)
        yield lambda body: session.post(f"http://127.0.0.1:{server.server_port}/wsman", data=body)


@pytest.mark.parametrize("status", [300, 301, 307])
@pytest.mark.parametrize("location", ["/other", "http://localhost:1/wsman", "https://localhost:1/wsman"])
def test_a_redirect_is_told_as_what_it_is_and_followed_nowhere(
    server: Server, post: Post, status: int, location: str
) -> None:
    server.status = status
    server.headers = {"Location": location}
    with pytest.raises(Broken, match=f"redirect .HTTP {status} to '{location}'"):
        post(b"sealed")
    assert server.bodies == [b"sealed"]


def test_a_request_is_unsent_only_if_nothing_of_it_was_written_before_the_connection_was_lost(
    server: Server, adapter: OneConnectionAdapter, post: Post
) -> None:
    server.headers = {"Connection": "close"}
    adapter.begin(2)
    post(b"first")
    with pytest.raises(Broken, match="after the request was written"):
        post(b"first, again")
    adapter.begin(2)
    with pytest.raises(NothingSent):
        post(b"second")
    assert (server.bodies, server.connections) == ([b"first"], 1)


def test_after_it_was_cut_a_kept_connection_carries_nothing(
    server: Server, adapter: OneConnectionAdapter, post: Post
) -> None:
    adapter.begin(2)
    post(b"first")
    adapter.abort()
    with pytest.raises(Broken, match="cut by this executor after"):
        post(b"first, again")
    adapter.begin(2)
    with pytest.raises(NothingSent, match="cut by this executor"):
        post(b"second")
    assert server.bodies == [b"first"]


def test_a_connection_that_is_cut_while_it_is_opened_carries_nothing(
    server: Server, adapter: OneConnectionAdapter, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = HTTPConnection.connect

    def connect_and_be_cut(connection: HTTPConnection) -> None:
        adapter.abort()  # from the other thread, at the moment when there is no socket yet
        connect(connection)

    with monkeypatch.context() as patched:
        patched.setattr(HTTPConnection, "connect", connect_and_be_cut)
        with pytest.raises(NothingSent, match="cut by this executor"):
            post(b"first")
    with pytest.raises(NothingSent):
        post(b"second")
    assert not server.bodies
