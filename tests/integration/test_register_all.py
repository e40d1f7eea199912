"""All VMs of a host are registered by one report of it; what stands in the way of one holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.domain.errors import NotFound
from snapshotd.domain.host import Host
from snapshotd.domain.host_report import Unread, VmReport
from snapshotd.domain.ids import HostId, vm_stream
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.state import replace
from tests.fakes import FakeHost
from tests.integration.quiet_server import CALLER, Running, run, turns
from tests.integration.writing import registered

HV02 = HostId("hv02")


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


def named(number: int, name: str) -> VmReport:
    """Return the report of a VM."""
    report = FakeHost().report()
    assert report.description is not None
    return replace(
        report,
        vm_id=f"22222222-2222-4222-8222-{number:012d}",
        description=replace(report.description, name=name),
    )


def unread(number: int, name: str) -> VmReport:
    """Return what a host says of a VM that it could not read."""
    why = Unread(name, "StorageUnreachable", "The folder is gone.")
    return replace(named(number, name), power=Power.UNKNOWN, description=None, unread=why)


async def register(running: Running, *vms: VmReport, **fields: object) -> pb.RegisterHostVirtualMachinesResponse:
    """Register all VMs of the host, which reports these."""
    request = pb.RegisterHostVirtualMachinesRequest(host="hosts/hv01", **fields)  # type: ignore[arg-type]
    call = asyncio.create_task(running.vms.RegisterHostVirtualMachines(request, CALLER))
    running.answer(await running.asked.orders.get(), *vms)
    return await call


async def on_record(running: Running) -> set[str]:
    """Return the names of the VMs on record."""
    return {vm.name for vm in await registered(running.service.log)}


async def test_all_vms_are_registered_by_one_report_and_a_repetition_adds_the_new_ones(running: Running) -> None:
    vms = [named(n, f"web{n}") for n in range(200)]
    first = await register(running, *vms, owner="ops")
    assert first.registered == [f"virtualMachines/{vm.vm_id}" for vm in vms]
    assert {vm.owner for vm in await registered(running.service.log)} == {"ops"}
    again = await register(running, *vms, named(900, "new"))
    assert (list(again.registered), again.registered_before) == (
        ["virtualMachines/22222222-2222-4222-8222-000000000900"],
        200,
    )
    assert len(running.asked.seen) == 2, "one report for each call"


async def test_those_whose_names_match_are_registered(running: Running) -> None:
    said = await register(
        running, named(1, "web01"), named(2, "WEB02"), named(3, "db01"), name_patterns=["web*", "none"]
    )
    assert len(said.registered) == 2
    assert await on_record(running) == {"web01", "WEB02"}


async def test_one_that_cannot_be_registered_is_told_with_its_reason_and_holds_up_no_other(running: Running) -> None:
    elsewhere = named(1, "moved")
    await running.service.hosts.register(
        Host(host_id=HV02, address="10.0.0.2", transport="NTLM_HTTP", credential="hv"),
        actor="ann",
        request_id="",
        digest="",
    )
    request = pb.RegisterVirtualMachineRequest(host=f"hosts/{HV02}", vm_id=elsewhere.vm_id)
    registering = asyncio.create_task(running.vms.RegisterVirtualMachine(request, CALLER))
    running.answer(await running.asked.orders.get(), elsewhere)
    await registering
    failing = named(3, "refused by the log")
    running.log.refused = vm_stream(failing.vm_id)  # type: ignore[arg-type]
    said = await register(running, elsewhere, unread(2, "gone"), failing, named(4, "well"))
    assert [(vm.display_name, vm.failure.reason) for vm in said.refused] == [
        ("moved", "VIRTUAL_MACHINE_EXISTS"),
        ("gone", "UNREADABLE"),
        ("refused by the log", "LOG_UNAVAILABLE"),
    ]
    assert "The folder is gone. (StorageUnreachable)" in said.refused[1].failure.message
    trial = await register(running, elsewhere, validate_only=True)
    for told in (said.refused[0].failure.message, trial.refused[0].failure.message):
        assert f"`snapshotctl vm show {elsewhere.vm_id}` tells, if you may see it" in told
        assert HV02 not in told  # who may register on hv01 need not see what is on another host
    assert await on_record(running) == {"moved", "well"}


async def test_a_trial_tells_the_same_and_records_nothing(running: Running) -> None:
    head = running.log.head_position()
    said = await register(running, named(1, "a"), unread(2, "b"), validate_only=True)
    assert (len(said.registered), [vm.display_name for vm in said.refused]) == (1, ["b"])
    assert running.log.head_position() == head


async def test_a_host_that_is_removed_while_it_is_asked_gets_no_vms(running: Running) -> None:
    request = pb.RegisterHostVirtualMachinesRequest(host="hosts/hv01")
    call = asyncio.create_task(running.vms.RegisterHostVirtualMachines(request, CALLER))
    dispatch = await running.asked.orders.get()
    await running.hosts.RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv01"), CALLER)
    running.answer(dispatch, named(1, "a"))
    await turns()
    with pytest.raises(NotFound):
        await call
    assert await on_record(running) == set()
