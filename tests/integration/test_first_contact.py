"""What is at a host's address and port, but is no WinRM that we can sign in to, is told in words that lead on."""

from __future__ import annotations

import asyncio
import base64
import gzip
import socket
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from snapshotd.api.v1.executor_pb2 import HostCommand, HostConnection, NoAnswer
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.pool import HostPool, HostPools, PoolSettings
from snapshotd.hyperv.winrs import WinRsLimits
from tests.integration.winrm_endpoint import SCRIPT

SETTINGS = PoolSettings(limits=WinRsLimits(connect_s=2, operation_s=2, margin_s=2, close_s=1))
QUICK = PoolSettings(limits=WinRsLimits(connect_s=2, operation_s=0.1, margin_s=-0.8, close_s=1))
"""A request may take 0.2 s. The operation's time-out goes to the host in whole seconds."""
ABRIDGED = "Negotiate TlRMTVNTUAACAAAA"
"""The beginning of one."""


@contextmanager
def http(status: int, body: bytes = b"", offer: str = "") -> Iterator[int]:
    """Serve an HTTP server that answers everything so; yield its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "nginx/1.24", ""

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            """Stay quiet."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            if offer:
                self.send_header("WWW-Authenticate", offer)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


@contextmanager
def raw(*replies: bytes, again: bytes = b"") -> Iterator[int]:
    """Serve one connection: answer what comes with one reply after the other, and close it; yield the port.

    `again` is sent again and again at the end, a piece each 20 ms, until the other side closes.
    """
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                for reply in replies:
                    connection.recv(10_000)
                    connection.sendall(reply)
                while again and not ended.wait(0.02):
                    connection.sendall(again)

        serving = threading.Thread(target=answer, daemon=True)
        serving.start()
        yield server.getsockname()[1]
        ended.set()
        serving.join()


REPORT = HostCommand(protocol=1, kind=HostCommand.REPORT)


def to(port: int, settings: PoolSettings) -> HostPool:
    """Open a pool of sessions with what is at a port."""
    credentials = Credentials(None, {"SNAPSHOTD_CREDENTIAL_HV": "WORKGROUP\\snap:secret"})
    way = HostConnection(host="hosts/hv01", address="127.0.0.1", port=port, credential="hv")
    return HostPools(credentials, SCRIPT, settings).open(way)


async def told(port: int, settings: PoolSettings = SETTINGS) -> tuple[str, str]:
    """Ask what is at a port for a report; return the reason, and the words."""
    pool = to(port, settings)
    async with asyncio.timeout(30):
        result = await pool.run(REPORT, 10)
    await pool.close(5)
    assert isinstance(result, NoAnswer)
    for raw_python in ("Error", "object has no", "b'", "Exception", "('", '("', "index", "www-", "raw", "line 1"):
        assert raw_python not in result.detail, result.detail
    return NoAnswer.Reason.Name(result.reason), result.detail


@pytest.mark.parametrize(
    ("offer", "schemes"),
    [
        ('Basic realm="WSMAN"', "offers Basic."),
        ('Kerberos, Basic realm="WSMAN, or so"', "offers Kerberos, Basic."),
        ('Basic realm="WSMAN", CredSSP', "offers Basic, CredSSP."),
        ("Kerberos", "offers Kerberos."),
        ('Basic realm="' + "Acme, Kerberos, Inc " * 20 + '", Digest realm="x"', "offers Basic, Digest."),
        ('Basic realm="a\\", CredSSP, \\"b", Digest realm="x, y', "offers Basic, Digest."),
        ("Basic, Basic, Digest " + "a" * 500, "offers Basic, Digest."),
        ("", "offers nothing."),
    ],
)
async def test_a_listener_that_does_not_offer_our_way_to_sign_in_says_which_it_offers(offer: str, schemes: str) -> None:
    with http(401, offer=offer) as port:
        reason, words = await told(port)
    assert reason == "HOST_REFUSED"
    assert "the host's WinRM listener does not offer to sign in by Negotiate" in words
    assert schemes in words
    assert "Set-Item WSMan:\\localhost\\Service\\Auth\\Negotiate $true" in words


async def test_a_listener_that_offers_negotiate_and_gives_no_challenge_has_no_ntlm() -> None:
    with http(401, offer="Negotiate") as port:
        reason, words = await told(port)
    assert reason == "HOST_REFUSED"
    assert "gave no NTLM challenge" in words


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 405, 407, 500, 503])
@pytest.mark.parametrize("body", [b"", b"<html>Welcome</html>"])
async def test_a_web_server_is_told_as_no_winrm_with_its_name(status: int, body: bytes) -> None:
    with http(status, b"" if status == 204 else body) as port:
        reason, words = await told(port)
    assert reason == "HOST_UNREACHABLE"
    assert words.startswith(f"127.0.0.1:{port}: what answers there is no WinRM service (HTTP {status} to a sign-in")
    assert "'nginx/1.24 '" in words or "'nginx/1.24'" in words


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH_9.6\r\n", b"220 smtp ready\r\n" * 9])
async def test_what_does_not_speak_http_is_told_as_that(reply: bytes) -> None:
    with raw(reply) as port:
        assert await told(port) == ("HOST_UNREACHABLE", f"127.0.0.1:{port}: what answers there does not speak HTTP")


async def test_a_listener_that_answers_with_an_alert_of_tls_is_told_as_one_for_https() -> None:
    with raw(b"\x15\x03\x03\0\2\2\x46") as port:
        reason, words = await told(port)
    assert reason == "HOST_UNREACHABLE"
    assert words.startswith(f"127.0.0.1:{port}: what answers there speaks TLS.")


@pytest.mark.parametrize("challenge", [ABRIDGED, "Negotiate !", "Negotiate YIIx", "NTLM TlRMTVNTUAAB"])
async def test_a_challenge_that_is_none_is_told_without_the_libraries_words(challenge: str) -> None:
    with http(401, offer=challenge) as port:
        reason, words = await told(port)
    assert reason in {"HOST_REFUSED", "HOST_UNREACHABLE"}, words


OK = b"HTTP/1.1 200 OK\r\n"
MUCH = 17 * 1024 * 1024


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"\r\n" + b"x" * MUCH,
        OK + b"Content-Length: 99999999999\r\n\r\n" + b"x" * MUCH,
        b"HTTP/1.1 401 U\r\nWWW-Authenticate: Negotiate\r\n\r\n" + b"x" * MUCH,
        OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % MUCH + b"x" * MUCH,
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * (MUCH // 6),
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MUCH // 25),
    ],
    ids=["no length", "a length", "of a 401", "a chunk", "trailers", "interim replies"],
)
async def test_a_reply_without_an_end_is_read_no_further_than_any_service_writes(reply: bytes) -> None:
    with raw(reply) as port:
        reason, words = await told(port)
    assert reason == "HOST_UNREACHABLE"
    assert words == "what answers there is no WinRM service: its reply has more than 16 MiB"


@pytest.mark.parametrize("body", [gzip.compress(b"\0" * MUCH), b"hello"])
async def test_a_reply_that_claims_to_be_compressed_is_not_decompressed(body: bytes) -> None:
    tracemalloc.start()
    with raw(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as port:
        tracemalloc.reset_peak()
        reason, words = await told(port)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (reason, "is no WinRM service (HTTP 200" in words) == ("HOST_UNREACHABLE", True)
    assert peak < MUCH


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"HTTP/1.1 2", b"0"),
        (OK + b"A: ", b"a"),
        (OK + b"Content-Length: 100000\r\n\r\n", b"a"),
        (b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n"),
    ],
    ids=["status", "header", "body", "interim replies"],
)
async def test_a_reply_that_comes_byte_by_byte_is_cut_at_the_limit_of_its_request(begin: bytes, again: bytes) -> None:
    with raw(begin, again=again) as port:
        assert await told(port, QUICK) == ("HOST_UNREACHABLE", f"127.0.0.1:{port}: timed out")


async def test_a_sign_in_that_drips_ends_with_its_command_and_the_next_command_makes_its_own() -> None:
    settings = PoolSettings(limits=WinRsLimits(operation_s=600))
    with raw(OK + b"A: ", again=b"a") as port:
        pool = to(port, settings)
        for _ in range(2):
            async with asyncio.timeout(30):
                result = await pool.run(REPORT, 0.2)
            assert result == NoAnswer(reason=NoAnswer.HOST_UNREACHABLE, detail=f"127.0.0.1:{port}: timed out")
        await pool.close(5)


def reply(status: int, *headers: str, body: bytes = b"") -> bytes:
    """Write a reply."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def challenge() -> bytes:
    """Write the reply to the first step of a sign-in, with a challenge as hosts give it."""
    target, flags = b"\0" * 4, 0xE28A8235
    token = b"NTLMSSP\0" + struct.pack("<IHHIIQQHHI", 2, 0, 0, 56, flags, 42, 0, len(target), len(target), 56)
    encoded = base64.b64encode(token + b"\x0a\0\x63\x45\0\0\0\x0f" + target).decode()
    return reply(401, f"WWW-Authenticate: Negotiate {encoded}")


OFFER = reply(401, "WWW-Authenticate: Negotiate")
SEALED = (
    'Content-Type: multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted"'
    ';boundary="Encrypted Boundary"'
)
NO_HTTP = "{}: what answers there does not speak HTTP"
NO_CHALLENGE = "{}: what answers there gave no NTLM challenge that can be read"


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ([OK + b"Content-Length: 30\r\n\r\nhello"], "{}: the reply breaks off"),
        ([b"HTTP/1.1 401 U\r\nContent-Length: 30\r\n\r\nhello"], "{}: the reply breaks off"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello"], "{}: the reply breaks off"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello"], NO_HTTP),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000], NO_HTTP),
        ([OK + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello"], NO_HTTP),
        ([OK + b"A: b\r\n" * 200 + b"Content-Length: 0\r\n\r\n"], NO_HTTP),
        ([OFFER, reply(200)], NO_CHALLENGE),
        ([OFFER, reply(304)], NO_CHALLENGE),
        ([OFFER, challenge()[:-60] + b"\r\n\r\n"], NO_CHALLENGE),
        ([challenge(), reply(200)], NO_CHALLENGE),
        ([reply(304)], "{}: what answers there is no WinRM service (HTTP 304 to a sign-in; it calls itself 'no name')"),
        (
            [OFFER, challenge(), reply(304)],
            "{}: what answers there is no WinRM service (HTTP 304 to a sign-in; it calls itself 'no name')",
        ),
        ([OFFER, challenge(), reply(200), reply(200)], "the host answered HTTP 200 with an empty body"),
        ([OFFER, challenge(), reply(200), reply(304)], "the host answered HTTP 304 with an empty body"),
        ([OFFER, challenge(), reply(200), reply(404)], "the host answered HTTP 404, and not as a WinRM service does"),
        (
            [OFFER, challenge(), reply(200), reply(200, SEALED, body=b"--Encrypted Boundary\r\nxx")],
            "the host answered with a sealed body that cannot be opened",
        ),
        (
            [OFFER, challenge(), reply(200), reply(200, SEALED, "Content-Encoding: gzip", body=b"\x1f\x8b")],
            "the host answered with a sealed body that cannot be opened",
        ),
    ],
)
async def test_what_is_wrong_with_a_reply_is_told_in_words(replies: list[bytes], words: str) -> None:
    with raw(*replies) as port:
        assert await told(port) == ("HOST_UNREACHABLE", words.format(f"127.0.0.1:{port}"))
