"""What settings mean for an executor, in a process of its own or in the service's. Opens only the files they name."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from snapshotd.executor.settings import ExecutorSettings
from snapshotd.executor.work import OpenPool
from snapshotd.hyperv.allow_list import AllowList, AllowListInvalid
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.pool import HostPools, PoolSettings
from snapshotd.hyperv.script import kept_script
from snapshotd.hyperv.winrs import WinRsLimits
from snapshotd.monitoring.endpoint import Endpoint, Scrapes
from snapshotd.monitoring.traces import NO_TRACES, Traces
from snapshotd.settings import Settings, SettingsInvalid
from snapshotd.tls import ClientFiles, Pair, TlsFile
from snapshotd.transport_settings import ALLOW_LIST

_OWN_IDLE: Final = 0.4
"""The part of the host's time limit after which an executor closes an idle session."""


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


def executor_tls(settings: Settings) -> ClientFiles | None:
    """Return the files of TLS of an executor in a process of its own; None: it speaks no TLS."""
    authority, pair = tls_file(settings, "executor.ca"), pair_of(settings, "executor")
    return None if authority is None else ClientFiles(authority, pair)


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


def endpoint_of(settings: Settings, scrapes: Scrapes, ready: Callable[[], bool] = lambda: True) -> Endpoint | None:
    """Return where the metrics of a process are read; None: nowhere.

    Args:
        settings: all settings.
        scrapes: writes the metrics.
        ready: returns whether the process does its work.
    """
    listen = settings.text("metrics.listen")
    return Endpoint(listen, scrapes, ready) if listen else None


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


def check_credentials(settings: Settings) -> None:
    """Raise SettingsInvalid if the directory of credentials cannot be used: otherwise each host would fail later."""
    directory = settings.path("executor.credentials")
    if directory is not None and not (directory.is_dir() and os.access(directory, os.R_OK | os.X_OK)):
        problem = "cannot be read" if directory.is_dir() else "is not a directory"
        raise SettingsInvalid(
            f"Cannot use executor.credentials from {settings.sources['executor.credentials']}: {directory} {problem}. "
            "Make it a directory with one file per credential, or set another."
        )


def pair_of(settings: Settings, section: str) -> Pair | None:
    """Return the files of a certificate and its key, by the section that names them; None: it names none."""
    certificate, key = tls_file(settings, f"{section}.certificate"), tls_file(settings, f"{section}.key")
    return None if certificate is None or key is None else Pair(certificate, key)


def tls_file(settings: Settings, name: str) -> TlsFile | None:
    """Return a file that TLS needs, by the setting that names it; None: it is not set."""
    path = settings.path(name)
    return None if path is None else TlsFile(name, path)
