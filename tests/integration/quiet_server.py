"""A server without a network: its services called directly, one host, an executor's stream in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from projections.projections import Projections
from snapshotd import bootstrap, executor_from_settings, from_settings, system
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.daemon import Service
from snapshotd.dispatch.orders import Order
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.host import Host
from snapshotd.domain.host_report import HostAnswer, Verdict, VmReport
from snapshotd.domain.ids import HostId, StreamId
from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.ports.event_log import UNCHANGED, Standing
from snapshotd.server import callers
from snapshotd.server.admin_service import AdminService
from snapshotd.server.audit_service import AuditService
from snapshotd.server.backend import Backend
from snapshotd.server.executor_service import ExecutorService
from snapshotd.server.host_service import HostService
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.operations_service import OperationsService
from snapshotd.server.snapshot_service import SnapshotService
from snapshotd.server.sync import HostReports
from snapshotd.server.sync_schedule import SyncSchedule
from snapshotd.server.virtual_machine_service import VirtualMachineService
from snapshotd.server.volume_claims import VolumeClaims
from snapshotd.settings import load
from snapshotd.store.sqlite_log import SqliteEventLog

HV01: Final = HostId("hv01")
INTERVAL_S: Final = 300.0


class HeldLog(SqliteEventLog):
    """A log on which appends to one stream can be held up, as by a slow disk, or refused."""

    held: StreamId | None = None
    refused: StreamId | None = None
    """Appends to it fail."""
    refused_with: Exception = LogUnavailable("refused by the test")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.arrived, self.released = asyncio.Event(), asyncio.Event()

    async def append(
        self, stream: StreamId, expected_version: int, events: Sequence[NewEvent], standing: Standing = UNCHANGED
    ) -> tuple[Envelope, ...]:
        """Append, when nothing holds it."""
        if stream == self.refused:
            raise self.refused_with
        if stream == self.held:
            self.arrived.set()
            await self.released.wait()
        return await super().append(stream, expected_version, events, standing)


class Caller:
    """The context of a call on this machine."""

    def peer(self) -> str:
        """Return the caller's address."""
        return "unix:"

    def invocation_metadata(self) -> tuple[()]:
        """Return nothing."""
        return ()


CALLER: Any = Caller()


@dataclass
class Asked:
    """An executor's stream: what it was asked, for the test to answer."""

    orders: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    latest: Order | None = None
    seen: list[Order] = field(default_factory=list)

    def deliver(self, dispatch_id: str, order: Order) -> None:
        """Take an order."""
        self.latest = order
        self.seen.append(order)
        self.orders.put_nowait(dispatch_id)

    def abandon(self, dispatch_id: str) -> None:
        """Take no note: what was asked stays in `orders`."""

    def end(self) -> None:
        """Take no note."""


@dataclass
class Time:
    """A monotonic clock that the test turns."""

    s: float = 1000.0


@dataclass(frozen=True)
class Running:
    """A server without a network, with one host."""

    log: HeldLog
    service: Service
    comparisons: SyncSchedule
    time: Time
    hosts: HostService
    vms: VirtualMachineService
    operations: OperationsService
    snapshots: SnapshotService
    audit: AuditService
    admin: AdminService
    backend: Backend
    asked: Asked

    async def registering(self, vm_id: str) -> tuple[asyncio.Task[vm_pb2.VirtualMachine], str]:
        """Begin to register a VM; return when its host is asked."""
        request = vm_pb2.RegisterVirtualMachineRequest(host=f"hosts/{HV01}", vm_id=vm_id)
        task = asyncio.create_task(self.vms.RegisterVirtualMachine(request, CALLER))
        return task, await self.asked.orders.get()

    async def register(self, report: VmReport) -> None:
        """Register a VM that its host reports so."""
        registering, dispatch = await self.registering(report.vm_id)
        self.answer(dispatch, report)
        await registering

    def answer(self, dispatch_id: str, *vms: VmReport, more: bool = False) -> None:
        """Have the host report."""
        self.service.runtime.outcome("executor", dispatch_id, HostAnswer(verdict=Verdict.REPORTED, vms=vms, more=more))

    def fail(self, dispatch_id: str, error_id: str) -> None:
        """Have the host's script fail."""
        self.service.runtime.outcome("executor", dispatch_id, HostAnswer(verdict=Verdict.FAILED, error_id=error_id))


@asynccontextmanager
async def run(storage: Path) -> AsyncIterator[Running]:
    """Run a server. Its calls pass no gate: everybody is trusted."""
    callers.CALLER.set(callers.trusted("anonymous"))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    settings = load(None, {}, {"storage.directory": str(storage)})
    with HeldLog(storage / "events.db") as log:
        projections = Projections(log, storage / "views.db")
        following = asyncio.create_task(projections.run())
        service = bootstrap.compose(settings, log, projections, "i", executor_from_settings.open_pool(settings))
        clock, runtime, hosts = system.SystemClock(), service.runtime, service.hosts
        reports = HostReports(runtime, service.vms, hosts)
        comparisons = SyncSchedule(reports, hosts, runtime, INTERVAL_S, now_s=lambda: time.s)
        backend = Backend(
            runtime=runtime,
            vms=service.vms,
            hosts=hosts,
            reports=reports,
            claims=VolumeClaims(runtime, service.vms, service.volumes, reports),
            views=projections.views,
            log=log,
            policy=from_settings.policy_of(settings),
            clock=clock,
            ids=system.RandomIds(),
            version="0",
            installation_id="i",
            started_at=clock.now(),
        )
        wanted = Host(host_id=HV01, address="10.0.0.1", transport="NTLM_HTTP", credential="hv")
        await hosts.register(wanted, actor="ann", request_id="", digest="")
        asked, time = Asked(), Time()
        runtime.attached("executor", frozenset(["*"]), asked)
        executors = ExecutorService(runtime, hosts, comparisons, "i", clock, service.refusals)
        operations = OperationReader(backend)
        yield Running(
            log,
            service,
            comparisons,
            time,
            HostService(backend, executors),  # type: ignore[abstract]  # what is not built
            VirtualMachineService(backend, operations),
            OperationsService(backend, operations),  # type: ignore[abstract]  # as above
            SnapshotService(backend, operations),
            AuditService(backend),  # type: ignore[abstract]  # as above
            AdminService(backend, executors, operations),  # type: ignore[abstract]  # as above
            backend,
            asked,
        )
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        projections.close()


async def turns() -> None:
    """Let everything that can go on do so, reads of the log included: those run one after another (see `run`)."""
    for _ in range(8):
        for _ in range(50):
            await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)
