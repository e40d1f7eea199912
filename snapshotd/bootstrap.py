"""The composition root of the service: the only module that names every concrete class of it. Decides nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from projections.projections import SCRIPT, Projections
from projections.rebuild import rebuild
from projections.store import refuse_lost_log
from snapshotd import daemon
from snapshotd.application.hosts import Hosts
from snapshotd.application.replay import fold_all
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.client.render import counted
from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.domain.policy import Policy
from snapshotd.executor.service import Executor
from snapshotd.executor.work import OpenPool
from snapshotd.executor_from_settings import check_credentials, endpoint_of, executor_settings, open_pool, open_traces
from snapshotd.from_settings import call_limits, listen_of, policy_of, sign_in_of
from snapshotd.monitoring.endpoint import Scrapes
from snapshotd.monitoring.following import Follower
from snapshotd.monitoring.meters import ExecutorMeters, Meters
from snapshotd.monitoring.traces import NO_TRACES, Traces
from snapshotd.ports.event_log import EventLog
from snapshotd.server.backend import Backend
from snapshotd.server.crowd import Crowd
from snapshotd.server.executor_service import LEASE_TTL_S, ExecutorService
from snapshotd.server.gate import Gate
from snapshotd.server.gauges import Gauges
from snapshotd.server.refusals import Refusals
from snapshotd.server.runtime import Runtime
from snapshotd.server.serving import GrpcServer
from snapshotd.server.sync import HostReports
from snapshotd.server.sync_schedule import SyncSchedule
from snapshotd.server.troubles import Troubles
from snapshotd.server.volume_claims import VolumeClaims
from snapshotd.server.watchdog import Watchdog
from snapshotd.service_manager import ServiceManager
from snapshotd.settings import Settings, SettingsInvalid
from snapshotd.store.folding import fold_shape
from snapshotd.store.sqlite_log import SqliteEventLog
from snapshotd.system import RandomIds, SystemClock, raise_file_limit

_log = logging.getLogger(__name__)


_OWNER_ONLY = 0o077
"""The umask: only their owner may read log and views, even in a directory that is open to others."""


@contextmanager
def open_service(settings: Settings) -> Iterator[daemon.Service]:
    """Open the storage, and yield a daemon composed on it.

    Raises LogLost, LogInUse, LogForeign, StorageUnusable, ViewsNotMade, OSError.
    """
    directory, traces = settings.storage, open_traces(settings, "snapshotd")
    with _named(settings, "storage.directory"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = _open_log(directory)
    with log:
        projections = Projections(log, directory / "views.db")
        try:
            yield compose(settings, log, projections, log.installation_id, open_pool(settings), traces)
        finally:
            projections.close()
            traces.close()


def _open_log(directory: Path) -> SqliteEventLog:
    """Open the log, or make a new one. Raises LogLost if there was one before, LogInUse and LogForeign."""
    path = directory / "events.db"
    if not path.exists() or path.stat().st_size == 0:
        # Before the log is made, so that the operator finds the directory as it was.
        refuse_lost_log(directory / "views.db", 0, SCRIPT)
    return SqliteEventLog(path)


def _open_present_log(settings: Settings, directory: Path) -> SqliteEventLog:
    """Open an existing log. Raises as `_open_log` does, and SettingsInvalid if there is none."""
    with _named(settings, "storage.directory"):
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "no such directory", str(directory))
        if not (directory / "events.db").exists():
            refuse_lost_log(directory / "views.db", 0, SCRIPT)
            raise FileNotFoundError(errno.ENOENT, "there is no event log to check", str(directory / "events.db"))
        return _open_log(directory)


@contextmanager
def _named(settings: Settings, name: str) -> Iterator[None]:
    """Raise SettingsInvalid, with the name of the setting, instead of an OSError."""
    try:
        yield
    except OSError as error:
        where = error.filename or settings.path(name)
        said = (error.strerror or str(error)).lower()
        text = f"Cannot use {name} from {settings.sources[name]}: {where}: {said}. Correct that, or set another."
        raise SettingsInvalid(text) from error


def compose(
    settings: Settings,
    log: EventLog,
    projections: Projections,
    installation_id: str,
    pool: OpenPool,
    traces: Traces = NO_TRACES,
) -> daemon.Service:
    """Return a composed daemon.

    Args:
        settings: all settings.
        log: the event log.
        projections: the projections of that log.
        installation_id: our name in the journals on the hosts.
        pool: opens the sessions of a host, for the executor in this process.
        traces: takes the spans.
    """
    clock, ids, policy = SystemClock(), RandomIds(), policy_of(settings)
    shape = fold_shape()
    vms, hosts = VirtualMachines(log, clock, ids, policy, shape), Hosts(log, clock, ids, shape)
    volumes = Volumes(log, clock, ids, vms)
    dispatcher = Dispatcher(policy, LEASE_TTL_S, settings.count("executor.sessions_per_host"), ids.fresh()[:8])
    runtime = Runtime(vms, dispatcher, policy, clock, ids, volumes, traces=traces)
    reports = HostReports(runtime, vms, hosts)
    parts, meters = Troubles(), Meters()
    secret = secrets.token_urlsafe(32)  # made at each start, and known to this process only
    schedule = SyncSchedule(reports, hosts, runtime, settings.seconds("hosts.sync_interval"), troubles=parts)
    refusals = Refusals(log, clock, ids, told=meters.callers.refused)
    executors = ExecutorService(runtime, hosts, schedule, installation_id, clock, refusals)
    listen = listen_of(settings)
    gate = Gate(sign_in_of(settings, secret, listen.users), runtime.load, Crowd(call_limits(settings)), refusals)
    executor = _own_executor(settings, secret, pool, meters, traces) if settings.switch("executor.in_process") else None
    backend = Backend(
        runtime=runtime,
        vms=vms,
        hosts=hosts,
        reports=reports,
        claims=VolumeClaims(runtime, vms, volumes, reports),
        views=projections.views,
        log=log,
        policy=policy,
        clock=clock,
        ids=ids,
        version=version("snapshotd"),
        installation_id=installation_id,
        started_at=clock.now(),
        parts=parts,
        meters=meters,
    )
    scrapes = Scrapes(meters.registry, Gauges(backend, settings.storage).read)
    endpoint = endpoint_of(settings, scrapes, backend.at_work)
    return daemon.Service(
        log=log,
        vms=vms,
        hosts=hosts,
        volumes=volumes,
        runtime=runtime,
        schedule=schedule,
        watchdog=Watchdog(backend),
        projections=projections,
        make_server=lambda: GrpcServer(backend, executors, gate, listen),
        run_executor=executor,
        follower=Follower(log, [meters.take, traces.take]) if endpoint is not None or traces.enabled else None,
        endpoint=endpoint,
        installation_id=installation_id,
        refusals=refusals,
        parts=parts,
        manager=ServiceManager(os.environ),
    )


def _own_executor(
    settings: Settings, secret: str, pool: OpenPool, meters: Meters, traces: Traces
) -> daemon.RunExecutor:
    """Return what runs the executor in this process, at the server's address, until it is told to stop."""
    own_meters = ExecutorMeters(meters.registry)

    async def run(server: str, stop: asyncio.Event) -> None:
        own = executor_settings(settings, server, secret)
        await Executor(own, pool, meters=own_meters, traces=traces).run(stop)

    return run


def serve(settings: Settings) -> int:
    """Run the service until a signal ends it. Return the exit code."""
    os.umask(_OWNER_ONLY)
    raise_file_limit()
    check_credentials(settings)

    async def run() -> int:
        with open_service(settings) as service:
            return await daemon.serve(service)

    return asyncio.run(run())


def check(settings: Settings) -> int:
    """Fold the whole log, rebuild the views, and report. Return the exit code: 1 if a view stopped."""
    os.umask(_OWNER_ONLY)

    async def run() -> int:
        directory = settings.storage
        clock, ids = SystemClock(), RandomIds()
        with _open_present_log(settings, directory) as log:
            refuse_lost_log(directory / "views.db", log.head_position(), SCRIPT)
            vms, hosts = VirtualMachines(log, clock, ids, Policy()), Hosts(log, clock, ids)  # no decision is made here
            checked = await fold_all(log, vms, hosts, Volumes(log, clock, ids, vms))
            sys.stdout.write(
                f"{counted(checked.position, 'event')}: {counted(len(hosts.registered()), 'host')}, "
                f"{counted(checked.vms, 'VM')}, {counted(checked.operations, 'active operation')}. The log folds.\n"
            )
            reached = await rebuild(log, directory / "views.db")
            whole = reached == checked.position
            sys.stdout.write(f"The views are rebuilt up to {reached}{'' if whole else ', where one has stopped'}.\n")
            return 0 if whole else 1

    return asyncio.run(run())
