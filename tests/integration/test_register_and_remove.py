"""A VM is never registered on a host that is not: however RegisterVirtualMachine and RemoveHost fall together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from projections.projections import Projections
from snapshotd import bootstrap
from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.daemon import Service
from snapshotd.dispatch.orders import Order
from snapshotd.domain.errors import NotFound
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.host import Host
from snapshotd.domain.host_errors import HostInUse
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, StreamId, host_stream, vm_stream
from snapshotd.server.executor_service import ExecutorService
from snapshotd.server.host_service import HostService
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.parts import Parts
from snapshotd.server.sync import HostReports
from snapshotd.server.virtual_machine_service import VirtualMachineService
from snapshotd.settings import load
from snapshotd.store.codec import event_data
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.fakes import VM_ID, FakeHost

HV01 = HostId("hv01")
REGISTER = vm_pb2.RegisterVirtualMachineRequest(host="hosts/hv01", vm_id=VM_ID)
REMOVE = host_pb2.RemoveHostRequest(name="hosts/hv01")


class HeldLog(SqliteEventLog):
    """A log on which an append to one stream can be held up, as a slow disk would."""

    held: StreamId | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.arrived, self.released = asyncio.Event(), asyncio.Event()

    async def append(self, stream: StreamId, expected_version: int, events: Sequence[NewEvent]) -> tuple[Envelope, ...]:
        """Append, when nothing holds it."""
        if stream == self.held:
            self.arrived.set()
            await self.released.wait()
        return await super().append(stream, expected_version, events)


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
    """An executor's stream that answers when it is told to."""

    orders: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def deliver(self, dispatch_id: str, order: Order) -> None:
        """Take an order."""
        assert order.host_id == HV01
        self.orders.put_nowait(dispatch_id)


@dataclass(frozen=True)
class Running:
    """A server without a network, with one host."""

    log: HeldLog
    service: Service
    hosts: HostService
    vms: VirtualMachineService
    asked: Asked

    async def registering(self) -> tuple[asyncio.Task[vm_pb2.VirtualMachine], str]:
        """Begin to register the VM; return when its host is asked."""
        task = asyncio.create_task(self.vms.RegisterVirtualMachine(REGISTER, CALLER))
        return task, await self.asked.orders.get()

    def answer(self, dispatch_id: str) -> None:
        """Have the host answer."""
        report = HostAnswer(verdict=Verdict.REPORTED, vms=(FakeHost().report(),))
        self.service.drive.outcome(dispatch_id, report)


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    settings = load(None, {}, {"storage.directory": str(tmp_path)})
    with HeldLog(tmp_path / "events.db") as log:
        projections = Projections(log, tmp_path / "views.db")
        following = asyncio.create_task(projections.run())
        service = bootstrap.compose(settings, log, projections, "i", bootstrap.open_pool(settings))
        clock, drive, hosts = bootstrap.SystemClock(), service.drive, service.hosts
        reports = HostReports(drive, service.vms, hosts)
        parts = Parts(
            drive=drive,
            vms=service.vms,
            hosts=hosts,
            reports=reports,
            views=projections.views,
            log=log,
            event_data=event_data,
            policy=bootstrap.policy_of(settings),
            clock=clock,
            ids=bootstrap.RandomIds(),
            version="0",
            installation_id="i",
            started_at=clock.now(),
        )
        wanted = Host(host_id=HV01, address="10.0.0.1", transport="NTLM_HTTP", credential="hv")
        await hosts.register(wanted, actor="ann", request_id="", digest="")
        asked = Asked()
        drive.attached("executor", frozenset(["*"]), asked)
        executors = ExecutorService(drive, hosts, reports, "i", clock)
        operations = OperationReader(parts)
        yield Running(
            log,
            service,
            HostService(parts, executors),  # type: ignore[abstract]  # what is not built
            VirtualMachineService(parts, operations),  # type: ignore[abstract]  # as above
            asked,
        )
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        projections.close()


async def turns() -> None:
    """Let everything that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_host_removed_while_it_is_asked_gets_no_vm(running: Running) -> None:
    registering, dispatch = await running.registering()
    await running.hosts.RemoveHost(REMOVE, CALLER)
    running.answer(dispatch)
    with pytest.raises(NotFound):
        await registering
    assert running.service.vms.registered() == ()


async def test_a_host_whose_removal_is_being_recorded_gets_no_vm(running: Running) -> None:
    registering, dispatch = await running.registering()
    running.log.held = host_stream(HV01)
    removing = asyncio.create_task(running.hosts.RemoveHost(REMOVE, CALLER))
    await running.log.arrived.wait()
    running.answer(dispatch)
    await turns()
    running.log.released.set()
    await removing
    with pytest.raises(NotFound):
        await registering
    assert running.service.vms.registered() == ()


@pytest.mark.parametrize("patient", [True, False])
async def test_a_host_that_a_vm_is_being_registered_on_is_in_use(running: Running, *, patient: bool) -> None:
    registering, dispatch = await running.registering()
    running.log.held = vm_stream(VM_ID)
    running.answer(dispatch)
    await running.log.arrived.wait()
    if not patient:
        registering.cancel()  # its caller is gone, and yet it will be recorded
    removing = asyncio.create_task(running.hosts.RemoveHost(REMOVE, CALLER))
    await turns()
    running.log.released.set()
    with pytest.raises(HostInUse):
        await removing
    await asyncio.gather(registering, return_exceptions=True)
    assert [vm.vm_id for vm in running.service.vms.registered()] == [VM_ID]
    assert running.service.hosts.registered()
