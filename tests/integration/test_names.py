"""What a name means: of a VM on a host, of a VM that is not registered any more, of a type of event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1 import audit_pb2, snapshot_pb2, virtual_machine_pb2
from snapshotd.domain.errors import InvalidArgument, NotFound, VmNameAmbiguous
from snapshotd.domain.host_report import Unread, VmReport
from snapshotd.domain.ids import VmId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.state import replace
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, HV01, Running, run
from tests.integration.writing import write
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld, with_hosts

OTHER = VmId("22222222-2222-4222-8222-222222222222")


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


def reported(vm_id: VmId, name: str) -> VmReport:
    """Return the report of a VM."""
    report = FakeHost().report()
    assert report.description is not None
    return replace(report, vm_id=vm_id, description=replace(report.description, name=name))


def unread(vm_id: VmId, name: str) -> VmReport:
    """Return the report of a VM that its host could not read."""
    failed = Unread(name=name, error_id="OperationFailed", message="corrupted")
    return VmReport(vm_id=vm_id, power=Power.UNKNOWN, host_state="", description=None, unread=failed)


async def registering(running: Running, name: str, *vms: VmReport) -> asyncio.Task[virtual_machine_pb2.VirtualMachine]:
    """Begin to register a VM by its name, on a host that reports these."""
    request = virtual_machine_pb2.RegisterVirtualMachineRequest(host=f"hosts/{HV01}", vm_name=name)
    task = asyncio.create_task(running.vms.RegisterVirtualMachine(request, CALLER))
    running.answer(await running.asked.orders.get(), *vms)
    return task


@pytest.mark.parametrize("asked", ["Db01", "db01", "DB01"])
async def test_a_vm_that_could_not_be_read_is_found_by_its_name_in_any_case(running: Running, asked: str) -> None:
    task = await registering(running, asked, reported(VM_ID, "web01"), unread(OTHER, "Db01"))
    running.answer(await running.asked.orders.get(), reported(OTHER, "Db01"))
    assert (await task).name == f"virtualMachines/{OTHER}"


async def test_of_two_vms_of_one_name_none_is_taken_because_the_other_could_not_be_read(running: Running) -> None:
    task = await registering(running, "DB01", reported(VM_ID, "db01"), unread(OTHER, "Db01"))
    with pytest.raises(VmNameAmbiguous, match=OTHER):
        await task


@pytest.mark.parametrize("name", ["virtualMachines/x", f"virtualMachines/{OTHER}", OTHER, "hosts/hv01"])
async def test_a_vm_with_a_name_of_any_form_is_registered_by_it(running: Running, name: str) -> None:
    task = await registering(running, name, reported(VM_ID, name))
    assert ((await task).uid, (await task).display_name) == (VM_ID, name)


async def test_no_snapshot_is_told_of_a_vm_that_is_not_registered(running: Running) -> None:
    world = RecordedWorld()
    world.do(create(0))
    world.run()
    (snapshot_id,) = world.vm.snapshots
    name = f"virtualMachines/{VM_ID}/snapshots/{snapshot_id}"
    get = snapshot_pb2.GetSnapshotRequest(name=name)
    of_vm = snapshot_pb2.ListSnapshotsRequest(parent=f"virtualMachines/{VM_ID}", show_deleted=True)
    of_all = snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-", show_deleted=True)
    await write(running.log, world.envelopes)
    await running.backend.views.reached(running.log.head_position())
    assert (await running.snapshots.GetSnapshot(get, CALLER)).name == name
    assert [s.name for s in (await running.snapshots.ListSnapshots(of_vm, CALLER)).snapshots] == [name]
    assert [s.name for s in (await running.snapshots.ListSnapshots(of_all, CALLER)).snapshots] == [name]
    before = len(world.envelopes)
    with_hosts(world)
    await write(running.log, [e for e in world.envelopes[before:] if e.stream.startswith("vm/")])
    await running.backend.views.reached(running.log.head_position())
    with pytest.raises(NotFound, match="virtual machine"):
        await running.snapshots.GetSnapshot(get, CALLER)
    with pytest.raises(NotFound, match="virtual machine"):
        await running.snapshots.ListSnapshots(of_vm, CALLER)
    assert list((await running.snapshots.ListSnapshots(of_all, CALLER)).snapshots) == []


async def test_events_of_a_type_that_does_not_exist_are_refused_with_those_that_do(running: Running) -> None:
    await running.audit.ListEvents(audit_pb2.ListEventsRequest(type="SnapshotCreated"), CALLER)
    for unknown in ("Foo", "snapshotCreated", "Envelope", "SnapshotTransition"):
        with pytest.raises(InvalidArgument, match=r"must be a type of event.*: .*SnapshotCreated.*VmUnregistered"):
            await running.audit.ListEvents(audit_pb2.ListEventsRequest(type=unknown), CALLER)
    with pytest.raises(InvalidArgument, match=r"\(did you mean SnapshotCreated or "):
        await running.audit.ListEvents(audit_pb2.ListEventsRequest(type="SnapshotCretaed"), CALLER)
