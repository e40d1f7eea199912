"""What settings mean for each part. Opens nothing but the files that it names. A part of bootstrap.py."""

from __future__ import annotations

import math
import os
import time
from importlib.metadata import version
from pathlib import Path

from snapshotd.access.authentication import Authentication
from snapshotd.access.bindings import Bindings, follow_roles
from snapshotd.access.certificates import ClientCertificates
from snapshotd.access.fetching import Fetcher
from snapshotd.access.local_tokens import LocalTokens
from snapshotd.access.oidc import Oidc, OidcSettings
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.ids import HostId
from snapshotd.domain.policy import Policy
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.executor.work import OpenPool
from snapshotd.hyperv.allow_list import AllowList, AllowListInvalid
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.pool import HostPools, PoolSettings
from snapshotd.hyperv.script import kept_script
from snapshotd.hyperv.winrs import WinRsLimits
from snapshotd.monitoring.endpoint import Endpoint, Scrapes
from snapshotd.monitoring.meters import ExecutorMeters
from snapshotd.monitoring.traces import NO_TRACES, Traces
from snapshotd.server.crowd import CallLimits
from snapshotd.server.gate import SignIn
from snapshotd.server.local_users import LocalUsers
from snapshotd.server.serving import Listen
from snapshotd.server.sign_in import Required, trusting
from snapshotd.settings import Settings, SettingsInvalid
from snapshotd.system import SystemClock
from snapshotd.tls import ClientFiles, Pair, ServerFiles, TlsFile
from snapshotd.token_commands import tokens_path
from snapshotd.transport_settings import ALLOW_LIST

_OWN_IDLE = 0.4
"""The part of the host's time limit after which an executor closes an idle session."""
_PRIVATE = "private"
"""The directory of the socket for the executor in this process, below that of the storage."""


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
    directory, address = settings.storage / _PRIVATE, settings.text("server.listen")
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
    roles = settings.path("auth.roles")
    bindings = follow_roles(roles).now if roles is not None else Bindings  # none
    return Required(authentication, bindings, secret, users.of if users is not None else lambda _: None)


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
