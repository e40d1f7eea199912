"""What systemd is told, by a real datagram socket: ready, well, in trouble, stopping; nothing while the loop hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from snapshotd import bootstrap, daemon
from snapshotd.__main__ import main
from snapshotd.domain.state import replace
from snapshotd.executor.service import run_executor
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.service_manager import ServiceManager
from snapshotd.settings import load
from snapshotd.store import sqlite_log
from tests.contract.logs import limit, log_pages
from tests.integration.executor_feed import Feed, Host
from tests.integration.test_parts import Failing, Running, hasty, running

__all__ = ["hasty"]

WATCHDOG_S = 0.06


class Listening:
    """The service manager's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    async def next(self) -> list[str]:
        """Return the lines of the next datagram."""
        async with asyncio.timeout(10):
            return (await asyncio.get_running_loop().sock_recv(self.socket, 4096)).decode().split("\n")

    async def until(self, *wanted: str) -> list[list[str]]:
        """Return what comes until all these lines came in one datagram; that is the last."""
        came = [await self.next()]
        while not set(wanted) <= set(came[-1]):
            came.append(await self.next())
        return came

    def waiting(self) -> list[bytes]:
        """Return what has come and was not read yet."""
        came = []
        while True:
            try:
                came.append(self.socket.recv(4096))
            except BlockingIOError:
                return came


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    heard = Listening(tmp_path / "notify")
    with heard.socket:
        yield heard


def managed(service: daemon.Service, listening: Listening) -> daemon.Service:
    """Return a daemon that tells how it is."""
    return replace(service, run_executor=None, manager=ServiceManager(listening.environ))


@pytest.mark.slow
async def test_a_daemon_is_ready_when_it_serves_feeds_the_watchdog_and_tells_that_it_stops(
    tmp_path: Path, listening: Listening
) -> None:
    async with running(tmp_path, lambda service: managed(service, listening)) as served:
        serving = f"STATUS=serving on unix:{tmp_path / 's'}"
        assert await listening.next() == ["READY=1", serving]
        assert await served.healthy()
        assert [await listening.next() for _ in range(3)] == [["WATCHDOG=1"]] * 3
        head = served.log.head_position()
        os.kill(os.getpid(), signal.SIGTERM)
        *_, last = await listening.until("STOPPING=1")
        assert last == ["STOPPING=1", "STATUS=stopping: what has begun may end"]
        assert await served.serving == 0
        assert served.log.head_position() == head


def test_a_daemon_has_the_service_manager_of_its_environment(
    tmp_path: Path, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in listening.environ.items():
        monkeypatch.setenv(name, value)
    with bootstrap.open_service(load(None, {}, {"storage.directory": str(tmp_path)})) as service:
        service.manager.ready("serving")
        assert listening.waiting() == [b"READY=1\nSTATUS=serving"]
        assert service.manager.watchdog_s == WATCHDOG_S


@pytest.mark.slow
async def test_nobody_feeds_the_watchdog_while_the_loop_hangs(tmp_path: Path, listening: Listening) -> None:
    async with running(tmp_path, lambda service: managed(service, listening)):
        await listening.until("WATCHDOG=1")
        listening.waiting()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
            nobody.bind(str(tmp_path / "nobody"))
            nobody.settimeout(4 * WATCHDOG_S)
            with pytest.raises(TimeoutError):
                nobody.recv(1)  # in the loop's thread
        assert listening.waiting() == []
        await listening.until("WATCHDOG=1")


async def filled(served: Running) -> None:
    """Append until the log is full."""
    for n in range(100):
        await served.register(f"hv{n}")


@pytest.mark.slow
async def test_a_full_disk_is_told_and_ends_no_daemon_that_answers_reads(
    tmp_path: Path, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "_PROBE_S", 0.02)
    async with running(tmp_path, lambda service: managed(service, listening)) as served:
        await listening.until("WATCHDOG=1")
        limit(served.log, log_pages(served.log))
        with pytest.raises(grpc.aio.AioRpcError):
            await filled(served)
        while not (told := await listening.next())[0].startswith("STATUS=Cannot use the event log"):
            assert told == ["WATCHDOG=1"]  # from before
        assert "there is no room for" in told[0]
        assert await listening.next() == ["WATCHDOG=1"]
        limit(served.log, 1_000_000)
        while (told := await listening.next()) == ["WATCHDOG=1"]:
            pass
        assert told == [f"STATUS=serving on unix:{tmp_path / 's'}"]


@pytest.mark.slow
async def test_nobody_feeds_the_watchdog_while_a_part_fails(tmp_path: Path, listening: Listening) -> None:
    part = Failing(None)

    def spoil(service: daemon.Service) -> daemon.Service:
        part.real = service.runtime
        return replace(managed(service, listening), runtime=part)  # type: ignore[arg-type]

    async with running(tmp_path, spoil):
        assert (await listening.next())[0] == "READY=1"
        assert (await listening.next())[0].startswith("STATUS=core: snapshotd has a defect (KeyError: 'a defect')")
        part.broken = False
        assert len(await listening.until("WATCHDOG=1")) == 2  # after the status, and not before


async def test_an_executor_is_ready_before_it_is_attached_and_tells_when_it_is(
    tmp_path: Path, listening: Listening
) -> None:
    feed = Feed()
    await feed.start()
    settings = ExecutorSettings(server=f"127.0.0.1:{feed.port}", reconnect_first_s=0.02)
    executor = asyncio.create_task(run_executor(settings, Host, ServiceManager(listening.environ)))
    assert await listening.next() == ["READY=1", f"STATUS=not attached to {settings.server} yet"]
    stream = await feed.attached()
    await listening.until(f"STATUS=attached to {settings.server}")
    await listening.until("WATCHDOG=1")
    os.kill(os.getpid(), signal.SIGTERM)
    await listening.until("STOPPING=1")
    await stream.half_closed()
    await executor
    await feed.stop()


def test_nothing_is_told_where_there_is_no_service_manager_and_what_fails_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager({}).ready("serving")
    assert ServiceManager({"WATCHDOG_USEC": "5"}).watchdog_s == 0
    other = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}
    assert ServiceManager(other).watchdog_s == 0
    assert ServiceManager(other | {"WATCHDOG_PID": str(os.getpid())}).watchdog_s == 5
    assert caplog.text == ""
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.ready("serving")
    gone.stopping("")
    assert caplog.text.count("Cannot tell the service manager READY=1") == 1
    assert "STOPPING" not in caplog.text


def test_a_program_that_does_not_start_tells_why_in_place_of_how_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Listening(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", manager.environ["NOTIFY_SOCKET"])
    (tmp_path / "snapshotd.toml").write_text("[server]\nlisten = 5\n", encoding="utf-8")
    assert main(["serve", "--config", str(tmp_path / "snapshotd.toml")]) == 2
    with manager.socket:
        (told,) = manager.waiting()
    assert told.startswith(b"STATUS=Cannot use server.listen")


def test_an_abstract_socket_is_reached_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0snapshotd-test-{os.getpid()}")
        ServiceManager({"NOTIFY_SOCKET": f"@snapshotd-test-{os.getpid()}"}).ready("a\nb " + 600 * "x")
        lines = heard.recv(4096).decode().split("\n")
    assert (lines[0], lines[1][:11], len(lines), len(lines[1])) == ("READY=1", "STATUS=a b ", 2, 507)
