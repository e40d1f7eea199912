"""A pool that is being closed starts nothing more, whatever its sessions say; nor is one that was cut off replaced."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, NoAnswer
from snapshotd.hyperv.no_answer import ConnectionLost
from snapshotd.hyperv.pool import HostPool, PoolSettings
from snapshotd.hyperv.session import HostSession, KeptScript
from snapshotd.hyperv.transport import Broken, NothingSent, Output

SCRIPT = KeptScript("powershell.exe", (), b"c2NyaXB0", b"READY 42")
DONE = base64.b64encode(b'{"protocol": 1, "verdict": "DONE"}') + b"\r\n"


class Host:
    """A host without a wire: `carry` takes each command's line, and returns what the script writes."""

    def __init__(self, carry: Callable[[Process], bytes]) -> None:
        self.carry = carry
        self.started: list[Process] = []
        self.reached = threading.Event()
        """A command's line is being written."""
        self.closing = threading.Event()
        """A session is being closed."""
        self.may_close = threading.Event()
        self.may_close.set()

    def pool(self, sessions: int = 1, idle_close_s: float = 60.0) -> HostPool:
        """Open a pool of sessions with this host."""
        settings = PoolSettings(sessions_per_host=sessions, idle_close_s=idle_close_s)
        return HostPool("hosts/hv01", lambda: HostSession(Process(self), SCRIPT), settings)


class Process:
    """One kept process of the host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.stdout = b""
        self.lines = 0
        self.cut = threading.Event()
        self.closed = False

    def open(self, deadline: float) -> None:
        if self.cut.is_set():
            raise NothingSent("the connection was cut")

    def start(self, executable: str, arguments: tuple[str, ...], deadline: float) -> None:
        self.host.started.append(self)

    def write(self, data: bytes, deadline: float) -> None:
        self.lines += 1
        if self.lines == 1:
            self.stdout += SCRIPT.ready + b"\r\n"
            return
        self.host.reached.set()
        self.stdout += self.host.carry(self)

    def read(self, wait_s: float) -> Output:
        written, self.stdout = self.stdout, b""
        return Output(written, b"", None)

    def terminate(self) -> None:
        raise AssertionError("nothing takes so long here")

    def close(self) -> None:
        self.host.closing.set()
        assert self.host.may_close.wait(10)
        self.closed = True

    def abort(self) -> None:
        self.cut.set()


async def why_not(running: asyncio.Task[HostAnswer | NoAnswer]) -> str:
    """Wait for a command that is to have no answer; say why."""
    result = await running
    assert isinstance(result, NoAnswer), result
    return NoAnswer.Reason.Name(result.reason)


async def reached(host: Host) -> None:
    assert await asyncio.to_thread(host.reached.wait, 10)


async def test_a_command_that_was_cut_off_before_a_byte_had_left_is_not_carried_by_another_session() -> None:
    def write_until_it_is_cut(process: Process) -> bytes:
        assert process.cut.wait(10)
        raise NothingSent("the connection was cut")

    host = Host(write_until_it_is_cut)
    pool = host.pool()
    running = asyncio.create_task(pool.run(HostCommand(), 60))
    await reached(host)
    await pool.close(0)
    assert await why_not(running) == "CONNECTION_LOST"
    assert len(host.started) == 1


async def test_a_session_that_turns_out_to_be_gone_while_the_pool_closes_is_not_replaced() -> None:
    gone = threading.Event()

    def find_it_gone(process: Process) -> bytes:
        assert gone.wait(10)
        raise NothingSent("the host knew no such shell")

    host = Host(find_it_gone)
    pool = host.pool()
    running = asyncio.create_task(pool.run(HostCommand(), 60))
    await reached(host)
    closing = asyncio.create_task(pool.close(60))
    await asyncio.sleep(0)
    gone.set()
    await closing
    assert await why_not(running) == "CONNECTION_LOST"
    assert len(host.started) == 1


async def test_a_command_that_waits_for_a_session_when_the_pool_is_closed_gets_none() -> None:
    ended = threading.Event()

    def run_until_it_ends(process: Process) -> bytes:
        assert ended.wait(10)
        return DONE

    host = Host(run_until_it_ends)
    pool = host.pool()
    runs = asyncio.create_task(pool.run(HostCommand(), 60))
    await reached(host)
    waits = asyncio.create_task(pool.run(HostCommand(), 60))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close(60))
    await asyncio.sleep(0)
    ended.set()
    await closing
    assert isinstance(await runs, HostAnswer), "what runs is waited for"
    assert await why_not(waits) == "CONNECTION_LOST"
    assert (len(host.started), host.started[0].lines) == (1, 2)


async def test_a_command_that_waits_for_a_session_when_all_are_cut_off_is_answered_as_well() -> None:
    def write_until_it_is_cut(process: Process) -> bytes:
        assert process.cut.wait(10)
        raise Broken("the connection was cut")

    host = Host(write_until_it_is_cut)
    pool = host.pool()
    runs = asyncio.create_task(pool.run(HostCommand(), 60))
    await reached(host)
    waits = asyncio.create_task(pool.run(HostCommand(), 60))
    await asyncio.sleep(0)
    await pool.close(0)
    assert (await why_not(runs), await why_not(waits)) == ("CONNECTION_LOST", "CONNECTION_LOST")
    assert (len(host.started), host.started[0].lines) == (1, 2)


async def test_sessions_that_are_being_closed_for_being_idle_are_all_closed_when_the_pool_is() -> None:
    both = threading.Barrier(2)

    def run_beside_another(process: Process) -> bytes:
        both.wait(10)
        return DONE

    host = Host(run_beside_another)
    pool = host.pool(sessions=2, idle_close_s=0.2)
    await asyncio.gather(*(pool.run(HostCommand(), 60) for _ in range(2)))
    pool._free = [(session, 0.0) for session, _ in pool._free]  # both for so long that they go in one round
    host.may_close.clear()
    assert await asyncio.to_thread(host.closing.wait, 10)
    closing = asyncio.create_task(pool.close(60))
    await asyncio.sleep(0)
    host.may_close.set()
    await closing
    assert [process.closed for process in host.started] == [True, True]


def write_on_a_cut_connection(process: Process) -> bytes:
    assert process.cut.is_set()
    raise NothingSent("the connection was cut")


def test_a_session_that_was_cut_off_does_not_call_itself_stale() -> None:
    session = HostSession(Process(Host(write_on_a_cut_connection)), SCRIPT)
    deadline = time.monotonic() + 60
    session.start(deadline)
    session.abort()
    with pytest.raises(ConnectionLost, match="before a command was sent"):
        session.run(HostCommand(), deadline)


def test_a_session_that_is_cut_off_while_it_starts_does_not_call_its_host_unreachable() -> None:
    session = HostSession(Process(Host(write_on_a_cut_connection)), SCRIPT)
    session.abort()
    with pytest.raises(ConnectionLost, match="before a command was sent"):
        session.start(time.monotonic() + 60)
