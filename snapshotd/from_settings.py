"""What settings mean for each part. Opens nothing but the files that it names. A part of bootstrap.py."""

from __future__ import annotations

import time
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
from snapshotd.executor_from_settings import pair_of, tls_file
from snapshotd.server.crowd import CallLimits
from snapshotd.server.gate import SignIn
from snapshotd.server.local_users import LocalUsers
from snapshotd.server.serving import Listen
from snapshotd.server.sign_in import Required, trusting
from snapshotd.settings import Settings
from snapshotd.system import SystemClock
from snapshotd.tls import ServerFiles
from snapshotd.token_commands import tokens_path

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


def listen_of(settings: Settings) -> Listen:
    """Return the addresses of the server."""
    pair = pair_of(settings, "server")
    authorities = [tls_file(settings, name) for name in ("server.user_ca", "server.executor_ca")]
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
