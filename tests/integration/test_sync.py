"""Hosts are compared with the record: at attach, again when that went wrong, at intervals; quietly if all is well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1 import executor_pb2, host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.domain.host_errors import HostAnswerLost, HostAuthenticationFailed, HostCommandFailed
from snapshotd.domain.host_report import Journal, JournalState, Unread, VmReport
from snapshotd.domain.ids import host_stream, vm_stream
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.server.host_wire import no_answer, to_command
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, HV01, INTERVAL_S, Running, run, turns

OTHER = "22222222-2222-4222-8222-222222222222"


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


@pytest.mark.parametrize("defect", [False, True])
async def test_a_vm_that_cannot_be_compared_does_not_hold_up_the_others(
    running: Running, caplog: pytest.LogCaptureFixture, *, defect: bool
) -> None:
    up, off = FakeHost().report(), FakeHost(power=Power.STOPPED).report()
    for vm_id in (VM_ID, OTHER):
        await running.register(replace(up, vm_id=vm_id))
    running.log.refused = vm_stream(VM_ID)
    running.log.refused_with = KeyError("a defect") if defect else running.log.refused_with
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    running.answer(await running.asked.orders.get(), *(replace(off, vm_id=vm_id) for vm_id in (VM_ID, OTHER)))
    synced = await syncing
    assert synced.virtual_machines_compared == 1
    assert list(synced.virtual_machines_skipped) == [f"virtualMachines/{VM_ID}"]
    (why,) = synced.skip_reasons
    assert (why.name, why.display_name) == (f"virtualMachines/{VM_ID}", "web01")
    assert why.reason == ("INTERNAL" if defect else "LOG_UNAVAILABLE")
    assert ("See the daemon's log" if defect else "refused by the test") in why.message
    assert [d.subject for d in synced.drifts] == [f"virtualMachines/{OTHER}"]
    assert f"vm {VM_ID}: not compared with the record" in caplog.text
    assert ("a defect" in caplog.text) == defect


async def test_a_vm_whose_journal_knows_more_is_left_out_by_the_sync_that_finds_it(running: Running) -> None:
    up = FakeHost().report()
    await running.register(up)
    newer = Journal(state=JournalState.PRESENT, journal_id="j", highest_token=1000)
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    running.answer(await running.asked.orders.get(), replace(up, journal=newer))
    synced = await syncing
    assert (synced.virtual_machines_compared, [w.reason for w in synced.skip_reasons]) == (0, ["LOG_ROLLED_BACK"])


async def looked(running: Running, *vms: VmReport, elapsed_s: float) -> bool:
    """Let time pass and the hosts that are due be compared; say whether the host was asked."""
    running.time.s += elapsed_s
    running.comparisons.look()
    await turns()
    asked = not running.asked.orders.empty()
    if asked:
        running.answer(running.asked.orders.get_nowait(), *vms)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("sync ")))
    return asked


async def test_a_silent_host_holds_up_the_comparison_of_no_other(running: Running) -> None:
    host = host_pb2.Host(address="hv02.example.com", credential="hv02")
    await running.hosts.RegisterHost(host_pb2.RegisterHostRequest(host_id="hv02", host=host), CALLER)
    running.comparisons.look()
    running.time.s += INTERVAL_S
    running.comparisons.look()
    await turns()
    asked = [running.asked.orders.get_nowait() for _ in range(2)]
    assert running.asked.latest is not None
    running.answer(asked[-1])
    syncing = {task.get_name(): task for task in asyncio.all_tasks() if task.get_name().startswith("sync ")}
    silent = syncing.pop("sync hv01" if running.asked.latest.host_id == "hv02" else "sync hv02")
    await asyncio.gather(*syncing.values())
    assert not silent.done()


async def last_sync(running: Running) -> datetime:
    """Return what is told of the host."""
    host = await running.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv01"), CALLER)
    return host.last_sync_time.ToDatetime(UTC)


async def test_a_host_is_compared_at_intervals_and_the_log_of_an_idle_one_does_not_grow(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapshotd.server.sync_schedule")
    report = FakeHost().report()
    await running.register(report)
    assert not await looked(running, elapsed_s=0)
    before, told = running.log.head_position(), await last_sync(running)
    for _ in range(3):
        assert not await looked(running, elapsed_s=INTERVAL_S - 1)
        assert await looked(running, report, elapsed_s=1)
        told, earlier = await last_sync(running), told
        assert told > earlier
    assert running.log.head_position() == before
    assert caplog.text == ""
    off = FakeHost(power=Power.STOPPED).report()
    assert await looked(running, off, elapsed_s=INTERVAL_S)
    types = [type(e.event).__name__ for e in await running.log.read_all(before, 10)]
    assert types == ["DriftDetected", "VmPowerChanged", "HostSynced"]
    assert "host hv01: 1 VMs compared, 1 drifts" in caplog.text
    assert await looked(running, off, elapsed_s=INTERVAL_S)
    assert running.log.head_position() == before + 3


async def test_a_comparison_at_attach_that_went_wrong_is_made_again_soon_and_then_is_on_record(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapshotd.server.sync_schedule")
    report = FakeHost().report()
    await running.register(report)
    before = running.log.head_position()
    running.comparisons.attached([HV01])
    runtime = running.service.runtime
    runtime.outcome("executor", await running.asked.orders.get(), no_answer("HOST_UNREACHABLE", "It is down."))
    await turns()
    assert "could not be compared" in caplog.text
    assert not await looked(running, elapsed_s=4)
    assert await looked(running, report, elapsed_s=1)
    types = [type(e.event).__name__ for e in await running.log.read_all(before, 10)]
    assert types == ["HostSynced"]
    assert "host hv01: 1 VMs compared, 0 drifts" in caplog.text


async def test_one_reason_is_logged_once_while_a_host_cannot_be_compared(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.service.runtime.detached("executor", running.asked)
    running.comparisons.attached([HV01])
    await turns()
    running.service.runtime.attached("executor", frozenset(["*"]), running.asked)
    running.log.refused = host_stream(HV01)
    for refused_with in (LogUnavailable("full"), LogUnavailable("full"), KeyError("a defect"), KeyError("a defect")):
        running.log.refused_with = refused_with
        assert await looked(running, elapsed_s=INTERVAL_S)
    told = [r.getMessage() + (r.exc_text or "") for r in caplog.records if "could not be compared" in r.getMessage()]
    assert len(told) == 3
    assert [why in text for why, text in zip(("no executor", "full", "a defect"), told, strict=True)] == [True] * 3


async def test_a_defect_in_comparing_a_host_is_shown_until_the_host_is_compared_or_gone(running: Running) -> None:
    def shown() -> list[str]:
        return [subject for subject, _ in running.comparisons._troubles.all()]

    running.comparisons.attached([HV01])
    running.log.refused = host_stream(HV01)
    running.answer(await running.asked.orders.get())
    await turns()
    assert shown() == []
    running.log.refused_with = KeyError("a defect")
    assert await looked(running, elapsed_s=INTERVAL_S)
    assert shown() == ["sync of host hv01"]
    running.log.refused = None
    assert await looked(running, elapsed_s=INTERVAL_S)
    assert shown() == []


async def test_two_comparisons_of_one_host_come_one_after_the_other(running: Running) -> None:
    request = host_pb2.SyncHostRequest(name="hosts/hv01")
    syncing = [asyncio.create_task(running.hosts.SyncHost(request, CALLER)) for _ in range(3)]
    for _ in syncing:
        dispatch = await running.asked.orders.get()
        await turns()
        assert running.asked.orders.empty()
        running.answer(dispatch)
    await asyncio.gather(*syncing)


async def test_syncs_that_wait_while_a_sign_in_is_refused_take_that_refusal(running: Running) -> None:
    request = host_pb2.SyncHostRequest(name="hosts/hv01")
    for asked in (1, 2):
        syncing = [asyncio.create_task(running.hosts.SyncHost(request, CALLER)) for _ in range(10)]
        dispatch = await running.asked.orders.get()
        await turns()
        running.service.runtime.outcome("executor", dispatch, no_answer("AUTHENTICATION_FAILED", "It is locked."))
        async with asyncio.timeout(10):
            refusals = await asyncio.gather(*syncing, return_exceptions=True)
        assert [type(refusal) for refusal in refusals] == [HostAuthenticationFailed] * 10
        assert {str(refusal) for refusal in refusals} == {str(refusals[0])}
        assert len(running.asked.seen) == asked


async def test_a_sync_that_a_person_asks_for_does_not_take_the_refusal_of_one_that_nobody_did(running: Running) -> None:
    running.comparisons.attached([HV01])
    dispatch = await running.asked.orders.get()
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    await turns()
    running.service.runtime.outcome("executor", dispatch, no_answer("AUTHENTICATION_FAILED", "It is paused."))
    running.answer(await running.asked.orders.get())
    await syncing
    assert [order.asked for order in running.asked.seen] == [False, True]


async def test_without_an_executor_or_a_registration_nothing_is_asked(running: Running) -> None:
    assert not await looked(running, elapsed_s=0)
    running.service.runtime.detached("executor", running.asked)
    assert not await looked(running, elapsed_s=INTERVAL_S)
    running.service.runtime.attached("executor", frozenset(["*"]), running.asked)
    await running.hosts.RemoveHost(host_pb2.RemoveHostRequest(name="hosts/hv01"), CALLER)
    assert not await looked(running, elapsed_s=INTERVAL_S)


def missing(vm_id: str) -> VmReport:
    """Report, for a VM that was asked for, that the host does not have it."""
    return VmReport(vm_id=vm_id, power=Power.ABSENT, host_state="", description=None)


@pytest.mark.parametrize("there", ["asked for by itself", "gone", "not told"])
async def test_a_vm_that_a_list_leaves_out_is_asked_for_by_itself(running: Running, there: str) -> None:
    up = FakeHost().report()
    for vm_id in (VM_ID, OTHER):
        await running.register(replace(up, vm_id=vm_id))
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    running.answer(await running.asked.orders.get(), replace(up, vm_id=OTHER))
    dispatch = await running.asked.orders.get()
    assert running.asked.latest is not None
    assert running.asked.latest.vm_id == VM_ID
    if there == "not told":
        running.fail(dispatch, "RightsMissing,snapshotd")
    else:
        running.answer(dispatch, up if there == "asked for by itself" else missing(VM_ID))
    synced = await syncing
    assert [d.kind for d in synced.drifts] == (["VM_MISSING"] if there == "gone" else [])
    assert list(synced.virtual_machines_skipped) == ([f"virtualMachines/{VM_ID}"] if there == "not told" else [])
    assert [vm.reason for vm in synced.skip_reasons] == (["HOST_COMMAND_FAILED"] if there == "not told" else [])


async def test_a_vm_that_its_host_could_not_read_is_left_out_with_what_the_host_said(running: Running) -> None:
    up = FakeHost().report()
    await running.register(up)
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    unread = Unread("web01", "ObjectNotFound,Get-VM", "Its folder is gone. " + "x" * 1000)
    running.answer(await running.asked.orders.get(), replace(up, power=Power.UNKNOWN, description=None, unread=unread))
    (why,) = (await syncing).skip_reasons
    assert (why.reason, len(why.message)) == ("UNREADABLE", 500)
    assert why.message.startswith("Its folder is gone. ")


async def test_a_host_that_refuses_to_list_its_vms_makes_none_of_them_absent_and_is_shown_so(running: Running) -> None:
    await running.register(FakeHost().report())
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    running.fail(await running.asked.orders.get(), "RightsMissing,snapshotd")
    with pytest.raises(HostCommandFailed, match="RightsMissing"):
        await syncing
    host = await running.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv01"), CALLER)
    assert host.wait.reason == "HOST_COMMAND_FAILED"
    vm = await running.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=f"virtualMachines/{VM_ID}"), CALLER)
    assert vm.power == executor_pb2.RUNNING


async def test_a_report_of_many_vms_is_asked_for_in_parts(running: Running) -> None:
    up, off = FakeHost().report(), FakeHost(power=Power.STOPPED).report()
    for vm_id in (VM_ID, OTHER):
        await running.register(replace(up, vm_id=vm_id))
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    running.answer(await running.asked.orders.get(), off, more=True)
    dispatch = await running.asked.orders.get()
    assert running.asked.latest is not None
    assert (running.asked.latest.vm_id, running.asked.latest.after_vm_id) == (None, VM_ID)
    running.answer(dispatch, replace(off, vm_id=OTHER))
    synced = await syncing
    assert (synced.virtual_machines_compared, len(synced.drifts)) == (2, 2)


async def test_only_what_a_person_asks_for_is_told_as_that(running: Running) -> None:
    report = FakeHost().report()
    await running.register(report)
    name = f"hosts/{HV01}"
    for call in (
        running.hosts.SyncHost(host_pb2.SyncHostRequest(name=name), CALLER),
        running.hosts.DiscoverVirtualMachines(host_pb2.DiscoverVirtualMachinesRequest(name=name), CALLER),
    ):
        calling = asyncio.ensure_future(call)
        running.answer(await running.asked.orders.get(), report)
        await calling
    assert [order.asked for order in running.asked.seen] == [True] * 3
    assert not await looked(running, elapsed_s=0)
    assert await looked(running, report, elapsed_s=INTERVAL_S)
    running.comparisons.attached([HV01])
    running.answer(await running.asked.orders.get(), report)
    await turns()
    assert [order.asked for order in running.asked.seen[3:]] == [False] * 2
    commands = [to_command(order, "i", "") for order in running.asked.seen]
    assert [command.asked for command in commands] == [True] * 3 + [False] * 2


async def test_parts_of_a_report_that_do_not_follow_one_another_end_it(running: Running) -> None:
    up = FakeHost().report()
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    for _ in range(2):
        running.answer(await running.asked.orders.get(), up, more=True)
    with pytest.raises(HostAnswerLost, match="does not follow"):
        await syncing


async def test_what_a_sync_finds_is_by_the_host_and_the_sync_by_who_asked(running: Running) -> None:
    await running.register(FakeHost().report())
    before = running.log.head_position()
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    running.answer(await running.asked.orders.get(), FakeHost(power=Power.STOPPED).report())
    (drift,) = (await syncing).drifts
    assert (drift.kind, drift.recorded, drift.observed) == ("POWER_STATE_CHANGED", "RUNNING", "STOPPED")
    actors = {type(e.event).__name__: e.actor for e in await running.log.read_all(before, 10)}
    assert {actors[name] for name in ("DriftDetected", "VmPowerChanged")} == {"hv01"}
    assert actors["HostSynced"] not in ("hv01", "snapshotd")
