"""Hosts come and go under calls that fall together, or that nobody waits for any more.

A VM is never registered on a host that is not, and what is known of a host is what the log has.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1 import host_pb2
from snapshotd.domain.errors import AlreadyExists, NotFound
from snapshotd.domain.host_errors import HostInUse, HostJournalsFailed
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, host_stream, vm_stream
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, HV01, Running, run, turns

OTHER = "22222222-2222-4222-8222-222222222222"
REMOVE = host_pb2.RemoveHostRequest(name="hosts/hv01")


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


async def test_a_host_removed_while_it_is_asked_gets_no_vm(running: Running) -> None:
    registering, dispatch = await running.registering(VM_ID)
    await running.hosts.RemoveHost(REMOVE, CALLER)
    running.answer(dispatch, FakeHost().report())
    with pytest.raises(NotFound):
        await registering
    assert running.service.vms.registered() == ()


async def test_a_host_whose_removal_is_being_recorded_gets_no_vm(running: Running) -> None:
    registering, dispatch = await running.registering(VM_ID)
    running.log.held = host_stream(HV01)
    removing = asyncio.create_task(running.hosts.RemoveHost(REMOVE, CALLER))
    await running.log.arrived.wait()
    running.answer(dispatch, FakeHost().report())
    await turns()
    running.log.released.set()
    await removing
    with pytest.raises(NotFound):
        await registering
    assert running.service.vms.registered() == ()


@pytest.mark.parametrize("patient", [True, False])
async def test_a_host_that_a_vm_is_being_registered_on_is_in_use(running: Running, *, patient: bool) -> None:
    registering, dispatch = await running.registering(VM_ID)
    running.log.held = vm_stream(VM_ID)
    running.answer(dispatch, FakeHost().report())
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


async def test_a_host_whose_registration_nobody_waits_for_any_more_is_there_and_can_be_removed(
    running: Running,
) -> None:
    host = host_pb2.Host(address="10.0.0.2", credential="hv")
    request = host_pb2.RegisterHostRequest(host_id="hv02", host=host)
    running.log.held = host_stream(HostId("hv02"))
    registering = asyncio.create_task(running.hosts.RegisterHost(request, CALLER))
    await running.log.arrived.wait()
    registering.cancel()
    await asyncio.wait([registering])
    running.log.released.set()
    with pytest.raises(AlreadyExists):
        await running.hosts.RegisterHost(request, CALLER)
    await running.hosts.RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv02"), CALLER)
    assert (await running.hosts.RegisterHost(request, CALLER)).name == "hosts/hv02"


async def test_journals_that_cannot_be_written_are_told_by_discover_and_refuse_a_registration(running: Running) -> None:
    first, other = FakeHost().report(), replace(FakeHost().report(), vm_id=OTHER)
    await running.register(first)
    unwritable = HostAnswer(
        verdict=Verdict.REPORTED,
        vms=(other,),
        journal_error_id="JournalFailed,snapshotd",
        journal_error="Access to the path 'C:\\ProgramData\\snapshotd' is denied.",
    )
    words = r"Access to the path .* is denied \(JournalFailed,snapshotd\)\. On the host, let it write"
    registering, dispatch = await running.registering(OTHER)
    running.service.runtime.outcome("executor", dispatch, unwritable)
    with pytest.raises(HostJournalsFailed, match=words):
        await registering
    assert [vm.vm_id for vm in running.service.vms.registered()] == [VM_ID]
    request = host_pb2.DiscoverVirtualMachinesRequest(name="hosts/hv01")
    discovering = asyncio.ensure_future(running.hosts.DiscoverVirtualMachines(request, CALLER))
    running.service.runtime.outcome("executor", await running.asked.orders.get(), unwritable)
    found = await discovering
    assert [vm.vm_id for vm in found.virtual_machines] == [OTHER], "what is there is shown all the same"
    host = await running.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv01"), CALLER)
    for wait in (found.wait, host.wait):
        assert wait.reason == "JOURNALS_NOT_WRITABLE"
        assert re.search(words, wait.message)
    await running.register(other)
    host = await running.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv01"), CALLER)
    assert not host.HasField("wait")
