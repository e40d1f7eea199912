"""`snapshotd serve`: start → recover → serve → drain → stop. Names no concrete class: bootstrap passes them in."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, Self

from snapshotd.application.hosts import Hosts
from snapshotd.application.replay import replay
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.domain.operation import Operation
from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.monitoring.endpoint import Endpoint
from snapshotd.monitoring.following import Follower
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.views import Views
from snapshotd.server.refusals import Refusals
from snapshotd.server.runtime import Runtime
from snapshotd.server.serving import GrpcServer
from snapshotd.server.sync_schedule import SyncSchedule
from snapshotd.server.troubles import Troubles
from snapshotd.server.watchdog import Watchdog
from snapshotd.service_manager import Found, ServiceManager

_log = logging.getLogger(__name__)

_GRACE_S: Final = 3.0
"""How long running calls may take to end when the server stops."""
_COLLECTED_AFTER: Final = 20_000
"""New objects after which those that refer to each other are looked for. A create makes some thousands, and leaves few
such; at Python's 700 the search took 7 % of the loop's time under load."""
_HEALTH_S: Final = 1.0
"""How often health is updated."""
_AGAIN_FIRST_S: Final = 0.5
_AGAIN_LONGEST_S: Final = 60.0
"""The pause before a part that failed is started again. It doubles while the part fails soon."""
_PROVEN_S: Final = 10.0
"""How long a part that was started again has to run until it counts as well."""


class EndedByItself(Exception):
    """A part that has no end has ended."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} ended by itself")


class Projections(Protocol):
    """The projections, which make the views of the log."""

    @property
    def views(self) -> Views:
        """The views, for reading."""

    async def run(self) -> None:
        """Follow the log until this task is cancelled."""


RunExecutor = Callable[[str, asyncio.Event], Awaitable[None]]
"""Runs an executor that attaches to an address, until the event is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of one daemon, composed but not started."""

    log: EventLog
    vms: VirtualMachines
    hosts: Hosts
    volumes: Volumes
    runtime: Runtime
    schedule: SyncSchedule
    watchdog: Watchdog
    projections: Projections
    make_server: Callable[[], GrpcServer]
    """Binds the address. Raises AddressInUse."""
    run_executor: RunExecutor | None
    installation_id: str
    refusals: Refusals
    follower: Follower | None = None
    """Follows the log for those who watch; None: nobody does."""
    endpoint: Endpoint | None = None
    """Where they read; None: nowhere."""
    parts: Troubles = field(default_factory=Troubles)
    """What is wrong with the parts of the daemon."""
    manager: ServiceManager = field(default_factory=lambda: ServiceManager({}))
    """Is told when the daemon serves and stops; its watchdog ends a daemon that hangs, and the next start goes on."""


async def serve(service: Service) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code.

    After the first signal, the daemon begins nothing new and lets the executor in this process finish what it runs. A
    second signal ends that at once. The hosts go on with what they have begun; the next start finds out the result.

    A part that fails ends no other: it is logged, shown in health and GetStatus, and started again. Only when the event
    log breaks, the daemon ends: health says NOT_SERVING, running calls get a moment to end, and LogBroken is raised.

    Raises AddressInUse, MetricsNotServed. The caller closes the log.
    """
    stop, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        (at_once if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    server = service.make_server()
    if (endpoint := service.endpoint) is not None:
        await endpoint.open()
    position = await replay(service.log, service.vms, service.hosts, service.volumes)
    # What is in memory by now is no garbage: looking through all of it again would stop every thread for long.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER)
    active = [operation for vm in service.vms.with_work() for operation in vm.active_operations]
    _log.info("read the log, which ends at %d: %d active operations", position, len(active))
    async with _Parts(service.parts) as parts:
        parts.watch("event log", service.log.until_broken())
        parts.keep("projections", service.projections.run)
        await server.start(service.projections.views.progress())
        parts.keep("core", service.runtime.run)
        parts.keep("sync schedule", service.schedule.run)
        parts.keep("watchdog", service.watchdog.run)
        parts.keep("refusals", service.refusals.run)
        parts.keep("health", lambda: _keep_health(server, service.projections.views))
        _show(parts, service, active)
        executor_stop = asyncio.Event()
        if (run_executor := service.run_executor) is not None:
            parts.keep("executor", lambda: run_executor(server.private_address, executor_stop), executor_stop)
        addresses = {"serving": server.address} | ({"mtls": server.mtls_address} if server.mtls_address else {})
        addresses |= {"metrics": endpoint.address} if endpoint else {}
        sys.stdout.write(json.dumps({**addresses, "installation_id": service.installation_id}) + "\n")
        sys.stdout.flush()
        serving = f"serving on {server.address}"
        service.manager.ready(serving)
        if service.manager.watchdog_s:
            parts.keep("watchdog of the service", lambda: service.manager.watch(lambda: _look(service, serving)))
        parts.watch("event log file", _verify(service.log))
        try:
            await parts.until(stop)
        except Exception:
            await server.stop(_GRACE_S)
            raise
        _log.info("stopping: nothing new begins; a second signal ends everything at once")
        service.manager.stopping("stopping: what has begun may end")
        server.refuse_changes()
        executor_stop.set()
        await parts.ended("executor", at_once)
        await server.stop(0 if at_once.is_set() else _GRACE_S)
        if service.follower is not None:
            await service.follower.catch_up()
    return 0


def _show(parts: _Parts, service: Service, active: Sequence[Operation]) -> None:
    """Run what shows the daemon to those who watch it, from the operations that are active at the log's end."""
    if (follower := service.follower) is not None:
        follower.begin(active)
        parts.keep("follower", follower.run)
    if (endpoint := service.endpoint) is not None:
        parts.keep("metrics", endpoint.run)


async def _verify(log: EventLog) -> NoReturn:
    """Read the whole log once, beside everything else. If something is wrong with it, it breaks."""
    await log.verify()
    await asyncio.Event().wait()
    raise AssertionError


async def _look(service: Service, serving: str) -> Found:
    """Return how the daemon is. That this returns shows that the loop turns, and that the log's writer answers.

    Only a part that fails needs another start. A disk that is full does not: reads are answered, and the log is tried
    each second. Nor does what concerns one VM or one host.
    """
    if service.parts.concern_all():
        texts = [f"{subject}: {trouble.message}" for subject, trouble in service.parts.all()]
        return Found("; ".join(texts), needs_start=True)
    try:
        await service.log.refuse_unwritable()
    except LogUnavailable as error:
        return Found(error.message())
    return Found(serving)


async def _keep_health(server: GrpcServer, views: Views) -> None:
    while True:
        await asyncio.sleep(_HEALTH_S)
        server.show(views.progress())


class _Parts:
    """The tasks of a daemon. One that fails takes none of the others along.

    Args:
        troubles: is told of each that fails.
    """

    def __init__(self, troubles: Troubles) -> None:
        self._troubles = troubles
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def watch(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run what ends the daemon when it fails."""
        self._tasks[name] = asyncio.create_task(work, name=name)

    def keep(self, name: str, work: Callable[[], Awaitable[None]], stop: asyncio.Event | None = None) -> None:
        """Run a part. Start it again whenever it fails, or ends before it was told to by `stop`."""
        self._tasks[name] = asyncio.create_task(self._kept(name, work, stop or asyncio.Event()), name=name)

    async def _kept(self, name: str, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        loop, pause_s = asyncio.get_running_loop(), _AGAIN_FIRST_S
        while True:
            proven = loop.call_later(_PROVEN_S, self._troubles.ended, name)
            began_s, failure = loop.time(), None
            try:
                await work()
            except Exception as error:  # noqa: BLE001  (whatever it is, it is logged and shown)
                failure = error
            finally:
                proven.cancel()
            if stop.is_set() and failure is None:
                return
            failure = failure or EndedByItself(name)
            if self._troubles.failed(name, failure, concerns_all=True):
                _log.error("%s failed; it is started again", name, exc_info=failure)
            if stop.is_set():
                return
            pause_s = _AGAIN_FIRST_S if loop.time() - began_s > _PROVEN_S else min(2 * pause_s, _AGAIN_LONGEST_S)
            await asyncio.sleep(pause_s)

    async def until(self, stop: asyncio.Event) -> None:
        """Wait until told to stop. Raises the error of a watched task."""
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopping, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks.values():
                if task.done():
                    task.result()
        finally:
            stopping.cancel()

    async def ended(self, name: str, at_once: asyncio.Event) -> None:
        """Wait until a part has ended, if there is one of that name. Cut it off when `at_once` is set."""
        if name not in self._tasks:
            return
        cut = asyncio.create_task(at_once.wait())
        await asyncio.wait([self._tasks[name], cut], return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
