"""A VM that has not changed since it was last compared is not looked at again; whatever may have changed is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from projections.projections import Projections
from snapshotd import bootstrap, executor_from_settings
from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.api.v1 import host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.application.replay import replay
from snapshotd.daemon import Service
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.host_errors import HostAnswerLost
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import VmId, host_stream, vm_stream
from snapshotd.ports.event_log import StreamRow
from snapshotd.server.host_wire import ListedVm, from_outcome
from snapshotd.server.sync import HostReports, Synced
from snapshotd.settings import load
from tests.fakes import VM_ID
from tests.integration.quiet_server import CALLER, HV01, Asked, Running, run, turns

OTHER = VmId("22222222-2222-4222-8222-222222222222")
BOTH = (VM_ID, OTHER)
SYNC = host_pb2.SyncHostRequest(name=f"hosts/{HV01}")
DISCOVER = host_pb2.DiscoverVirtualMachinesRequest(name=f"hosts/{HV01}")


def message(vm_id: str, power: pb.Power.ValueType = pb.RUNNING) -> pb.VmReport:
    """Return a VM as its host reports it."""
    vm = pb.VmReport(vm_id=vm_id, present=True, name=f"vm-{vm_id[0]}", power=power, checkpoint_type="Production")
    vm.disks.add(location="SCSI:0:0", path=f"C:\\{vm_id[0]}.vhdx")
    vm.files.add(path=f"C:\\{vm_id[0]}.vhdx")
    vm.journal.state, vm.journal.journal_id = pb.JournalReport.PRESENT, vm_id
    return vm


def answer_of(*vms: pb.VmReport) -> HostAnswer:
    """Return a report as the server takes it in."""
    return from_outcome(pb.CommandOutcome(answer=pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.REPORTED, vms=vms)))


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Run a server with two VMs that have been compared."""
    async with run(tmp_path) as served:
        for vm_id in BOTH:
            report = answer_of(message(vm_id)).vm
            assert report is not None
            await served.register(report)
        await synced(served, *map(message, BOTH))
        assert all(row.digest and row.compared_version == row.version for row in await rows(served))
        yield served


async def rows(running: Running) -> tuple[StreamRow, ...]:
    """Return what the log keeps of the two VMs."""
    return await running.log.rows([vm_stream(vm_id) for vm_id in BOTH])


async def synced(running: Running, *vms: pb.VmReport) -> host_pb2.SyncHostResponse:
    """Sync the host, which reports these VMs."""
    syncing = asyncio.create_task(running.hosts.SyncHost(SYNC, CALLER))
    running.service.runtime.outcome("executor", await running.asked.orders.get(), answer_of(*vms))
    return await syncing


async def first_sync(running: Running, storage: Path, *vms: pb.VmReport) -> tuple[Synced, Service]:
    """Sync the host with what another start has made of the log."""
    settings = load(None, {}, {"storage.directory": str(storage)})
    projections = Projections(running.log, storage / "other.db")
    service = bootstrap.compose(settings, running.log, projections, "i", executor_from_settings.open_pool(settings))
    await replay(running.log, service.vms, service.hosts, service.volumes)
    asked = Asked()
    service.runtime.attached("executor", frozenset(["*"]), asked)
    syncing = asyncio.create_task(HostReports(service.runtime, service.vms, service.hosts).sync(HV01, actor="ann"))
    service.runtime.outcome("executor", await asked.orders.get(), answer_of(*vms))
    result = await syncing
    projections.close()
    return result, service


async def test_the_first_sync_after_a_start_loads_no_vm_if_nothing_differs(running: Running, tmp_path: Path) -> None:
    result, service = await first_sync(running, tmp_path, *map(message, BOTH))
    assert (result.vms, result.drifts, result.skipped) == (2, (), ())
    assert [service.vms._folds.get(vm_id) for vm_id in BOTH] == [None, None]


async def test_only_what_differs_is_loaded(running: Running, tmp_path: Path) -> None:
    result, service = await first_sync(running, tmp_path, message(VM_ID), message(OTHER, pb.STOPPED))
    assert len(result.drifts) == 1
    assert service.vms._folds.get(VM_ID) is None
    assert service.vms._folds.get(OTHER) is not None


async def test_a_vm_that_has_changed_is_compared_until_nothing_is_left_to_record(running: Running) -> None:
    off = message(VM_ID), message(OTHER, pb.STOPPED)
    before = await rows(running)
    assert len((await synced(running, *off)).drifts) == 1
    same, changed = await rows(running)
    assert same == before[0]
    assert changed.version > changed.compared_version
    assert not (await synced(running, *off)).drifts
    _, again = await rows(running)
    assert (again.version, again.compared_version) == (changed.version, changed.version)
    assert again.digest != before[1].digest


async def test_files_that_grow_are_no_change(running: Running, tmp_path: Path) -> None:
    vms = [message(vm_id) for vm_id in BOTH]
    for vm in vms:
        vm.files[0].file_bytes, vm.files[0].minimum_bytes = 1 << 30, 1 << 20
    _, service = await first_sync(running, tmp_path, *vms)
    assert [service.vms._folds.get(vm_id) for vm_id in BOTH] == [None, None]


async def test_a_vm_whose_record_has_changed_is_compared_anew(running: Running, tmp_path: Path) -> None:
    vm = vm_pb2.VirtualMachine(name=f"virtualMachines/{OTHER}", labels={"team": "db"})
    request = vm_pb2.UpdateVirtualMachineRequest(virtual_machine=vm)
    request.update_mask.paths.append("labels")
    await running.vms.UpdateVirtualMachine(request, CALLER)
    _, service = await first_sync(running, tmp_path, *map(message, BOTH))
    assert service.vms._folds.get(VM_ID) is None
    assert service.vms._folds.get(OTHER) is not None
    assert [row.version - row.compared_version for row in await rows(running)] == [0, 0]


async def test_a_vm_with_an_operation_under_way_is_not_taken_for_compared(running: Running) -> None:
    request = snapshot_pb2.CreateSnapshotRequest(parent=f"virtualMachines/{OTHER}")
    request.snapshot.display_name, request.snapshot.kind = "s", snapshot_pb2.Snapshot.DISK
    await running.snapshots.CreateSnapshot(request, CALLER)
    await running.asked.orders.get()
    assert [why.name for why in (await synced(running, *map(message, BOTH))).skip_reasons] in ([], [request.parent])
    same, at_work = await rows(running)
    assert same.version == same.compared_version
    assert at_work.version > at_work.compared_version


async def test_a_vm_that_moves_away_meanwhile_is_not_taken_for_compared(running: Running) -> None:
    host = host_pb2.Host(address="hv02.example.com", credential="hv02")
    await running.hosts.RegisterHost(host_pb2.RegisterHostRequest(host_id="hv02", host=host), CALLER)
    following = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv02"), CALLER))
    outcome = running.service.runtime.outcome
    outcome("executor", await running.asked.orders.get(), answer_of(message(VM_ID)))
    running.log.held = vm_stream(VM_ID)
    gone = pb.VmReport(vm_id=VM_ID, journal=pb.JournalReport(state=pb.JournalReport.MISSING))
    outcome("executor", await running.asked.orders.get(), answer_of(gone))
    await running.log.arrived.wait()
    syncing = asyncio.create_task(synced(running, message(VM_ID, pb.STOPPED), message(OTHER)))
    await turns()
    running.log.held = None
    running.log.released.set()
    await asyncio.gather(following, syncing)
    moved, _ = await rows(running)
    assert moved.place == "host/hv02"
    assert moved.version > moved.compared_version


async def test_a_claim_that_was_left_over_ends_though_its_vm_has_not_changed(running: Running) -> None:
    volumes, path = running.service.volumes, "C:\\left-over.vhdx"
    await volumes.claim(path, VM_ID, cause=ClaimCause.REQUESTED, actor="ann")
    await synced(running, *map(message, BOTH))
    assert volumes.owner(path) is None


async def test_a_vm_that_breaks_the_protocol_is_left_out_and_holds_up_no_other(running: Running) -> None:
    broken = message(VM_ID)
    broken.checkpoints.add(name="without an id")
    answer = await synced(running, broken, message(OTHER, pb.STOPPED))
    assert [drift.subject for drift in answer.drifts] == [f"virtualMachines/{OTHER}"]
    (why,) = answer.skip_reasons
    assert (why.name, why.reason) == (f"virtualMachines/{VM_ID}", HostAnswerLost.reason)
    assert "a checkpoint without an id" in why.message
    discovering = asyncio.create_task(running.hosts.DiscoverVirtualMachines(DISCOVER, CALLER))
    running.service.runtime.outcome("executor", await running.asked.orders.get(), answer_of(broken, message(OTHER)))
    with pytest.raises(HostAnswerLost, match="a checkpoint without an id"):
        await discovering


@pytest.mark.parametrize("calls", ["sync", "discover"])
async def test_nothing_of_a_report_stays_in_memory(running: Running, calls: str) -> None:
    if calls == "sync":
        await synced(running, message(VM_ID), message(OTHER, pb.STOPPED))
    else:
        discovering = asyncio.create_task(running.hosts.DiscoverVirtualMachines(DISCOVER, CALLER))
        running.service.runtime.outcome("executor", await running.asked.orders.get(), answer_of(*map(message, BOTH)))
        assert len((await discovering).virtual_machines) == 2
        del discovering
    gc.collect()
    assert not [kept for kept in gc.get_objects() if isinstance(kept, ListedVm)]
    assert running.backend.reports.answers[HV01] == HostAnswer(verdict=Verdict.REPORTED)


async def test_what_a_sync_of_an_unchanged_host_leaves_in_the_log_is_that_it_was_made(running: Running) -> None:
    before = running.log.head_position()
    await synced(running, *map(message, BOTH))
    assert [e.stream for e in await running.log.read_all(before, 10)] == [host_stream(HV01)]
