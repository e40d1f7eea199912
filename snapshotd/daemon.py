"""`snapshotd serve`: start → recover → serve → drain → stop. Names no concrete class: bootstrap passes them in."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from snapshotd.application.hosts import Hosts
from snapshotd.application.replay import replay
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.views import Views
from snapshotd.server.runtime import Runtime
from snapshotd.server.serving import GrpcServer
from snapshotd.server.sync_schedule import SyncSchedule

_log = logging.getLogger(__name__)

_GRACE_S: Final = 3.0
"""How long running calls may take to end when the server stops."""
_HEALTH_S: Final = 1.0
"""How often health is updated."""


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
    runtime: Runtime
    schedule: SyncSchedule
    projections: Projections
    make_server: Callable[[], GrpcServer]
    """Binds the address. Raises AddressInUse."""
    run_executor: RunExecutor | None
    installation_id: str


async def serve(service: Service) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code.

    After the first signal, the daemon begins nothing new and lets the executor in this process finish what it runs. A
    second signal ends that at once. The hosts go on with what they have begun; the next start finds out the result.

    When the event log breaks, health says NOT_SERVING, running calls get a moment to end, and LogBroken is raised.

    Raises AddressInUse, and any error that ended a part. The caller closes the log.
    """
    stop, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        (at_once if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    server = service.make_server()
    position = await replay(service.log, service.vms, service.hosts)
    active = sum(len(vm.active_operations) for vm in service.vms.registered())
    _log.info("replayed the log up to %d: %d active operations", position, active)
    async with _Parts() as parts:
        parts.add("event log", service.log.until_broken())
        parts.add("projections", service.projections.run())
        await server.start(service.projections.views.progress())
        parts.add("core", service.runtime.run())
        parts.add("sync schedule", service.schedule.run())
        parts.add("health", _keep_health(server, service.projections.views))
        executor_stop = asyncio.Event()
        if service.run_executor is not None:
            parts.add("executor", _as_coroutine(service.run_executor(server.address, executor_stop)))
        sys.stdout.write(json.dumps({"serving": server.address, "installation_id": service.installation_id}) + "\n")
        sys.stdout.flush()
        try:
            await parts.until(stop)
        except Exception:
            await server.stop(_GRACE_S)
            raise
        _log.info("stopping: nothing new begins; a second signal ends everything at once")
        server.refuse_changes()
        executor_stop.set()
        await parts.ended("executor", at_once)
        await server.stop(0 if at_once.is_set() else _GRACE_S)
    return 0


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _keep_health(server: GrpcServer, views: Views) -> None:
    while True:
        await asyncio.sleep(_HEALTH_S)
        await server.show(views.progress())


class _Parts:
    """The tasks of a daemon. One that ends by itself ends them all, with its error."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def add(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a part."""
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def until(self, stop: asyncio.Event) -> None:
        """Wait until told to stop. Raises the error that ended a part."""
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopping, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            for name, task in self._tasks.items():
                if task.done():
                    task.result()
                    raise RuntimeError(f"{name} ended by itself")
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
