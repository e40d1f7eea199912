"""The runtime on the real log: what a caller asked for goes on when the caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.bootstrap import RandomIds, SystemClock
from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.dispatch.orders import Order
from snapshotd.domain.commands import RegisterVm
from snapshotd.domain.host import Host
from snapshotd.domain.ids import HostId
from snapshotd.domain.policy import Policy
from snapshotd.server.runtime import Runtime
from snapshotd.steps.vm_stop import StopMode
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.asking import stop_vm
from tests.fakes import VM_ID, FakeHost

HV01 = HostId("hv01")


class Stream:
    """Keeps what an executor is sent."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Order] = asyncio.Queue()

    def deliver(self, dispatch_id: str, order: Order) -> None:
        self.sent.put_nowait(order)

    def abandon(self, dispatch_id: str) -> None:
        raise AssertionError(dispatch_id)


class Core:
    """A runtime, its hosts and its log."""

    def __init__(self, log: SqliteEventLog) -> None:
        policy = Policy()
        self.log = log
        self.hosts = Hosts(log, SystemClock(), RandomIds())
        vms = VirtualMachines(log, SystemClock(), RandomIds(), policy)
        self.runtime = Runtime(vms, Dispatcher(policy, 8, 4, "x"), policy, SystemClock(), RandomIds())


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    with SqliteEventLog(tmp_path / "events.db") as log:
        core = Core(log)
        running = asyncio.create_task(core.runtime.run())
        yield core
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def abandoned(call: asyncio.Task[object]) -> None:
    """Let a call begin, and have its caller go away."""
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])


async def test_an_operation_whose_caller_went_away_is_carried_out(core: Core) -> None:
    stream = Stream()
    await core.runtime.request(VM_ID, RegisterVm(host_id=HV01, owner="ann", report=FakeHost().report()), actor="ann")
    core.runtime.attached("ex", frozenset({"*"}), stream)
    await abandoned(asyncio.create_task(core.runtime.request(VM_ID, stop_vm(StopMode.TURN_OFF), actor="ann")))
    order = await asyncio.wait_for(stream.sent.get(), 30)
    assert order.vm_id == VM_ID


async def test_a_host_whose_registration_was_abandoned_is_known(core: Core) -> None:
    wanted = Host(host_id=HV01, address="10.0.0.1", transport="NTLM_HTTP", credential="hv")
    registering = core.runtime.to_the_end(core.hosts.register(wanted, actor="ann", request_id="A", digest="d"))
    await abandoned(asyncio.create_task(registering))
    await core.log.wait_past(0, 30)
    _, envelopes = await core.hosts.register(wanted, actor="ann", request_id="A", digest="d")
    assert envelopes == ()
    assert core.hosts.get(HV01).registered
