"""Calls to the server: the channel, the caller's name, safe repetition, and errors with their exit codes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceStub
from snapshotd.channels import channel_options
from snapshotd.client.connection import Security
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import shown
from snapshotd.setting_values import is_local

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

_REPEATS: Final = 4
_FIRST_PAUSE_S: Final = 0.25
_ADDRESS: Final = "Give the server's address with --server."
_START: Final = "Start one (snapshotd serve), or give its address with --server."
_NO_GRPC: Final = re.compile(r"http2 header with status|content-type|HTTP proxy", re.IGNORECASE)
"""What gRPC says of an answer that no gRPC server has given (observed with grpcio 1.85.3)."""
_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables that gRPC takes a proxy from: the first that is set counts. Below, those that name what needs none."""
_DIRECT: Final = ("no_grpc_proxy", "no_proxy")
_CHANNEL: Final = (
    ("grpc.enable_retries", 0),  # `call` does that
    # So that a server that is back is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


_OPTIONS: Final = {
    "host_id": "ID",
    "host.address": "ADDRESS",
    "host.port": "--port",
    "host.credential": "--credential",
    "host.journal_directory": "--journal-directory",
    "host.transport": "--transport",
    "host.ca_file": "--ca-file",
    "snapshot.display_name": "--name",
    "snapshot.description": "--description",
    "owner": "--owner",
    "virtual_machine.owner": "--owner",
    "labels": "--label",
    "virtual_machine.labels": "--label",
    "snapshot.labels": "--label",
    "snapshot.expire_time": "--expires",
    "checkpoint_id": "CHECKPOINT",
    "path": "PATH",
    "location": "PLACE",
    "volume_snapshot.location": "PLACE",
    "volume_snapshot.display_name": "--name",
    "size_bytes": "SIZE",
    "directory": "--to",
    "service_offering.cpu_count": "--cpus",
    "service_offering.memory_bytes": "--memory",
    "service_offering.dynamic_memory": "--dynamic-memory",
    "service_offering.minimum_bytes": "--minimum",
    "service_offering.maximum_bytes": "--maximum",
    "expected_plan": "--expect",
    "reason": "--reason",
    "type": "--type",
    "actors": "--actor",
    "types": "--type",
    "after_position": "--after",
    "as_of_time": "time",
    "as_of_version": "version",
    "start_time": "--since",
    "end_time": "--until",
    "request id": "--request-id",
    "request_id": "--request-id",
    "x-snapshotd-actor": "--as",
    "x-snapshotd-on-behalf-of": "--on-behalf-of",
}
"""What this program calls the fields of requests that hold what its user has typed."""


_NAMES: Final = ("name", "host", "host.name", "operation")
"""The fields of requests that hold the name of a host or an operation as its user has typed it."""


_REFUSALS: Final = frozenset({"PLAN_CHANGED"})
"""Reasons of refusals that do not pass, whatever their code."""
_EXIT_CODES: Final = {
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.ABORTED: ExitCode.BUSY,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN: ExitCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.TIMED_OUT,
}


@dataclass
class Server:
    """A connection to the server."""

    address: str
    actor: str
    timeout_s: float
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    channel: grpc.Channel = field(init=False)
    security: Security = field(default_factory=Security)
    on_behalf_of: str = ""
    """For whom the calls are made."""

    def __post_init__(self) -> None:
        """Open the channel; nothing is sent yet. Raises Failed for files that cannot be used."""
        self.channel = self.open_channel()
        self.hosts = HostServiceStub(self.channel)
        self.vms = VirtualMachineServiceStub(self.channel)
        self.snapshots = SnapshotServiceStub(self.channel)
        self.operations = OperationsStub(self.channel)
        self.audit = AuditServiceStub(self.channel)
        self.admin = AdminServiceStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call: who makes it."""
        token = (("authorization", f"Bearer {self.security.token}"),) if self.security.token else ()
        behalf = (("x-snapshotd-on-behalf-of", self.on_behalf_of),) if self.on_behalf_of else ()
        return (("x-snapshotd-actor", self.actor), *behalf, *token)

    def open_channel(self) -> grpc.Channel:
        """Open a channel to the server, with the files as they are now. The caller closes it. Raises Failed."""
        options = (*_CHANNEL, *channel_options(self.address))
        if not self.security.ca:
            return grpc.insecure_channel(self.address, options)
        from snapshotd.client.secure import secure_channel  # noqa: PLC0415  (only TLS waits for it)

        return secure_channel(self.address, self.security, options)

    def failed(self, error: grpc.RpcError) -> Failed:
        """Turn the error of a call into one for people."""
        call: Any = error  # the error of a unary call is also the call, which its type does not tell
        code, details = call.code(), call.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE:
            from snapshotd.client.secure import handshake_failed  # noqa: PLC0415  (as above)

            if told := handshake_failed(self.address, self.security, details):
                return told
        failed = _failed(error, self.address)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            failed.hint = _sign_in(self.security, failed.reason)
        return failed

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.channel.close()

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout_s: float | None = None,
    ) -> ResponseT:
        """Call a method. Repeat it when the server was not there: a request id makes that safe. Raises Failed."""
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, _REPEATS + 1):
            try:
                return method(request, timeout=timeout_s or self.timeout_s, metadata=self.metadata)
            except grpc.RpcError as error:
                failed = self.failed(error)
                # An error with a reason is an answer: the server was there.
                # TLS that fails once fails again.
                answered = failed.reason or failed.lasts
                if failed.exit_code is not ExitCode.UNAVAILABLE or answered or attempt == _REPEATS:
                    raise failed from None
            self.pause(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt raises")


def _sign_in(security: Security, reason: str) -> str:
    """Return what to do when the server does not know who calls."""
    if security.token:
        return f"The token is from {security.token_from}. Get a new one, and put it there."
    if security.certificate and reason == "SIGN_IN_MISSING":
        return (
            f"The server asks for no certificate at this address, so it has not seen {security.certificate}. Call "
            "server.listen_mtls of its settings, or sign in by a token."
        )
    if security.certificate:
        return f"The certificate is {security.certificate}. Get one that the server accepts, or sign in by a token."
    return (
        "Sign in by a token (--token-file FILE or $SNAPSHOTD_TOKEN), or by a certificate (--certificate and --key). "
        "A context keeps that: snapshotctl context set NAME --server HOST:PORT --ca FILE --token-file FILE."
    )


def info_of(status: Status) -> ErrorInfo:
    """Return the reason of a status, and the values it is about; empty if it has none."""
    info = ErrorInfo()
    return next((info for detail in status.details if detail.Unpack(info)), info)


def reason_of(status: Status) -> str:
    """Return the reason of a status, or an empty text if it has none."""
    return info_of(status).reason


def _failed(error: grpc.RpcError, address: str) -> Failed:
    """Turn a gRPC error into one for people."""
    call: Any = error  # the error of a unary call is also the call, which its type does not tell
    code, details = call.code(), call.details() or ""
    exit_code = _EXIT_CODES.get(code, ExitCode.REFUSED)
    status = rpc_status.from_call(call)
    info = info_of(status) if status else ErrorInfo()
    reason = info.reason
    exit_code = ExitCode.REFUSED if reason in _REFUSALS else exit_code
    # This client cancels nothing, so a server that is stopping has cancelled the call.
    if not reason and _NO_GRPC.search(details):
        text = f"Cannot reach a server at {address}: what answers is no snapshotd server ({shown(details)})."
        return Failed(f"{text} {_proxy(address) or _ADDRESS}", ExitCode.UNAVAILABLE)
    if not reason and code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Failed(f"Cannot reach a server at {address}. {_proxy(address) or _START}", ExitCode.UNAVAILABLE)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failed(f"Cannot wait longer for the server at {address}. Raise --timeout.", exit_code)
    for name in _NAMES:
        # What has not the form of any name names nothing.
        if code is grpc.StatusCode.INVALID_ARGUMENT and details.startswith(begins := f"Cannot accept {name} '"):
            return Failed(f"Cannot find '{shown(details.removeprefix(begins))}", ExitCode.NOT_FOUND, reason)
    text = _in_own_words(shown(details)) or code.name
    return Failed(text, exit_code, reason, code=code.name, metadata=info.metadata)


def _proxy(address: str) -> str:
    """Return what to do about the proxy that gRPC takes to an address, for people; empty if it takes none."""
    host = address.rpartition(":")[0]
    direct = next((os.environ[name] for name in _DIRECT if os.environ.get(name)), "").split(",")
    name = next((name for name in _PROXIES if os.environ.get(name)), "")
    if not name or is_local(address) or any(part.strip() and host.endswith(part.strip()) for part in direct):
        return ""
    # Without the user and the password that it may hold.
    scheme, _, rest = os.environ[name].rpartition("://")
    proxy = f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest.rpartition("@")[2]
    return (
        f"A proxy is set ({name}={shown(proxy)}), and may have answered instead. "
        f"To go past it, add the server's host to no_proxy (no_proxy={host}). {_START}"
    )


def _in_own_words(text: str) -> str:
    """Return an error's text with the option of this program in the place of the field that it is sent in."""
    for sent_as, option in _OPTIONS.items():
        begins = f"Cannot accept {sent_as} "
        if text.startswith(begins):
            return f"Cannot accept {option} {text.removeprefix(begins)}"
    return text
