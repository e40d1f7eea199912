"""The composition root: the only module that names every concrete class. Decides nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from projections.projections import SCRIPT, Projections
from projections.rebuild import rebuild
from projections.store import refuse_lost_log
from snapshotd import daemon
from snapshotd.access.authentication import Authentication
from snapshotd.access.bindings import RolesFile
from snapshotd.access.certificates import ClientCertificates
from snapshotd.access.fetching import Fetcher
from snapshotd.access.local_tokens import LocalTokens
from snapshotd.access.oidc import Oidc, OidcSettings
from snapshotd.application.hosts import Hosts
from snapshotd.application.replay import fold_all
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.client.render import counted
from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.ids import HostId
from snapshotd.domain.policy import Policy
from snapshotd.executor.service import Executor
from snapshotd.executor.service import run_executor as run_executor_process
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.executor.work import OpenPool
from snapshotd.hyperv.allow_list import AllowList, AllowListInvalid
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.pool import HostPools, PoolSettings
from snapshotd.hyperv.script import command_line, kept_script, script_sha256
from snapshotd.hyperv.winrs import WinRsLimits
from snapshotd.monitoring.endpoint import Endpoint, Scrapes
from snapshotd.monitoring.following import Follower
from snapshotd.monitoring.meters import ExecutorMeters, Meters
from snapshotd.monitoring.traces import NO_TRACES, Traces
from snapshotd.ports.event_log import EventLog
from snapshotd.server.backend import Backend
from snapshotd.server.crowd import CallLimits, Crowd
from snapshotd.server.executor_service import LEASE_TTL_S, ExecutorService
from snapshotd.server.gate import Gate, SignIn
from snapshotd.server.gauges import Gauges
from snapshotd.server.local_users import LocalUsers
from snapshotd.server.refusals import Refusals
from snapshotd.server.runtime import Runtime
from snapshotd.server.serving import GrpcServer, Listen
from snapshotd.server.sign_in import Required, trusting
from snapshotd.server.sync import HostReports
from snapshotd.server.sync_schedule import SyncSchedule
from snapshotd.server.troubles import Troubles
from snapshotd.server.volume_claims import VolumeClaims
from snapshotd.server.watchdog import Watchdog
from snapshotd.service_manager import ServiceManager
from snapshotd.settings import Settings, SettingsInvalid
from snapshotd.simulator import main as simulator
from snapshotd.simulator.builtin import AcceptedScript, BuiltinEngine
from snapshotd.simulator.model import SimulatedHyperV, open_host
from snapshotd.simulator.needs import Engine
from snapshotd.simulator.pwsh.engine import PwshEngine, find_powershell
from snapshotd.simulator.settings import SimulateHostSettings
from snapshotd.store.folding import fold_shape
from snapshotd.store.sqlite_log import SqliteEventLog
from snapshotd.tls import ClientFiles, Pair, ServerFiles, TlsFile
from snapshotd.token_commands import tokens_path
from snapshotd.transport_settings import ALLOW_LIST

_log = logging.getLogger(__name__)

_DRAWN = 256
"""Ids whose random bytes are drawn at a time."""

_OWN_IDLE = 0.4
"""The part of the host's time limit after which an executor closes an idle session."""


_PRIVATE = "private"
"""The directory of the socket for the executor in this process, below that of the storage."""
_OWNER_ONLY = 0o077
"""The umask: only their owner may read log and views, even in a directory that is open to others."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)


class RandomIds:
    """Random UUIDs, of random bytes that are drawn many at a time.

    Each call of the system lets go of the interpreter, and in a busy process it takes long to get that back.
    """

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def fresh(self) -> str:
        """Return a random UUID in lower case. Any thread may call it: a list gives away each element once."""
        try:
            digits = self._drawn.pop()
        except IndexError:
            drawn = os.urandom(_DRAWN * 16).hex()
            digits, *others = (drawn[at : at + 32] for at in range(0, len(drawn), 32))
            self._drawn += others
        # Version 4 (random), variant 1: the two bits above the seventeenth digit's lower two (RFC 9562).
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def policy_of(settings: Settings) -> Policy:
    """Return the policy: the numbers that decisions depend on."""
    return Policy(
        max_per_vm=settings.count("snapshots.max_per_vm"),
        old_after_s=settings.seconds("snapshots.old_after"),
        create_wait_s=settings.seconds("snapshots.create_wait"),
        revert_wait_s=settings.seconds("snapshots.revert_wait"),
        remove_wait_s=settings.seconds("snapshots.remove_wait"),
        power_wait_s=settings.seconds("snapshots.power_wait"),
        merge_poll_s=settings.seconds("snapshots.merge_poll"),
        merge_stall_s=settings.seconds("snapshots.merge_stall"),
        job_stall_s=settings.seconds("jobs.stall"),
        volume_snapshot_directories={HostId(h): d for h, d in settings.folders("volume_snapshots.directory").items()},
        export_policy=ExportPolicy[settings.text("export.policy")],
        export_directory=settings.text("export.directory"),
        export_release=settings.switch("export.release"),
        export_attempts=settings.count("export.attempts"),
        max_attempts=settings.count("retries.max_attempts"),
        backoff_first_s=settings.seconds("retries.first"),
        backoff_max_s=settings.seconds("retries.longest"),
        observe_wait_s=settings.seconds("retries.observe_wait"),
        answer_grace_s=settings.seconds("retries.answer_grace"),
    )


def call_limits(settings: Settings) -> CallLimits:
    """Return how many calls may be under way, and how often one caller may call."""
    return CallLimits(
        under_way=settings.count("limits.calls"),
        under_way_each=settings.count("limits.calls_per_caller"),
        per_s_each=settings.count("limits.calls_per_second"),
    )


def executor_settings(settings: Settings, server: str, secret: str = "") -> ExecutorSettings:
    """Return the settings of an executor.

    Args:
        settings: all settings.
        server: the address that it attaches to.
        secret: proves that it runs in the server's process; empty: it runs in a process of its own, with TLS if the
            settings name its files.
    """
    return ExecutorSettings(
        server=server,
        tls=None if secret else executor_tls(settings),
        secret=secret,
        hosts=settings.names("executor.hosts"),
        version=version("snapshotd"),
    )


def listen_of(settings: Settings) -> Listen:
    """Return the addresses of the server."""
    pair = _pair(settings, "server")
    authorities = [_tls_file(settings, name) for name in ("server.user_ca", "server.executor_ca")]
    tls = None if pair is None else ServerFiles(pair, tuple(file for file in authorities if file is not None))
    directory, address = _storage(settings) / _PRIVATE, settings.text("server.listen")
    asks = settings.text("auth.mode") == "required" and address.startswith("unix:")
    return Listen(
        address,
        settings.text("server.listen_mtls"),
        tls,
        private=directory if settings.switch("executor.in_process") else None,
        users=LocalUsers(Path(address.removeprefix("unix:")), directory) if asks else None,
    )


def sign_in_of(settings: Settings, secret: str, users: LocalUsers | None) -> SignIn:
    """Return what finds out who makes a call.

    Args:
        settings: all settings.
        secret: of the executor in this process.
        users: who is connected by a socket on this machine.

    Raises AccessUnusable and OSError for files that cannot be used.
    """
    if settings.text("auth.mode") == "trust":
        return trusting
    clock = SystemClock()
    provider = OidcSettings(
        issuer=settings.text("auth.oidc_issuer"),
        audience=settings.text("auth.oidc_audience"),
        name_claim=settings.text("auth.oidc_name_claim"),
        groups_claim=settings.text("auth.oidc_groups_claim"),
        algorithms=settings.names("auth.oidc_algorithms"),
    )
    fetcher = Fetcher(settings.path("auth.oidc_ca"))
    authentication = Authentication(
        LocalTokens(tokens_path(settings), clock.now),
        Oidc(provider, fetcher, clock.now, time.monotonic) if provider.issuer else None,
        ClientCertificates(settings.path("server.user_ca"), settings.path("server.executor_ca"), clock.now),
    )
    roles = RolesFile(settings.path("auth.roles"))
    return Required(authentication, roles.now, secret, users.of if users is not None else lambda _: None)


def executor_tls(settings: Settings) -> ClientFiles | None:
    """Return the files of TLS of an executor in a process of its own; None: it speaks no TLS."""
    authority, pair = _tls_file(settings, "executor.ca"), _pair(settings, "executor")
    return None if authority is None else ClientFiles(authority, pair)


def _pair(settings: Settings, section: str) -> Pair | None:
    certificate, key = _tls_file(settings, f"{section}.certificate"), _tls_file(settings, f"{section}.key")
    return None if certificate is None or key is None else Pair(certificate, key)


def _tls_file(settings: Settings, name: str) -> TlsFile | None:
    path = settings.path(name)
    return None if path is None else TlsFile(name, path)


def open_pool(settings: Settings) -> OpenPool:
    """Return the function that opens the WinRM sessions of a host."""
    credentials = Credentials(settings.path("executor.credentials"), os.environ)
    idle_s = settings.seconds("executor.shell_idle")
    pool = PoolSettings(
        sessions_per_host=settings.count("executor.sessions_per_host"),
        idle_close_s=idle_s * _OWN_IDLE,
        sign_in_pause_s=settings.seconds("hosts.sign_in_pause"),
        limits=WinRsLimits(shell_idle_s=math.ceil(idle_s)),
    )
    return HostPools(credentials, kept_script(), pool, _allowed(settings)).open


def _allowed(settings: Settings) -> AllowList | None:
    """Return what the executor may do; None: all that it is asked for. Raises SettingsInvalid."""
    path = settings.path("executor.allow")
    try:
        return None if path is None else AllowList(path)
    except AllowListInvalid as error:
        source = settings.sources["executor.allow"]
        raise SettingsInvalid(f"Cannot use executor.allow from {source}: {error} {ALLOW_LIST}") from None


@contextmanager
def open_service(settings: Settings) -> Iterator[daemon.Service]:
    """Open the storage, and yield a daemon composed on it.

    Raises LogLost, LogInUse, LogForeign, StorageUnusable, ViewsNotMade, OSError.
    """
    directory, traces = _storage(settings), open_traces(settings, "snapshotd")
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
    parts = Troubles()
    # Made at each start, and known to this process only.
    secret = secrets.token_urlsafe(32)
    schedule = SyncSchedule(reports, hosts, runtime, settings.seconds("hosts.sync_interval"), troubles=parts)
    meters = Meters()
    refusals = Refusals(log, clock, ids, told=meters.callers.refused)
    executors = ExecutorService(runtime, hosts, schedule, installation_id, clock, refusals)
    listen = listen_of(settings)
    gate = Gate(sign_in_of(settings, secret, listen.users), runtime.load, Crowd(call_limits(settings)), refusals)
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

    executor_meters = ExecutorMeters(meters.registry) if settings.switch("executor.in_process") else None

    async def run_executor_here(server: str, stop: asyncio.Event) -> None:
        own = executor_settings(settings, server, secret)
        await Executor(own, pool, meters=executor_meters, traces=traces).run(stop)

    metrics = settings.text("metrics.listen")
    scrapes = Scrapes(meters.registry, Gauges(backend, _storage(settings)).read)
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
        run_executor=run_executor_here if executor_meters is not None else None,
        follower=Follower(log, [meters.take, traces.take]) if metrics or traces.enabled else None,
        endpoint=Endpoint(metrics, scrapes, backend.at_work) if metrics else None,
        installation_id=installation_id,
        refusals=refusals,
        parts=parts,
        manager=ServiceManager(os.environ),
    )


def serve(settings: Settings) -> int:
    """Run the service until a signal ends it. Return the exit code."""
    os.umask(_OWNER_ONLY)
    _check_credentials(settings)

    async def run() -> int:
        with open_service(settings) as service:
            return await daemon.serve(service)

    return asyncio.run(run())


def run_executor(settings: Settings) -> int:
    """Run an executor until a signal ends it. Return the exit code."""
    _check_credentials(settings)
    own = executor_settings(settings, settings.text("executor.server"))
    if own.tls is not None:
        own.tls.read()
    meters, traces = ExecutorMeters(), open_traces(settings, "snapshotd-executor")

    async def run() -> None:
        manager, endpoint = ServiceManager(os.environ), executor_endpoint(settings, meters)
        await run_executor_process(own, open_pool(settings), manager, meters, endpoint, traces=traces)

    try:
        asyncio.run(run())
    finally:
        traces.close()
    return 0


def open_traces(settings: Settings, service: str) -> Traces:
    """Return where spans go, of a program of that name. Raises SettingsInvalid if the extra for it is not installed."""
    endpoint = settings.text("traces.endpoint")
    if not endpoint:
        return NO_TRACES
    try:
        from snapshotd.monitoring.otlp import SentTraces, exporter  # noqa: PLC0415  (only who sends spans has the extra)
    except ImportError as error:
        text = f"Cannot use traces.endpoint from {settings.sources['traces.endpoint']}: {error.name} is not installed. "
        raise SettingsInvalid(f"{text}Run `pip install 'snapshotd[traces]'`, or leave it empty.") from error
    return SentTraces(exporter(endpoint), service, version("snapshotd"))


def executor_endpoint(settings: Settings, meters: ExecutorMeters) -> Endpoint | None:
    """Return where the metrics of an executor process are read; None: nowhere."""
    listen = settings.text("metrics.listen")
    return Endpoint(listen, Scrapes(meters.registry)) if listen else None


def check(settings: Settings) -> int:
    """Fold the whole log, rebuild the views, and report. Return the exit code: 1 if a view stopped."""
    os.umask(_OWNER_ONLY)

    async def run() -> int:
        directory = _storage(settings)
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


def simulate_host(settings: SimulateHostSettings) -> int:
    """Run a simulated host until a signal ends it. Return the exit code."""
    return simulator.run(settings, open_host, lambda host: _engine(settings, host))


def _engine(settings: SimulateHostSettings, host: SimulatedHyperV) -> Engine:
    """Return the engine that runs scripts on a simulated host. Raises ValueError if there is no PowerShell for it."""
    if settings.engine == "builtin":
        kept = kept_script()
        return BuiltinEngine(host, AcceptedScript(command_line(kept), script_sha256()))
    named = settings.pwsh or os.environ.get("SNAPSHOTD_PWSH") or shutil.which("pwsh")
    try:
        return PwshEngine(host, find_powershell(named), settings.state / "pwsh")
    except ValueError as error:
        raise ValueError(f"Cannot use --engine pwsh: {error}. Name one with --pwsh PATH or $SNAPSHOTD_PWSH.") from error


def _check_credentials(settings: Settings) -> None:
    """Raise SettingsInvalid if the directory of credentials cannot be used: otherwise each host would fail later."""
    directory = settings.path("executor.credentials")
    if directory is not None and not (directory.is_dir() and os.access(directory, os.R_OK | os.X_OK)):
        problem = "cannot be read" if directory.is_dir() else "is not a directory"
        raise SettingsInvalid(
            f"Cannot use executor.credentials from {settings.sources['executor.credentials']}: {directory} {problem}. "
            "Make it a directory with one file per credential, or set another."
        )


def _storage(settings: Settings) -> Path:
    directory = settings.path("storage.directory")
    assert directory is not None
    return directory
