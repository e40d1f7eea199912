"""A few kept sessions per host, behind an asyncio call. pywinrm blocks, so each session runs in a thread of the pool.

    run() ─► a place (FIFO) ─► a thread ─► the session used last, or a new one ─► HostAnswer | NoAnswer

A host is signed in to once at a time, and not again with a credential that it has refused (sign_in.py).
A session that fails is closed, and replaced when the next command needs one. An idle session is closed after a while.
The pool never repeats a command that may have been sent, only one that a stale session certainly did not take. Once it
is closing, the pool starts nothing more: commands that wait for a session are told that nothing was sent.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, HostConnection, NoAnswer
from snapshotd.hyperv.allow_list import AllowList
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.no_answer import ConnectionLost, DeadlineExceeded, NoHostAnswer, StaleSession
from snapshotd.hyperv.session import HostSession, KeptScript
from snapshotd.hyperv.sign_in import SignIns
from snapshotd.hyperv.winrs import WinRsLimits, open_winrs

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoolSettings:
    """How many sessions a host gets, and how long they are kept."""

    sessions_per_host: int = 4
    """A host allows a user 30 shells [documented]."""
    idle_close_s: float = 120.0
    """How long an unused session is kept; well below `WinRsLimits.shell_idle_s`."""
    start_s: float = 60.0
    """How long a start may take, from connecting to READY."""
    sign_in_pause_s: float = 1800.0
    """How long a credential that a host refused is not tried again by itself."""
    limits: WinRsLimits = field(default_factory=WinRsLimits)


class HostPool:
    """The sessions of one host.

    Args:
        host: its resource name, for the log.
        new_session: makes a session that is not started yet. Called in the pool's threads. Raises NoHostAnswer.
        settings: sizes and times.
        admit: raises NoHostAnswer if a command must not be sent to the host. Called in the threads, for each command.
    """

    def __init__(
        self,
        host: str,
        new_session: Callable[[], HostSession],
        settings: PoolSettings,
        admit: Callable[[HostCommand], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._admit = admit
        self._new_session = new_session
        self._settings = settings
        self._places = asyncio.Semaphore(settings.sessions_per_host)
        self._threads = ThreadPoolExecutor(settings.sessions_per_host, thread_name_prefix=f"winrm-{host}")
        self._lock = threading.Lock()
        self._free: list[tuple[HostSession, float]] = []
        self._busy: set[HostSession] = set()
        self._closed = False
        self._reaper: asyncio.Task[None] | None = None
        self._unfinished = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, command: HostCommand, timeout_s: float) -> HostAnswer | NoAnswer:
        """Run one command and return the answer within about `timeout_s` seconds. End its script if it takes longer.

        Cancelling the caller does not stop the command. Its place stays taken until it has ended.
        """
        assert not self._closed, "a closed pool must not be used"
        came_s = time.monotonic()
        deadline = came_s + timeout_s
        self._unfinished += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError:
            self._finish()
            text = "all sessions of the host were busy until the deadline; nothing was sent."
            return DeadlineExceeded(text).message()
        except asyncio.CancelledError:
            self._finish()
            raise
        try:
            self._check_open()
        except ConnectionLost as closed:
            # The pool may have been closed meanwhile; then its threads are gone.
            self._places.release()
            self._finish()
            return closed.message()
        loop = asyncio.get_running_loop()
        if self._reaper is None:
            self._reaper = loop.create_task(self._close_idle(), name=f"idle sessions of {self._host}")
        running = loop.run_in_executor(self._threads, self._run, command, came_s if command.asked else None, deadline)
        running.add_done_callback(self._give_place_back)
        return await asyncio.shield(running)

    @property
    def sessions(self) -> int:
        """How many sessions are open, those that are being started included."""
        with self._lock:
            return len(self._free) + len(self._busy)

    async def close(self, timeout_s: float) -> None:
        """Close every session. Wait for running commands, up to `timeout_s` seconds, then cut them off.

        A command that has no session yet gets none any more.

        May be called again, with less time, while an earlier call waits.
        """
        with self._lock:
            self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.wait([self._reaper])
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            with self._lock:
                busy = list(self._busy)
            _log.warning("%s: %d sessions cut off while a command was running", self._host, len(busy))
            for session in busy:
                session.abort()
        with self._lock:
            free, self._free = self._free, []
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, session.close) for session, _ in free))
        await loop.run_in_executor(None, self._threads.shutdown)

    def _give_place_back(self, _: asyncio.Future[HostAnswer | NoAnswer]) -> None:
        self._places.release()
        self._finish()

    def _finish(self) -> None:
        self._unfinished -= 1
        if not self._unfinished:
            self._idle.set()

    def _run(self, command: HostCommand, asked_s: float | None, deadline: float) -> HostAnswer | NoAnswer:
        """Run one command in a thread, on a kept session or on a new one."""
        try:
            self._admit(command)
            while True:
                session = self._take(deadline, asked_s)
                try:
                    return self._run_on(session, command, deadline)
                except StaleSession as error:
                    # Each stale session leaves the pool, so the loop ends with a new session at the latest.
                    _log.info("%s: a kept session was gone (%s); nothing was sent on it", self._host, error)
        except NoHostAnswer as error:
            _log.warning("%s: %s: %s", self._host, NoAnswer.Reason.Name(error.reason), error)
            return error.message()

    def _run_on(self, session: HostSession, command: HostCommand, deadline: float) -> HostAnswer:
        try:
            if time.monotonic() >= deadline:
                raise DeadlineExceeded("the deadline passed before a session was ready; nothing was sent.")
            return session.run(command, deadline)
        finally:
            self._put(session)

    def _take(self, deadline: float, asked_s: float | None) -> HostSession:
        """Return the session that was used last, or a new one. Raises NoHostAnswer."""
        with self._lock:
            self._check_open()
            if self._free:
                session, _ = self._free.pop()
                self._busy.add(session)
                return session
        session = self._new_session()
        with self._lock:
            # Checked again: `close` cuts off busy sessions, and this one was not busy yet.
            self._check_open()
            self._busy.add(session)
        started = time.monotonic()
        try:
            session.start(min(deadline, started + self._settings.start_s), asked_s=asked_s)
        except BaseException:
            self._put(session)
            raise
        _log.info("%s: session started in %.0f ms", self._host, (time.monotonic() - started) * 1000)
        return session

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionLost("this executor is closing its sessions on the host; nothing was sent.")

    def _put(self, session: HostSession) -> None:
        """Keep a session that is still usable; close any other one."""
        with self._lock:
            self._busy.discard(session)
            if session.usable and not self._closed:
                self._free.append((session, time.monotonic()))
                return
        session.close()

    async def _close_idle(self) -> None:
        """Close idle sessions, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.idle_close_s / 4)
            oldest = time.monotonic() - self._settings.idle_close_s
            # One at a time, so that `close` still finds all the others.
            while (session := self._take_idle(oldest)) is not None:
                await loop.run_in_executor(self._threads, session.close)

    def _take_idle(self, oldest: float) -> HostSession | None:
        """Return a session that was last used before a time, or None."""
        with self._lock:
            for n, (session, used_at) in enumerate(self._free):
                if used_at < oldest:
                    del self._free[n]
                    return session
        return None


class HostPools:
    """Makes the pools of hosts.

    Args:
        credentials: finds the secrets; asked again for every session.
        script: the script of the kept process.
        settings: sizes and times.
        allowed: what this executor may do; None: all that it is asked for.
    """

    def __init__(
        self, credentials: Credentials, script: KeptScript, settings: PoolSettings, allowed: AllowList | None = None
    ) -> None:
        self._allowed = allowed
        self._credentials = credentials
        self._script = script
        self._settings = settings
        self._sign_ins = SignIns(settings.sign_in_pause_s)

    def open(self, connection: HostConnection) -> HostPool:
        """Return the pool of a host. It connects when the first command comes, so nothing is refused here."""

        def new_session() -> HostSession:
            credential = self._credentials.find(connection.credential)
            transport = open_winrs(connection, credential, self._settings.limits)
            return HostSession(transport, self._script, self._sign_ins.of(connection, credential))

        def admit(command: HostCommand) -> None:
            if self._allowed is not None:
                self._allowed.check(connection, command.journal_directory or connection.journal_directory)

        return HostPool(connection.host, new_session, self._settings, admit)
