"""Hosts come and go under calls that fall together, or that nobody waits for any more.

A VM is never registered on a host that is not, and what is known of a host is what the log has.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.domain.errors import AlreadyExists, InvalidArgument, NotFound, OperationActive, RequestIdReused
from snapshotd.domain.events import VmUnregistered
from snapshotd.domain.host_errors import HostInUse, HostJournalsFailed, HostUnreachable
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, VmId, host_stream, vm_stream
from snapshotd.domain.state import replace
from snapshotd.server.host_wire import no_answer
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, HV01, Running, run, turns
from tests.integration.writing import registered

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
    assert await registered(running.service.log) == []


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
    assert await registered(running.service.log) == []


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
    assert [vm.vm_id for vm in await registered(running.service.log)] == [VM_ID]
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
    assert [vm.vm_id for vm in await registered(running.service.log)] == [VM_ID]
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


WITH_ITS_VMS = host_pb2.RemoveHostRequest(name="hosts/hv01", unregister=True, request_id=OTHER)


async def test_a_host_is_removed_with_its_vms_each_on_record_and_a_repetition_is_answered(running: Running) -> None:
    for vm_id in (VM_ID, OTHER):
        await running.register(replace(FakeHost().report(), vm_id=vm_id))
    with pytest.raises(HostInUse, match="--unregister"):
        await running.hosts.RemoveHost(REMOVE, CALLER)
    await running.hosts.RemoveHost(WITH_ITS_VMS, CALLER)
    assert (await registered(running.service.log), running.service.hosts.registered()) == ([], ())
    unregistered = [e for e in await running.log.read_all(0, 100) if isinstance(e.event, VmUnregistered)]
    assert {e.stream for e in unregistered} == {vm_stream(VM_ID), vm_stream(VmId(OTHER))}
    assert {e.request_id for e in unregistered} == {OTHER}
    await running.hosts.RemoveHost(WITH_ITS_VMS, CALLER)
    wanted = host_pb2.Host(address="10.0.0.1", credential="hv")
    await running.hosts.RegisterHost(host_pb2.RegisterHostRequest(host_id="hv01", host=wanted), CALLER)
    await running.register(FakeHost().report())
    await running.hosts.RemoveHost(WITH_ITS_VMS, CALLER)
    assert [vm.vm_id for vm in await registered(running.service.log)] == [VM_ID], "the request was carried out before"
    with pytest.raises(RequestIdReused):
        await running.hosts.RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv01", request_id=OTHER), CALLER)


async def test_a_host_with_a_vm_at_work_is_not_removed_and_no_other_vm_is_unregistered(running: Running) -> None:
    idle = replace(FakeHost().report(), vm_id=OTHER)
    await running.register(idle)
    await running.register(FakeHost().report())
    request = vm_pb2.StopVirtualMachineRequest(
        name=f"virtualMachines/{VM_ID}", mode=vm_pb2.StopVirtualMachineRequest.TURN_OFF
    )
    operation = await running.vms.StopVirtualMachine(request, CALLER)
    before = running.log.head_position()
    with pytest.raises(OperationActive, match=re.escape(operation.name)):
        await running.hosts.RemoveHost(WITH_ITS_VMS, CALLER)
    assert {vm.vm_id for vm in await registered(running.service.log)} == {VM_ID, OTHER}
    recorded = [e.event for e in await running.log.read_all(before, 100)]
    assert not any(isinstance(event, VmUnregistered) for event in recorded)
    assert running.service.hosts.registered()


async def test_what_is_requested_while_a_host_is_removed_waits_and_is_refused(running: Running) -> None:
    await running.register(FakeHost().report())
    running.log.held = vm_stream(VM_ID)
    removing = asyncio.create_task(running.hosts.RemoveHost(WITH_ITS_VMS, CALLER))
    await running.log.arrived.wait()
    request = vm_pb2.StopVirtualMachineRequest(
        name=f"virtualMachines/{VM_ID}", mode=vm_pb2.StopVirtualMachineRequest.TURN_OFF
    )
    stopping = asyncio.create_task(running.vms.StopVirtualMachine(request, CALLER))
    await turns()
    running.log.released.set()
    await removing
    with pytest.raises(NotFound):
        await stopping


async def test_what_was_requested_before_a_host_is_removed_refuses_the_removal(running: Running) -> None:
    await running.register(FakeHost().report())
    running.log.held = vm_stream(VM_ID)
    request = vm_pb2.StopVirtualMachineRequest(
        name=f"virtualMachines/{VM_ID}", mode=vm_pb2.StopVirtualMachineRequest.TURN_OFF
    )
    stopping = asyncio.create_task(running.vms.StopVirtualMachine(request, CALLER))
    await running.log.arrived.wait()
    removing = asyncio.create_task(running.hosts.RemoveHost(WITH_ITS_VMS, CALLER))
    await turns()
    running.log.released.set()
    with pytest.raises(OperationActive):
        await removing
    await stopping
    assert await registered(running.service.log)


async def test_the_way_to_a_host_is_changed_and_it_is_tried_at_once(running: Running) -> None:
    name = "hosts/hv01"
    await running.backend.views.reached(running.log.head_position())
    asking = asyncio.ensure_future(
        running.hosts.DiscoverVirtualMachines(host_pb2.DiscoverVirtualMachinesRequest(name=name), CALLER)
    )
    dispatch = await running.asked.orders.get()
    running.service.runtime.outcome("executor", dispatch, no_answer("HOST_UNREACHABLE", "Nobody is there."))
    with pytest.raises(HostUnreachable):
        await asking
    assert (await running.hosts.GetHost(host_pb2.GetHostRequest(name=name), CALLER)).state == host_pb2.Host.UNREACHABLE
    changed = host_pb2.Host(name=name, address="hv01.example.com", credential="other")
    host = await running.hosts.UpdateHost(host_pb2.UpdateHostRequest(host=changed), CALLER)
    assert (host.address, host.port, host.credential) == ("hv01.example.com", 5985, "other")
    assert (host.state, host.wait.reason) == (host_pb2.Host.UNTRIED, "")
    running.answer(await running.asked.orders.get())
    await turns()
    assert (await running.hosts.GetHost(host_pb2.GetHostRequest(name=name), CALLER)).state == host_pb2.Host.REACHABLE
    again = await running.hosts.UpdateHost(host_pb2.UpdateHostRequest(host=changed), CALLER)
    assert again.state == host_pb2.Host.REACHABLE, "nothing was changed"


@pytest.mark.parametrize(
    ("host", "paths", "named"),
    [
        (host_pb2.Host(), [], "''"),
        (host_pb2.Host(journal_directory="D:\\j"), [], "'journal_directory'"),
        (host_pb2.Host(labels={"a": "b"}), [], "'labels'"),
        (host_pb2.Host(address="10.0.0.2"), ["address", "state"], "'state'"),
    ],
)
async def test_an_update_of_anything_else_is_refused(
    running: Running, host: host_pb2.Host, paths: list[str], named: str
) -> None:
    host.name = "hosts/hv01"
    request = host_pb2.UpdateHostRequest(host=host, update_mask=FieldMask(paths=paths))
    with pytest.raises(InvalidArgument, match=named):
        await running.hosts.UpdateHost(request, CALLER)
    request = host_pb2.UpdateHostRequest(
        host=host_pb2.Host(name="hosts/hv01"), update_mask=FieldMask(paths=["credential"])
    )
    with pytest.raises(InvalidArgument):
        await running.hosts.UpdateHost(request, CALLER)
