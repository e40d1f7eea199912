"""The runtime on the real log: what a caller asked for goes on when the caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.dispatch.orders import Order
from snapshotd.domain.commands import RegisterVm
from snapshotd.domain.host import Host
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.policy import Policy
from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.server.runtime import Runtime
from snapshotd.steps.vm_stop import StopMode
from snapshotd.store.sqlite_log import SqliteEventLog
from snapshotd.system import RandomIds, SystemClock
from tests.asking import stop_vm
from tests.fakes import VM_ID, FakeHost
from tests.integration.polling import until

HV01 = HostId("hv01")


class Stream:
    """Keeps what an executor is sent."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Order] = asyncio.Queue()

    def deliver(self, dispatch_id: str, order: Order) -> None:
        self.sent.put_nowait(order)

    def abandon(self, dispatch_id: str) -> None:
        raise AssertionError(dispatch_id)

    def end(self) -> None:
        raise AssertionError


class Core:
    """A runtime, its hosts and its log."""

    def __init__(self, log: SqliteEventLog) -> None:
        policy = Policy()
        self.log = log
        self.hosts = Hosts(log, SystemClock(), RandomIds())
        self.vms = VirtualMachines(log, SystemClock(), RandomIds(), policy)
        self.runtime = self.started_again()

    def started_again(self) -> Runtime:
        """Return a runtime that knows nothing but what is on record."""
        policy = Policy()
        return Runtime(self.vms, Dispatcher(policy, 8, 4, "x"), policy, SystemClock(), RandomIds())


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


async def test_an_order_that_cannot_be_sent_ends_no_task_unheard_and_other_vms_go_on(
    core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    class Defective(Stream):
        def deliver(self, dispatch_id: str, order: Order) -> None:
            if order.vm_id == VM_ID:
                raise ValueError("no such field")
            super().deliver(dispatch_id, order)

    other = VmId("22222222-2222-4222-8222-222222222222")
    for vm_id in (VM_ID, other):
        report = FakeHost(vm_id=vm_id).report()
        await core.runtime.request(vm_id, RegisterVm(host_id=HV01, owner="ann", report=report), actor="ann")
        await core.runtime.request(vm_id, stop_vm(StopMode.TURN_OFF), actor="ann")
    stream = Defective()
    core.runtime.attached("ex", frozenset({"*"}), stream)
    order = await asyncio.wait_for(stream.sent.get(), 30)
    assert order.vm_id == other
    await until(lambda: any(True for _ in core.runtime.dispatcher.faults))
    assert [f.vm_id for f in core.runtime.dispatcher.faults] == [VM_ID]
    assert (
        f"vm {VM_ID}: cannot go on with its operations (attempt 1): a defect: ValueError('no such field')"
        in caplog.text
    )


async def test_a_record_that_fails_is_logged_with_its_vm_and_once(
    core: Core, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream()
    report = FakeHost().report()
    await core.runtime.request(VM_ID, RegisterVm(host_id=HV01, owner="ann", report=report), actor="ann")
    await core.runtime.request(VM_ID, stop_vm(StopMode.TURN_OFF), actor="ann")

    async def full(*_: object) -> None:
        raise LogUnavailable("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(core.log, "append", full)
        core.runtime.attached("ex", frozenset({"*"}), stream)
        await until(lambda: any(True for _ in core.runtime.dispatcher.faults))
        assert caplog.text.count(f"vm {VM_ID}: cannot go on") == 1
        assert "the disk is full" in caplog.text
    order = await asyncio.wait_for(stream.sent.get(), 30)
    assert order.vm_id == VM_ID


async def test_a_defect_whose_caller_has_gone_is_logged(core: Core, caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        await begun.wait()
        raise RuntimeError("a defect")

    call = asyncio.create_task(core.runtime.to_the_end(work()))
    await abandoned(call)
    begun.set()
    await until(lambda: "its caller has gone" in caplog.text)
    assert "RuntimeError: a defect" in caplog.text


async def test_a_restart_with_many_active_operations_lets_others_have_their_turn_meanwhile(core: Core) -> None:
    vms = [VmId(f"22222222-2222-4222-8222-{n:012d}") for n in range(45)]
    registrations = [RegisterVm(host_id=HV01, owner="ann", report=FakeHost(vm_id=vm_id).report()) for vm_id in vms]
    ask = core.runtime.request
    await asyncio.gather(*(ask(vm_id, wanted, actor="ann") for vm_id, wanted in zip(vms, registrations, strict=True)))
    await asyncio.gather(*(ask(vm_id, stop_vm(StopMode.TURN_OFF), actor="ann") for vm_id in vms))
    again = core.started_again()
    running = asyncio.create_task(again.run())
    seen = set[int]()
    while len(vms) not in seen:
        await asyncio.sleep(0)
        seen.add(len(tuple(again.dispatcher.active())))
    assert len(seen) >= 3, "nobody waits for all of them"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
