"""Syncs of two hosts that report the same VMs: whom they ask, what they record, and what they leave out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from snapshotd.api.v1 import admin_pb2, host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.domain.errors import ClaimedByTwoHosts
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.state import replace
from snapshotd.server.host_wire import no_answer
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, HV01, Running, run, turns

HV02 = HostId("hv02")
OTHER = "22222222-2222-4222-8222-222222222222"
UP = FakeHost().report()
DOWN = no_answer("HOST_UNREACHABLE", "It is down.")


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Run a server with two hosts, and one VM on the first."""
    async with run(tmp_path) as served:
        host = host_pb2.Host(address="hv02.example.com", credential="hv02")
        await served.hosts.RegisterHost(host_pb2.RegisterHostRequest(host_id=HV02, host=host), CALLER)
        await served.register(UP)
        yield served


def missing(vm_id: str = VM_ID) -> VmReport:
    """Report, for a VM that was asked for, that the host does not have it."""
    return VmReport(vm_id=vm_id, power=Power.ABSENT, host_state="", description=None)


def replica() -> VmReport:
    """Report a replica."""
    assert UP.description is not None
    return replace(UP, description=replace(UP.description, is_replica=True))


async def sync(
    running: Running, host: str, *answers: tuple[HostId, VmReport | None]
) -> tuple[host_pb2.SyncHostResponse, list[tuple[str, bool]]]:
    """Sync a host. Each answer comes from the host that is said, in this order; None: it cannot be reached.

    Return what the caller gets, and which host was asked each time, and whether for one VM.
    """
    asked = len(running.asked.seen)
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name=f"hosts/{host}"), CALLER))
    for host_id, report in answers:
        dispatch = await running.asked.orders.get()
        assert running.asked.latest is not None
        assert running.asked.latest.host_id == host_id
        if report is None:
            running.service.runtime.outcome("executor", dispatch, DOWN)
        else:
            running.answer(dispatch, report)
    synced = await syncing
    return synced, [(order.host_id, order.vm_id is not None) for order in running.asked.seen[asked:]]


def kinds(synced: host_pb2.SyncHostResponse) -> list[str]:
    """Return the kinds of the drifts that a sync has found."""
    return [drift.kind for drift in synced.drifts]


async def vm(running: Running) -> vm_pb2.VirtualMachine:
    """Return the VM."""
    request = vm_pb2.GetVirtualMachineRequest(name=f"virtualMachines/{VM_ID}")
    return await running.vms.GetVirtualMachine(request, CALLER)


async def test_the_old_host_is_asked_for_the_very_vm_before_a_move_is_followed(running: Running) -> None:
    synced, asked = await sync(running, HV02, (HV02, UP), (HV01, missing()))
    assert asked == [(HV02, False), (HV01, True)]
    assert (kinds(synced), synced.virtual_machines_compared) == (["VM_MOVED"], 1)
    assert (await vm(running)).host == "hosts/hv02"
    hosts = {h.name: h.virtual_machine_count for h in (await running.hosts.ListHosts(_LIST, CALLER)).hosts}
    assert hosts == {"hosts/hv01": 0, "hosts/hv02": 1}


_LIST = host_pb2.ListHostsRequest()


async def test_a_replica_is_not_asked_about(running: Running) -> None:
    synced, asked = await sync(running, HV02, (HV02, replica()))
    assert (list(synced.drifts), len(asked)) == ([], 1)


async def test_a_vm_that_moves_back_between_the_two_reports_is_not_taken_for_claimed(running: Running) -> None:
    synced, _ = await sync(running, HV02, (HV02, UP), (HV01, UP), (HV02, missing()))
    assert list(synced.drifts) == []
    assert not (await vm(running)).conditions


async def test_while_both_have_it_each_sync_asks_both_and_says_why_it_is_left_out(running: Running) -> None:
    both = (HV01, UP), (HV02, UP)
    synced, _ = await sync(running, HV02, (HV02, UP), *both)
    assert kinds(synced) == ["VM_CLAIMED_BY_TWO_HOSTS"]
    (told,) = (await running.admin.GetStatus(admin_pb2.GetStatusRequest(), CALLER)).problems
    assert (told.subject, told.reason) == (f"VM {VM_ID}", ClaimedByTwoHosts.reason)
    for host, answers in ((HV02, ((HV02, UP), *both)), (HV01, ((HV01, UP), (HV02, UP), (HV01, UP)))):
        synced, _ = await sync(running, host, *answers)
        assert list(synced.drifts) == []
        assert [why.reason for why in synced.skip_reasons] == [ClaimedByTwoHosts.reason]
    off = FakeHost(power=Power.STOPPED).report()
    synced, _ = await sync(running, HV01, (HV01, off), (HV02, missing()), (HV01, off))
    assert kinds(synced) == ["VM_CLAIM_ENDED", "POWER_STATE_CHANGED"], "free again, it is compared at once"
    assert (await vm(running)).host == "hosts/hv01"


async def test_a_claim_that_is_resolved_the_other_way_is_a_move_whichever_host_is_synced(running: Running) -> None:
    await sync(running, HV02, (HV02, UP), (HV01, UP), (HV02, UP))
    synced, _ = await sync(running, HV01, (HV01, missing(OTHER)), (HV02, UP), (HV01, missing()))
    assert kinds(synced) == ["VM_MOVED"]
    assert not (await vm(running)).conditions


async def test_a_host_that_cannot_be_asked_is_tried_once_for_all_its_vms(running: Running) -> None:
    await running.register(replace(UP, vm_id=OTHER))
    asked = len(running.asked.seen)
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv02"), CALLER))
    running.answer(await running.asked.orders.get(), UP, replace(UP, vm_id=OTHER))
    running.service.runtime.outcome("executor", await running.asked.orders.get(), DOWN)
    synced = await syncing
    assert kinds(synced) == ["VM_CLAIMED_BY_TWO_HOSTS"] * 2
    assert len(running.asked.seen) - asked == 2
    (told,) = (await vm(running)).conditions
    assert "HOST_UNREACHABLE" in told.message


async def test_the_claim_of_a_host_that_is_removed_ends(running: Running) -> None:
    await sync(running, HV02, (HV02, UP), (HV01, UP), (HV02, UP))
    await running.hosts.RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv02"), CALLER)
    synced, _ = await sync(running, HV01, (HV01, UP), (HV01, UP))
    assert kinds(synced) == ["VM_CLAIM_ENDED"]


async def test_a_host_that_is_removed_while_it_is_asked_gets_no_vm(running: Running) -> None:
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv02"), CALLER))
    running.answer(await running.asked.orders.get(), UP)
    dispatch = await running.asked.orders.get()
    await running.hosts.RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv02"), CALLER)
    running.answer(dispatch, missing())
    await asyncio.gather(syncing, return_exceptions=True)
    assert (await vm(running)).host == "hosts/hv01"


async def test_a_vm_that_its_host_does_not_have_is_looked_for_on_the_others_while_an_operation_waits(
    running: Running,
) -> None:
    starting = vm_pb2.StopVirtualMachineRequest(name=f"virtualMachines/{VM_ID}")
    await running.vms.StopVirtualMachine(starting, CALLER)
    await turns()
    dispatch = await running.asked.orders.get()
    observed = FakeHost()
    observed.gone = True
    assert running.asked.latest is not None
    running.service.runtime.outcome("executor", dispatch, observed.observe(running.asked.latest.token))
    await turns()
    running.comparisons.look()
    await turns()
    dispatch = await running.asked.orders.get()
    assert (running.asked.latest.host_id, running.asked.latest.vm_id) == (HV02, VM_ID)
    running.answer(dispatch, UP)
    for host, report in ((HV01, missing()),):
        dispatch = await running.asked.orders.get()
        assert running.asked.latest.host_id == host
        running.answer(dispatch, report)
    await turns()
    while running.asked.latest.host_id != HV02 or running.asked.latest.token == 0:
        await running.asked.orders.get()
    assert running.service.vms.known(VM_ID).host_id == HV02
