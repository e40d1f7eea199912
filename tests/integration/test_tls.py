"""The real server over TLS: who gets through at which address, rotation while calls run, and what failures are told."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.channels import channel_options
from snapshotd.domain.state import replace
from snapshotd.executor.service import Executor
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.tls import ClientFiles, Pair, TlsFile
from snapshotd.tls_problems import Words, explain, may_be_tls
from tests.certificates import DAY, Authority, Issued, pem_of
from tests.integration.executor_feed import Host
from tests.integration.polling import until
from tests.integration.whole_server import Served, serve

SERVERS, USERS, EXECUTORS, FOREIGN = (Authority(name) for name in ("servers", "users", "executors", "foreign"))
EXECUTOR_NAMES = ("snapshotd://executor/e1", "snapshotd://host/hv01")
WORDS = Words("--ca", "--certificate", "--server-name")


@dataclass
class Place:
    """A running server, and the directory of its files."""

    served: Served
    at: Path

    @property
    def address(self) -> str:
        """The address for everybody."""
        return self.served.server.address

    @property
    def mtls(self) -> str:
        """The address for callers with certificates."""
        return self.served.server.mtls_address

    def caller(self, own: Issued | None = None, authority: Authority = SERVERS) -> ClientFiles:
        """Write the files of a caller."""
        named = TlsFile("--ca", authority.write(self.at, "ca"))
        if own is None:
            return ClientFiles(named)
        certificate, key = own.write(self.at, "caller")
        return ClientFiles(named, Pair(TlsFile("--certificate", certificate), TlsFile("--key", key)))


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with serve(tmp_path, tls_settings(tmp_path)) as served:
        yield Place(served, tmp_path)


def tls_settings(at: Path, own: Issued | None = None) -> dict[str, str]:
    """Write the files of a server; return its settings."""
    certificate, key = (own or SERVERS.issue("server")).write(at, "server")
    return {
        "server.listen_mtls": "127.0.0.1:0",
        "server.certificate": str(certificate),
        "server.key": str(key),
        "server.user_ca": str(USERS.write(at, "users")),
        "server.executor_ca": str(EXECUTORS.write(at, "executors")),
    }


def channel(address: str, files: ClientFiles | None) -> grpc.aio.Channel:
    """Open a channel that shares no connection with others."""
    options = (*channel_options(address), ("grpc.use_local_subchannel_pool", 1))
    if files is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, files.read().credentials(), options)


async def answers(to: grpc.aio.Channel) -> bool:
    """Return whether a call is answered."""
    stub: Any = HealthStub(to)
    try:
        answer = await stub.Check(HealthCheckRequest(), timeout=10)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return bool(answer.status == HealthCheckResponse.SERVING)


async def reached(address: str, files: ClientFiles | None) -> bool:
    """Return whether a call over a connection of its own is answered."""
    async with channel(address, files) as to:
        return await answers(to)


def shown_by(address: str) -> int:
    """Return the serial number of the certificate that a new connection gets."""
    host, _, port = address.rpartition(":")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, int(port))).encode()).serial_number


async def test_without_a_certificate_a_caller_gets_through_at_the_one_address_only(place: Place) -> None:
    assert await reached(place.address, place.caller())
    assert not await reached(place.mtls, place.caller())
    assert not await reached(place.address, None), "who speaks no TLS gets nowhere"


@pytest.mark.parametrize(
    ("own", "through"),
    [
        (USERS.issue("alice"), True),
        (EXECUTORS.issue("e1", EXECUTOR_NAMES), True),
        (FOREIGN.issue("mallory"), False),
        (SERVERS.issue("server"), False),
    ],
    ids=["user", "executor", "foreign", "server"],
)
async def test_at_the_other_address_the_certificate_has_to_be_of_one_of_two_authorities(
    place: Place, own: Issued, *, through: bool
) -> None:
    assert await reached(place.mtls, place.caller(own)) is through


@pytest.mark.parametrize(
    ("version", "spoken"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
async def test_nothing_below_tls_1_2_is_spoken(place: Place, version: ssl.TLSVersion, *, spoken: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Without it, OpenSSL itself would refuse the old versions, and the server would not be asked.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1, which this asks for on purpose
        context.minimum_version = context.maximum_version = version
    spoken_is = await asyncio.to_thread(spoken_with, context, place.address)
    assert spoken_is == (version.name if spoken else "refused")


def spoken_with(context: ssl.SSLContext, address: str) -> str:
    """Return the TLS version that a handshake ends with."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as plain:
        try:
            with context.wrap_socket(plain) as wrapped:
                return str(wrapped.version()).replace(".", "_")
        except (ssl.SSLError, ConnectionResetError):
            return "refused"


async def test_a_renewed_certificate_is_shown_to_new_connections_and_fails_no_call(place: Place) -> None:
    caller = place.caller()
    failed: list[str] = []
    done = asyncio.Event()

    async def call(to: grpc.aio.Channel) -> int:
        made = 0
        while not done.is_set():
            made += 1
            if not await answers(to):
                failed.append(f"call {made}")
        return made

    async with channel(place.address, caller) as one, channel(place.address, caller) as other:
        calling = [asyncio.create_task(call(to)) for to in (one, other)]
        serials = []
        for number in range(3):
            renewed = SERVERS.issue(f"renewed {number}")
            renewed.write(place.at, "server")
            serials.append((await asyncio.to_thread(shown_by, place.address), renewed.certificate.serial_number))
            assert await reached(place.address, caller)
            assert await reached(place.mtls, place.caller(USERS.issue("alice")))
        done.set()
        made = await asyncio.gather(*calling)
    assert failed == []
    assert min(made) >= 3
    assert [shown for shown, _ in serials] == [renewed for _, renewed in serials]


async def test_authorities_of_callers_follow_their_files(place: Place) -> None:
    bob = place.caller(FOREIGN.issue("bob"))
    assert not await reached(place.mtls, bob)
    (place.at / "users.pem").write_bytes(USERS.own.pem.rstrip() + b"\n" + FOREIGN.own.pem)
    assert await reached(place.mtls, bob)
    USERS.write(place.at, "users")
    assert not await reached(place.mtls, bob)


@dataclass(frozen=True)
class Failure:
    """A handshake that fails."""

    own: Issued
    """The server's certificate."""
    caller: Callable[[Place], ClientFiles | None]
    says: tuple[str, ...]
    mtls: bool = False


FAILURES = {
    "not trusted": Failure(
        SERVERS.issue("server"),
        lambda place: place.caller(authority=FOREIGN),
        ("(CN=server, issued by CN=servers) is not trusted by --ca ", "ca.pem (CN=foreign). Name the file"),
    ),
    "another name": Failure(
        SERVERS.issue("server", ("db.example.com", "10.1.2.3")),
        lambda place: place.caller(),
        ("is not for 127.0.0.1: its names are db.example.com, 10.1.2.3. Call", "or give the name with --server-name"),
    ),
    "no TLS here": Failure(
        SERVERS.issue("server"), lambda place: None, ("The server speaks TLS. Name the authority", "with --ca.")
    ),
    "no certificate": Failure(
        SERVERS.issue("server"),
        lambda place: place.caller(),
        ("it takes only callers with a certificate at this address. Name yours with --certificate",),
        mtls=True,
    ),
    "a foreign certificate": Failure(
        SERVERS.issue("server"),
        lambda place: place.caller(FOREIGN.issue("mallory")),
        ("The server refused the certificate ", "caller.pem (CN=mallory, issued by CN=foreign). Get one of"),
        mtls=True,
    ),
}


@pytest.mark.parametrize("what", FAILURES)
async def test_a_handshake_that_fails_is_told_with_what_is_wrong_and_what_to_do(tmp_path: Path, what: str) -> None:
    failure = FAILURES[what]
    async with serve(tmp_path, tls_settings(tmp_path, failure.own)) as served:
        place = Place(served, tmp_path)
        address, files = (place.mtls if failure.mtls else place.address), failure.caller(place)
        async with channel(address, files) as to:
            stub: Any = HealthStub(to)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Check(HealthCheckRequest(), timeout=10)
        assert may_be_tls(str(failed.value.details()))
        told = await asyncio.to_thread(explain, address, files, WORDS)
    for part in failure.says:
        assert part in told


async def test_a_server_whose_certificate_has_expired_meanwhile_is_told_as_that(tmp_path: Path) -> None:
    old = SERVERS.issue("old", begins=-3 * DAY, ends=-DAY)
    server = grpc.aio.server()
    credentials = grpc.ssl_server_credentials([(pem_of(old.key), old.pem)])
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    caller = ClientFiles(TlsFile("--ca", SERVERS.write(tmp_path, "ca")))
    assert not await reached(address, caller)
    told = await asyncio.to_thread(explain, address, caller, WORDS)
    assert told.startswith("The server's certificate (CN=old, issued by CN=servers) expired on 20")
    assert told.endswith("Z. Renew it on the server.")
    await server.stop(0)


async def test_a_server_without_tls_and_one_that_is_fine_are_told_apart(tmp_path: Path, place: Place) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    caller = place.caller()
    async with serve(plain) as served:
        told = await asyncio.to_thread(explain, served.server.address, caller, WORDS)
        assert told.startswith("The server speaks no TLS there. Leave --ca out")
        assert not await asyncio.to_thread(explain, served.server.address, None, WORDS)
    assert not await asyncio.to_thread(explain, place.address, caller, WORDS)
    assert not await asyncio.to_thread(explain, served.server.address, caller, WORDS), "nobody is there"


@asynccontextmanager
async def executor(place: Place, own: Issued, **changes: object) -> AsyncIterator[asyncio.Task[None]]:
    """Run an executor that shows a certificate, and would be slow to try again."""
    stop = asyncio.Event()
    settings = ExecutorSettings(server=place.mtls, tls=place.caller(own), reconnect_first_s=60, reconnect_longest_s=60)
    pool: list[Host] = []
    running = asyncio.create_task(Executor(replace(settings, **changes), open_pool_of(pool)).run(stop))  # type: ignore[arg-type]
    yield running
    stop.set()
    await asyncio.wait_for(running, 10)


def open_pool_of(opened: list[Host]) -> Callable[[HostConnection], Host]:
    """Return what opens a host that is asked for nothing here."""

    def open_one(connection: HostConnection) -> Host:
        opened.append(Host(connection))
        return opened[-1]

    return open_one


async def test_an_executor_whose_certificate_was_refused_attaches_as_soon_as_it_has_another(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with executor(place, FOREIGN.issue("e1", EXECUTOR_NAMES)):
        await until(lambda: "The server refused the certificate" in caplog.text)
        assert "(CN=e1, issued by CN=foreign)" in caplog.text
        (place.at / "caller.key").write_bytes(b"half")
        EXECUTORS.issue("e1", EXECUTOR_NAMES).write(place.at, "caller")
        await until(lambda: f"attached to {place.mtls}" in caplog.text)


async def test_an_executor_outlasts_files_that_cannot_be_read_for_a_while(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own = EXECUTORS.issue("e1", EXECUTOR_NAMES)
    async with executor(place, own, reconnect_first_s=0.1, reconnect_longest_s=0.1) as running:
        await until(lambda: f"attached to {place.mtls}" in caplog.text)
        caplog.clear()
        (place.at / "caller.pem").write_bytes(b"half")
        SERVERS.issue("renewed").write(place.at, "server")
        assert await reached(place.address, place.caller())
        assert "detached" not in caplog.text, "what is attached goes on"
        assert not running.done()


async def test_the_executor_of_the_same_process_attaches_by_a_socket_that_nobody_else_can_open(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    directory = tmp_path / "private"
    assert [oct(path.stat().st_mode & 0o777) for path in (directory, directory / "executor")] == ["0o700", "0o600"]
    address, stop = place.served.server.private_address, asyncio.Event()
    settings = ExecutorSettings(server=address, secret="known to us", reconnect_first_s=60)
    assert "known to us" not in repr(settings)
    running = asyncio.create_task(Executor(settings, open_pool_of([])).run(stop))
    await until(lambda: f"attached to {address}" in caplog.text)
    stop.set()
    await asyncio.wait_for(running, 10)
