"""Signing in: what is sent over which connection, and what is told when a server or its certificate is not right."""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from snapshotd.api.v1.host_pb2 import ListHostsResponse
from snapshotd.channels import channel_options
from snapshotd.client import calls
from tests.certificates import Authority, Issued, pem_of
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

SERVERS, USERS = Authority("servers"), Authority("users")


def credentials(own: Issued, users: Authority | None = None) -> grpc.ServerCredentials:
    """Return the credentials of a server; with an authority, of one that requires certificates."""
    roots = None if users is None else users.own.pem
    return grpc.ssl_server_credentials([(pem_of(own.key), own.pem)], roots, require_client_auth=users is not None)


def serving(tls: grpc.ServerCredentials) -> FakeService:
    """Return a service over TLS, not started."""
    service = FakeService(tls=tls)
    service.answers["ListHosts"] = lambda _: ListHostsResponse()
    return service


@pytest.fixture
def over_tls() -> Iterator[FakeService]:
    with serving(credentials(SERVERS.issue("server"))) as service:
        yield service


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("t0ken\n", encoding="utf-8")
    return file


def test_a_token_goes_over_tls(ctl: Ctl, over_tls: FakeService, tmp_path: Path, token: Path) -> None:
    ca = str(SERVERS.write(tmp_path, "ca"))
    said = ctl("host", "list", "--server", over_tls.address, "--ca", ca, "--token-file", str(token))
    assert (said.code, said.err) == (0, "")
    assert over_tls.came_with[-1]["authorization"] == "Bearer t0ken"
    assert ctl("host", "list", "--server", over_tls.address, "--ca", ca).code == 0
    assert "authorization" not in over_tls.came_with[-1]


def test_a_certificate_signs_in_where_one_is_required(ctl: Ctl, tmp_path: Path) -> None:
    ca, (certificate, key) = str(SERVERS.write(tmp_path, "ca")), USERS.issue("alice").write(tmp_path, "alice")
    with serving(credentials(SERVERS.issue("server"), USERS)) as service:
        to = ("host", "list", "--server", service.address, "--ca", ca)
        assert ctl(*to, "--certificate", str(certificate), "--key", str(key)).code == 0
        said = ctl(*to)
    assert (said.code, "Name yours with --certificate" in said.err) == (6, True), said.err


def test_a_token_is_never_sent_where_others_could_read_it(ctl: Ctl, service: FakeService, token: Path) -> None:
    service.answers["ListHosts"] = lambda _: ListHostsResponse()
    said = ctl("host", "list", "--server", "s.example.com:7443", "--token-file", str(token))
    assert (said.code, "the connection would not be encrypted" in said.err, "--ca FILE" in said.err) == (2, True, True)
    assert ctl("host", "list", "--token-file", str(token)).code == 0, "loopback is this machine"


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("s3cret", 0o644, "is open to everybody on this machine. Set its mode to 600"),
        ("s3cret and more", 0o600, "it must be one word in ASCII"),
        ("", 0o600, "it must be one word in ASCII"),
        ("s3cret\u00fc", 0o600, "it must be one word in ASCII"),
    ],
)
def test_a_token_that_cannot_be_used_is_told_without_it(
    ctl: Ctl, token: Path, content: str, mode: int, says: str
) -> None:
    token.write_text(content, encoding="utf-8")
    token.chmod(mode)
    said = ctl("host", "list", "--token-file", str(token))
    assert (said.code, says in said.err, "s3cret" in said.err) == (2, True, False), said.err
    assert ctl("host", "list", "--token-file", f"{token}.no").code == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--certificate", "c.pem"], "give both, --certificate and --key"),
        (["--certificate", "c.pem", "--key", "c.key"], "Name the server's CA: --ca"),
        (["--server", "unix:/run/s", "--certificate", "c", "--key", "k", "--ca", "a"], "a unix socket speaks no TLS"),
        (["--ca", "nosuch.pem"], "/nosuch.pem: no such file or directory"),
    ],
)
def test_options_that_do_not_go_together_are_told(ctl: Ctl, options: list[str], says: str) -> None:
    said = ctl("host", "list", *options)
    assert (said.code, says in said.err) == (2, True), said.err


def test_what_is_wrong_with_tls_is_told_at_once_and_not_tried_again(
    ctl: Ctl, over_tls: FakeService, service: FakeService, tmp_path: Path
) -> None:
    own, foreign = str(SERVERS.write(tmp_path, "ca")), str(USERS.write(tmp_path, "foreign"))
    told = [
        ctl("host", "list", "--server", over_tls.address),
        ctl("host", "list", "--server", over_tls.address, "--ca", foreign),
        ctl("host", "list", "--server", service.address, "--ca", own),
    ]
    assert [said.code for said in told] == [6, 6, 6]
    assert told[0].err == (
        f"snapshotctl: Cannot connect to {over_tls.address}. The server speaks TLS. Name the authority that issued its "
        "certificate with --ca.\n"
    )
    assert f"(CN=server, issued by CN=servers) is not trusted by --ca {foreign} (CN=users)" in told[1].err
    assert "The server speaks no TLS there. Leave --ca out" in told[2].err


def test_a_server_whose_certificate_has_another_name_is_called_by_that(ctl: Ctl, tmp_path: Path) -> None:
    ca = str(SERVERS.write(tmp_path, "ca"))
    with serving(credentials(SERVERS.issue("server", ("snapshots.example.com",)))) as service:
        to = ("host", "list", "--server", service.address, "--ca", ca)
        said = ctl(*to)
        assert "is not for 127.0.0.1: its names are snapshots.example.com." in said.err
        assert "give the name with --server-name" in said.err
        assert ctl(*to, "--server-name", "snapshots.example.com").code == 0
        assert "is not for wrong.example.com" in ctl(*to, "--server-name", "wrong.example.com").err


def test_who_is_not_signed_in_is_told_how_to(ctl: Ctl, service: FakeService, token: Path) -> None:
    def refuse(_: object) -> Message:
        raise Refuse(grpc.StatusCode.UNAUTHENTICATED, "Cannot sign in: the token has expired.", "TOKEN_EXPIRED")

    service.answers["ListHosts"] = refuse
    without, by_token = ctl("host", "list"), ctl("host", "list", "--token-file", str(token))
    assert (without.code, by_token.code) == (3, 3)
    assert "Sign in by a token (--token-file FILE or $SNAPSHOTD_TOKEN), or by a certificate" in without.err
    assert f"[TOKEN_EXPIRED]\nThe token is from {token}. Get a new one, and put it there." in by_token.err
    assert "t0ken" not in by_token.err
    assert len(service.asked) == 2, "a refusal does not pass"


class Cut:
    """Leads to a server, until it is cut: then nothing arrives, and no connection ends."""

    def __init__(self, to: str) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._host, _, self._port = to.rpartition(":")
        self.cut = threading.Event()
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._lead)]
        self._threads[0].start()

    def _lead(self) -> None:
        near, _ = self._listening.accept()
        far = socket.create_connection((self._host, int(self._port)))
        self._ends = [near, far]
        for one, other in ((near, far), (far, near)):
            self._threads.append(threading.Thread(target=self._copy, args=(one, other)))
            self._threads[-1].start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):  # each side may end as it likes
            while piece := one.recv(65536):
                if not self.cut.is_set():
                    other.sendall(piece)

    def close(self) -> None:
        """End it."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (*self._ends, self._listening):
            each.close()


@pytest.mark.slow
def test_a_server_that_is_cut_off_is_found_out_by_a_call_that_waits(
    ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_REPEATS", 1)
    monkeypatch.setattr(calls, "channel_options", functools.partial(channel_options, ping_s=0.3, answer_s=0.3))
    line, over = Cut(service.address), threading.Event()

    def wait(_: object) -> Message:
        line.cut.set()
        over.wait(30)
        return ListHostsResponse()

    service.answers["ListHosts"] = wait
    said = ctl("host", "list", "--server", line.address, "--timeout", "60")
    over.set()
    line.close()
    assert (said.code, f"Cannot reach a server at {line.address}" in said.err) == (6, True), said.err


def test_a_certificate_that_nobody_asked_for_leads_to_the_other_address(
    ctl: Ctl, over_tls: FakeService, tmp_path: Path
) -> None:
    def missing(_: Message) -> Message:
        raise Refuse(grpc.StatusCode.UNAUTHENTICATED, "Cannot serve: nobody signed in.", "SIGN_IN_MISSING")

    over_tls.answers["ListHosts"] = missing
    ann = USERS.issue("ann")
    (tmp_path / "ann.pem").write_bytes(ann.pem)
    (tmp_path / "ann.key").touch(mode=0o600)
    (tmp_path / "ann.key").write_bytes(pem_of(ann.key))
    files = ["--certificate", str(tmp_path / "ann.pem"), "--key", str(tmp_path / "ann.key")]
    said = ctl("host", "list", "--server", over_tls.address, "--ca", str(SERVERS.write(tmp_path, "ca")), *files)
    assert "asks for no certificate at this address" in said.err
    assert "Call server.listen_mtls" in said.err
