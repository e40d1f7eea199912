"""The gRPC server: every service of the API, health and reflection, on up to three addresses.

listen       everybody; TLS if there is a certificate, except on a unix socket
listen_mtls  only who shows a certificate of an authority that the settings name: grpcio can ask for one and require
             it, or not ask at all (ADR 0019)
private      the executor in this process, by a socket that nobody else can open
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import add_OperationsServicer_to_server
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from snapshotd.api.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    executor_pb2,
    executor_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    snapshot_pb2,
    snapshot_pb2_grpc,
    virtual_machine_pb2,
    virtual_machine_pb2_grpc,
)
from snapshotd.channels import SERVER_PINGS
from snapshotd.ports.views import ProjectionProgress, ProjectionState
from snapshotd.server.address import AddressInUse, check_address
from snapshotd.server.admin_service import AdminService
from snapshotd.server.audit_service import AuditService
from snapshotd.server.backend import Backend
from snapshotd.server.executor_service import ExecutorService
from snapshotd.server.gate import Gate
from snapshotd.server.health import SERVICE_NAME as HEALTH
from snapshotd.server.health import Health, State
from snapshotd.server.host_service import HostService
from snapshotd.server.interceptors import ErrorsAsStatuses
from snapshotd.server.local_users import LocalUsers
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.operation_service import OperationService
from snapshotd.server.operations_service import OperationsService
from snapshotd.server.private_socket import PrivateSocket
from snapshotd.server.snapshot_service import SnapshotService
from snapshotd.server.virtual_machine_service import VirtualMachineService
from snapshotd.tls import ServerFiles, ServerTls

_OPTIONS: Final = (
    # Otherwise a second server could silently bind the same port.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    # One connection cannot take the place of all others (crowd.py).
    ("grpc.max_concurrent_streams", 5_000),
    # Beyond 3,000 calls that wait to be begun, gRPC would cancel each without a word; so the gate refuses them instead.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    *SERVER_PINGS,
)
SERVICES: Final = (
    *(
        module.DESCRIPTOR.services_by_name[name].full_name
        for module, name in (
            (host_pb2, "HostService"),
            (virtual_machine_pb2, "VirtualMachineService"),
            (snapshot_pb2, "SnapshotService"),
            (operation_pb2, "OperationService"),
            (audit_pb2, "AuditService"),
            (admin_pb2, "AdminService"),
            (executor_pb2, "ExecutorService"),
            (operations_pb2, "Operations"),
        )
    ),
)
"""The full names of our services."""

_CHANGES: Final = ("HostService", "VirtualMachineService", "SnapshotService", "Operations")
"""The services with calls that record something: without a log that can be written they do not serve."""
_READS_VIEWS: Final = (*_CHANGES, "OperationService", "AuditService")
"""The services with calls that read the views."""
_PROJECTION_HEALTH: Final = "snapshotd.projection."
"""The prefix of the health services that represent projections."""
_CORE_HEALTH: Final = "snapshotd.core"
"""The health service that represents the operations."""


class _NoGoneCallers(logging.Filter):
    """Leaves out what gRPC logs, with a traceback, if a caller has gone when it is answered: nothing is wrong here."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        return not record.exc_info or getattr(record.exc_info[0], "__name__", "") != "ExecuteBatchError"


_NO_GONE_CALLERS: Final = _NoGoneCallers()


@dataclass(frozen=True, slots=True)
class Listen:
    """The addresses of the server."""

    address: str
    """"host:port" or "unix:/path"; port 0 means any free one."""
    mtls: str = ""
    """"host:port" for callers with certificates; empty: none. It needs `tls`, with authorities for these."""
    tls: ServerFiles | None = None
    private: Path | None = None
    """The directory to make for the socket of the executor in this process; None: there is no such socket."""
    users: LocalUsers | None = None
    """What finds out who is at the other end, if the address is a socket on this machine; None: nobody asks."""


class GrpcServer:
    """The server.

    Args:
        backend: the backend that the servicers use.
        executors: the servicer of Attach.
        gate: decides on each call before its service does.
        listen: the addresses.

    Raises AddressInUse, and TlsFileInvalid.
    """

    def __init__(self, backend: Backend, executors: ExecutorService, gate: Gate, listen: Listen) -> None:
        self._backend = backend
        self._answering = ErrorsAsStatuses(gate, backend.meters, backend.runtime.traces)
        logging.getLogger("grpc._cython.cygrpc").addFilter(_NO_GONE_CALLERS)
        self._server = grpc.aio.server(interceptors=[self._answering], options=_OPTIONS)
        self._health = Health()
        operations = OperationReader(backend)
        add = self._server
        # Methods that are not built are abstract to the types. The interceptor answers them with UNIMPLEMENTED.
        hosts = HostService(backend, executors)  # type: ignore[abstract]
        vms = VirtualMachineService(backend, operations)
        snapshots = SnapshotService(backend, operations)
        host_pb2_grpc.add_HostServiceServicer_to_server(hosts, add)
        virtual_machine_pb2_grpc.add_VirtualMachineServiceServicer_to_server(vms, add)
        snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(snapshots, add)
        operation_pb2_grpc.add_OperationServiceServicer_to_server(OperationService(backend, operations), add)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(backend), add)  # type: ignore[abstract]
        admin_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(backend, executors, operations), add)  # type: ignore[abstract]
        executor_pb2_grpc.add_ExecutorServiceServicer_to_server(executors, add)
        add_OperationsServicer_to_server(OperationsService(backend, operations), add)  # type: ignore[abstract]
        add_HealthServicer_to_server(self._health, add)
        reflection.enable_server_reflection((*SERVICES, HEALTH, reflection.SERVICE_NAME), add)
        tls = ServerTls(listen.tls) if listen.tls is not None else None
        ours = tls.credentials() if tls is not None and not listen.address.startswith("unix:") else None
        self._users = listen.users
        self.address = self._bind(listen.address, ours) if listen.users is None else self._bind_behind(listen)
        """The address that it serves on."""
        self.mtls_address = ""
        """The address for callers with certificates; empty if there is none."""
        if tls is not None and listen.mtls:
            self.mtls_address = self._bind(listen.mtls, tls.credentials_for_certificates(), "server.listen_mtls")
        self._private = PrivateSocket(listen.private, "executor") if listen.private is not None else None
        if self._private is not None:
            self._bind_private(self._private)

    @property
    def private_address(self) -> str:
        """The address for the executor in this process."""
        assert self._private is not None, "there is none"
        return self._private.address

    def _bind_behind(self, listen: Listen) -> str:
        """Listen where those arrive whom the socket in front lets through. Return that socket's address."""
        assert listen.users is not None
        check_address(listen.address)
        self._bind_private(listen.users.inner())
        return listen.address

    def _bind_private(self, socket: PrivateSocket) -> None:
        self._bind(socket.address, None)
        socket.close_to_others()

    def _bind(self, address: str, tls: grpc.ServerCredentials | None, setting: str = "server.listen") -> str:
        """Listen on an address. Return it with its port. Raises AddressInUse."""
        check_address(address, setting)
        try:
            add = self._server
            port = add.add_insecure_port(address) if tls is None else add.add_secure_port(address, tls)
        except RuntimeError as error:
            problem = "it was taken just now, or is too long: a socket's path may have 107 bytes. Try again"
            raise AddressInUse(address, problem, setting) from error
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    async def start(self, progress: Sequence[ProjectionProgress]) -> None:
        """Start to serve."""
        self.show(progress)
        await self._server.start()
        if self._users is not None:
            await self._users.open()

    def show(self, progress: Sequence[ProjectionProgress]) -> None:
        """Update health.

        A service is SERVING while all its calls can be served, "" while all services are and every part of the daemon
        is at work, `snapshotd.core` while the operations of every VM can go on, and `snapshotd.projection.<name>` while
        that projection follows the log.
        """
        hampered = {
            *(_CHANGES if self._backend.log.trouble() is not None else ()),
            *(_READS_VIEWS if self._backend.views.trouble() is not None else ()),
        }
        for service in SERVICES:
            self._set(service, serving=service.rpartition(".")[2] not in hampered)
        self._set("", serving=not hampered and not self._backend.parts.concern_all())
        held_up = any(True for _ in self._backend.runtime.dispatcher.faults)
        self._set(_CORE_HEALTH, serving=not held_up and not self._backend.parts.concern_all())
        for projection in progress:
            held_up = projection.state in (ProjectionState.STOPPED, ProjectionState.BEHIND)
            self._set(_PROJECTION_HEALTH + projection.name, serving=not held_up)

    def _set(self, service: str, *, serving: bool) -> None:
        self._health.set(service, State.SERVING if serving else State.NOT_SERVING)

    def refuse_changes(self) -> None:
        """Refuse calls that change something from now on. Reads are answered until `stop`."""
        self._answering.stopping = True

    async def stop(self, grace_s: float) -> None:
        """Take no new calls. End those that have no end, and the others after the grace."""
        self._health.stop()
        self._backend.ending.begin()
        await self._server.stop(grace_s)
        if self._users is not None:
            await self._users.close()
        if self._private is not None:
            self._private.close()
