"""What answers in the place of a snapshotd server, a proxy above all, is told as that, with the proxy's setting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message

from snapshotd.client.calls import _proxy
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

PREFACE = 24
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEADERS = 1
VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "no_grpc_proxy")


def frame_type(came: socket.socket) -> int:
    """Read a frame of HTTP/2, and return its type; -1 at the end."""
    head = came.recv(9, socket.MSG_WAITALL)
    if len(head) < 9:
        return -1
    if size := int.from_bytes(head[:3]):
        came.recv(size, socket.MSG_WAITALL)
    return head[3]


class Proxy:
    """A proxy that lets nobody through, or that leads to a web server which knows no such page."""

    def __init__(self, *, leads_on: bool) -> None:
        self._leads_on = leads_on
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._stopped = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            came, _ = self._socket.accept()
            with came:
                if self._stopped:
                    return
                self._answer(came)

    def _answer(self, came: socket.socket) -> None:
        came.recv(4096)
        if not self._leads_on:
            came.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        came.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        came.recv(PREFACE, socket.MSG_WAITALL)
        came.sendall(SETTINGS)
        while (kind := frame_type(came)) not in (HEADERS, -1):
            pass
        if kind == HEADERS:
            came.sendall(b"\0\0\1\1\5\0\0\0\1\x8d")  # the end of stream 1, with :status 404
            frame_type(came)

    def close(self) -> None:
        """Stop."""
        self._stopped = True
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join()
        self._socket.close()


@pytest.fixture(params=[True, False], ids=["404", "no way"])
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    proxy = Proxy(leads_on=request.param)
    monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://ann:secret@"))
    yield proxy
    proxy.close()


@pytest.mark.slow
def test_a_proxy_that_answers_in_the_place_of_a_remote_server_is_named(ctl: Ctl, proxy: Proxy) -> None:
    said = ctl("host", "list", "--server", "192.0.2.1:7443")
    assert said.code == 6
    assert f"http_proxy={proxy.url}" in said.err
    assert "no_proxy=192.0.2.1" in said.err
    assert "secret" not in said.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "Received http2 header with status: 404"),
        (grpc.StatusCode.PERMISSION_DENIED, "Received http2 header with status: 403"),
        (grpc.StatusCode.UNKNOWN, "unexpected content-type text/html"),
    ],
)
def test_a_web_server_is_told_as_none_of_ours(ctl: Ctl, service: FakeService, code: grpc.StatusCode, text: str) -> None:
    def refuse(_: object) -> Message:
        raise Refuse(code, text)

    service.answers["ListHosts"] = refuse
    said = ctl("host", "list")
    assert said.code == 6
    assert f"what answers is no snapshotd server ({text}). Give the server's address with --server." in said.err


@pytest.mark.parametrize(
    ("address", "environ", "named"),
    [
        ("hv.example.com:7443", {"http_proxy": "proxy:3128"}, "http_proxy=proxy:3128"),
        ("hv.example.com:7443", {"http_proxy": "http://a", "grpc_proxy": "http://b"}, "grpc_proxy=http://b"),
        ("hv.example.com:7443", {"http_proxy": "http://a", "no_proxy": "x, example.com"}, ""),
        ("hv.example.com:7443", {"http_proxy": "http://a", "no_proxy": ""}, "http_proxy=http://a"),
        ("127.0.0.1:7443", {"http_proxy": "http://a"}, ""),
        ("unix:/run/s", {"http_proxy": "http://a"}, ""),
        ("hv.example.com:7443", {}, ""),
    ],
)
def test_a_proxy_is_named_only_where_it_is_taken(
    monkeypatch: pytest.MonkeyPatch, address: str, environ: dict[str, str], named: str
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    told = _proxy(address)
    assert named in told
    assert bool(named) == bool(told)
