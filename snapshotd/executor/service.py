"""The life of an executor: attach, work, reconnect, and at the end finish running commands and close all sessions."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import uuid
from collections.abc import Callable
from typing import Final

from snapshotd.api.v1.executor_pb2 import Hello
from snapshotd.api.v1.executor_pb2_grpc import ExecutorServiceStub
from snapshotd.channels import SECRET_METADATA
from snapshotd.domain.ids import executor_name
from snapshotd.executor.attach import Attachment, Detached
from snapshotd.executor.backoff import Backoff
from snapshotd.executor.channel import Opened, changed, open_channel
from snapshotd.executor.clock import Clock
from snapshotd.executor.outbox import Outbox
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.executor.work import OpenPool, Work
from snapshotd.logs import Seldom, about
from snapshotd.monitoring.endpoint import Endpoint
from snapshotd.monitoring.meters import ExecutorMeters
from snapshotd.monitoring.traces import NO_TRACES, Traces
from snapshotd.service_manager import ServiceManager
from snapshotd.tls import ClientContent, TlsFileInvalid
from snapshotd.tls_problems import Words, explain, may_be_tls

_log = logging.getLogger(__name__)

OpenChannel = Callable[[ExecutorSettings], Opened]

_WORDS: Final = Words("executor.ca", "executor.certificate and executor.key")
_LOOK_S: Final = 0.25
"""How often the files of TLS are looked at before the next attempt."""
_COMPLAINT_S: Final = 60.0
"""The least time between two log lines about attempts that failed."""


class EndedByItself(Exception):
    """The executor no longer attaches, and nobody has asked for that: a defect. Another start helps."""


class Executor:
    """One incarnation of an executor.

    Args:
        settings: see ExecutorSettings.
        open_pool: makes the pool of a host, and resolves its credentials.
        channel: opens a channel to the server.
        clock: the source of the time.
        tell: is told in one line how it is.
        meters: counts what it does; None: nobody looks.
        traces: takes the spans of its commands.
    """

    def __init__(
        self,
        settings: ExecutorSettings,
        open_pool: OpenPool,
        channel: OpenChannel = open_channel,
        clock: Clock | None = None,
        tell: Callable[[str], None] = lambda _: None,
        *,
        meters: ExecutorMeters | None = None,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._clock = clock or Clock()
        self._tell = tell
        self._outbox = Outbox(settings.outbox_capacity, settings.resend_s, self._clock.monotonic)
        self._meters = meters or ExecutorMeters()
        self._work = Work(open_pool, self._outbox, settings, self._clock, self._meters, traces)
        self._meters.read_sessions(self._work.sessions)
        self._tls: ClientContent | None = None
        """The files of TLS, as they were at the last attempt."""
        self._attempts = 0
        """How many there were to attach, since it was attached."""
        self._complaints = self._seldom()
        self._finishing = asyncio.Event()
        self._ended = False
        """It no longer attaches. Cancelling the task is not enough: a stream that ends at that moment hides it."""
        self.executor_id = str(uuid.uuid4())
        """New for each incarnation."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Then finish the running commands, deliver their outcomes, and close all sessions.

        Raises ServerAddressRefused at once if the server is on another machine and there is no TLS, AttachRefused as
        soon as the server has refused this executor for good, and EndedByItself if it no longer attaches, for a defect.
        """
        attached = asyncio.create_task(self._stay_attached(), name="attached")
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        try:
            await asyncio.wait([attached, stopping], return_when=asyncio.FIRST_COMPLETED)
            if attached.cancelled():
                raise EndedByItself("the task that stays attached was cancelled, and nobody asked for that")
            # The heartbeats go on meanwhile: an executor keeps its lease until its last command has ended.
            await self._work.drain(0 if attached.done() else self._settings.drain_s)
            await self._finish(attached)
        finally:
            stopping.cancel()
            self._ended = True
            attached.cancel()
            await asyncio.wait([attached, stopping])
            await self._work.close(0)
            if len(self._outbox):
                _log.warning("stopped with %d outcomes not delivered; the server will ask the hosts", len(self._outbox))
        if not attached.cancelled():
            attached.result()
        _log.info("executor %s stopped", executor_name(self.executor_id))

    async def _finish(self, attached: asyncio.Task[None]) -> None:
        """Deliver the outcomes that are left, and wait for the server to end the stream."""
        self._finishing.set()
        _, late = await asyncio.wait([attached], timeout=self._settings.flush_s)
        if late:
            _log.info("the server did not end the stream in time")

    async def _stay_attached(self) -> None:
        first_s, longest_s = self._settings.reconnect_first_s, self._settings.reconnect_longest_s
        backoff = Backoff(first_s, longest_s, random.SystemRandom().random)
        while not (self._finishing.is_set() and not len(self._outbox)):
            reason = await self._attach_once(backoff)
            if self._ended:
                return
            if self._finishing.is_set():
                await asyncio.sleep(first_s if len(self._outbox) else 0)
                continue
            delay_s = backoff.next_s()
            self._complain(reason, delay_s)
            self._tell(reason)
            await self._pause(delay_s)

    def _complain(self, reason: str, delay_s: float) -> None:
        """Log why it is not attached: each end of an attachment, the first attempt that fails, and one a minute."""
        if self._attempts and self._complaints.due() is None:
            return
        tried = f", {self._attempts} attempts so far" if self._attempts > 1 else ""
        text = "%s%s; again in %.1f s, or when the files of TLS change"
        _log.warning(text, reason, tried, delay_s, extra=about(executor=executor_name(self.executor_id)))

    def _seldom(self) -> Seldom:
        return Seldom(_COMPLAINT_S, self._clock.monotonic)

    async def _pause(self, delay_s: float) -> None:
        """Wait, but no longer than until the executor is finishing, or has new files of TLS to try."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + delay_s
        while (left_s := end_s - loop.time()) > 0 and not changed(self._settings, self._tls):
            try:
                await asyncio.wait_for(self._finishing.wait(), min(left_s, _LOOK_S))
            except TimeoutError:
                continue
            return

    async def _attach_once(self, backoff: Backoff) -> str:
        """Attach and stay until the stream ends. Return what happened, and why. Raises AttachRefused."""
        settings, happened = self._settings, "not attached to"
        self._attempts += 1
        try:
            opened = self._channel(settings)
        except TlsFileInvalid as error:
            return f"{happened} {settings.server} ({str(error).removesuffix('.')})"
        self._tls = opened.tls
        metadata = ((SECRET_METADATA, settings.secret),) if settings.secret else ()
        async with opened.channel as channel:
            call = ExecutorServiceStub(channel).Attach(metadata=metadata)
            attachment = Attachment(call, self._work, self._outbox, settings, self._clock, self._finishing)
            try:
                hello = Hello(executor_id=self.executor_id, hosts=settings.hosts, version=settings.version)
                welcome = await attachment.sign_in(hello)
                name = executor_name(self.executor_id)
                _log.info("executor %s attached to %s", name, settings.server, extra=about(executor=name))
                happened = "detached from"
                self._attempts, self._complaints = 0, self._seldom()
                self._tell(f"attached to {settings.server}")
                self._meters.attached(is_attached=True)
                backoff.reset()
                await attachment.serve(welcome)
            except Detached as reason:
                return f"{happened} {settings.server} ({await self._explained(str(reason))})"
            finally:
                self._meters.attached(is_attached=False)
                await attachment.end()
                if not attachment.read_to_the_end:
                    self._outbox.broke()
        raise AssertionError("an attachment ends with its reason")

    async def _explained(self, reason: str) -> str:
        """Return why an attachment failed: of TLS in more words than gRPC has."""
        if not may_be_tls(reason) or self._settings.server.startswith("unix:"):
            return reason
        told = await asyncio.to_thread(explain, self._settings.server, self._settings.tls, _WORDS)
        return told.removesuffix(".") or reason


async def run_executor(
    settings: ExecutorSettings,
    open_pool: OpenPool,
    manager: ServiceManager,
    meters: ExecutorMeters | None = None,
    endpoint: Endpoint | None = None,
    *,
    traces: Traces = NO_TRACES,
) -> None:
    """Run an executor as a process until SIGTERM or SIGINT. A second signal cuts off what still runs.

    The service manager is told at once that it is ready, since it waits for a server that is away, and how it is then.
    Raises as `Executor.run`, and MetricsNotServed if the endpoint's address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    beside: list[asyncio.Task[None]] = []
    if endpoint is not None:
        await endpoint.open()
        _log.info("metrics are at http://%s/metrics", endpoint.address)
        beside.append(loop.create_task(endpoint.run(), name="metrics"))
    own = Executor(settings, open_pool, tell=manager.status, meters=meters, traces=traces)
    running = loop.create_task(own.run(stop), name="executor")

    def told() -> None:
        if stop.is_set():
            running.cancel()
        else:
            manager.stopping("stopping: what has begun may end")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    manager.ready(f"not attached to {settings.server} yet")
    if manager.watchdog_s:
        beside.append(loop.create_task(manager.watch(), name="watchdog of the service"))
    await asyncio.wait([running])
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    if not running.cancelled():
        running.result()
