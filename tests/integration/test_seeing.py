"""Lists hold what their caller may see, page by page, and watches too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.longrunning.operations_pb2 import ListOperationsRequest

from snapshotd.access.bindings import Binding, Granted
from snapshotd.access.roles import Role
from snapshotd.api.v1 import audit_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.operation_pb2 import WatchOperationsRequest
from snapshotd.domain.commands import CancelOperation, RegisterVm
from snapshotd.domain.ids import HostId, VmId
from snapshotd.server.access_errors import NotAllowed
from snapshotd.server.callers import CALLER as BY
from snapshotd.server.callers import Caller
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.operation_service import OperationService
from tests.fakes import FakeHost
from tests.integration.quiet_server import CALLER, Running, run
from tests.unit.application.cases import create

VMS = {VmId(f"{n:08x}-7a24-4c5e-8f0b-4d6a1f2b3c4d"): ("acme" if n % 3 == 0 else "other") for n in range(1, 10)}
ACMES = {vm_id for vm_id, owner in VMS.items() if owner == "acme"}
FIRST = min(VMS)


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """Run a server with VMs of two accounts, each with an operation."""
    async with run(tmp_path) as running:
        for vm_id, owner in VMS.items():
            registering = RegisterVm(host_id=HostId("hv01"), owner=owner, report=FakeHost(vm_id=vm_id).report())
            for command in (registering, create(1)):
                decided = await running.backend.vms.execute(vm_id, command, actor="ann")
                running.service.runtime.acknowledge(decided.envelopes)
        yield running


def viewer(**on: str) -> None:
    """Make the calls that follow those of a viewer."""
    bindings = (Binding(role=Role.VIEWER, subjects=frozenset(), groups=frozenset(), **on),)
    BY.set(Caller(subject="token:a", granted=Granted(bindings if on else ())))


SIGHTS = pytest.mark.parametrize(
    ("on", "seen"),
    [
        ({"account": "acme"}, ACMES),
        ({"host": "hv01"}, set(VMS)),
        ({"host": "hv02"}, set[VmId]()),
        ({"vm": FIRST}, {FIRST}),
        ({}, set[VmId]()),
    ],
)


@SIGHTS
async def test_lists_hold_what_the_caller_may_see(server: Running, on: dict[str, str], seen: set[VmId]) -> None:
    viewer(**on)
    found: list[str] = []
    token = ""
    while True:
        request = vm_pb2.ListVirtualMachinesRequest(page_size=2, page_token=token)
        page = await server.vms.ListVirtualMachines(request, CALLER)
        found += [vm.name for vm in page.virtual_machines]
        if not (token := page.next_page_token):
            break
    assert found == sorted(f"virtualMachines/{vm_id}" for vm_id in seen)
    operations = await server.operations.ListOperations(ListOperationsRequest(), CALLER)
    assert {VmId(o.name.removeprefix("operations/").partition(".")[0]) for o in operations.operations} == seen
    every = snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-")
    snapshots = await server.snapshots.ListSnapshots(every, CALLER)
    assert {VmId(s.name.split("/")[1]) for s in snapshots.snapshots} == seen
    copies = vm_pb2.ListVolumeSnapshotsRequest(parent="virtualMachines/-")
    assert not (await server.vms.ListVolumeSnapshots(copies, CALLER)).volume_snapshots
    hosts = await server.hosts.ListHosts(host_pb2.ListHostsRequest(), CALLER)
    assert [h.name for h in hosts.hosts] == (["hosts/hv01"] if on == {"host": "hv01"} else [])


@SIGHTS
async def test_a_watch_sees_no_more_than_a_list(server: Running, on: dict[str, str], seen: set[VmId]) -> None:
    viewer(**on)
    service = OperationService(server.backend, OperationReader(server.backend), 60.0)
    told = set()
    async for answer in service.WatchOperations(WatchOperationsRequest(), CALLER):
        if answer.complete:
            break
        told.add(VmId(answer.operation.name.removeprefix("operations/").partition(".")[0]))
    assert told == seen


async def test_a_refusal_is_an_event_that_auditors_find(server: Running) -> None:
    method = "/snapshotd.api.v1.HostService/RegisterHost"
    error = NotAllowed(method[1:], "token:a", "it takes the role admin on a host")
    server.service.refusals.refused("token:a", method, error, "ipv4:10.0.0.9:1")
    await server.service.refusals.record()
    await server.backend.views.reached(server.log.head_position())
    found = await server.audit.ListEvents(audit_pb2.ListEventsRequest(type="CallRefused", actor="token:a"), CALLER)
    (event,) = found.events
    assert (event.subject, event.stream, event.data["times"]) == ("access", "access/refusals", 1)
    assert event.summary.startswith("A call from ipv4:10.0.0.9:1 was refused (NOT_ALLOWED): Cannot serve snapshotd.api")


async def test_a_caller_need_not_know_what_it_is_called(server: Running) -> None:
    vm_id = next(iter(ACMES))
    whole = Granted((Binding(role=Role.ADMIN, subjects=frozenset(), groups=frozenset()),))
    BY.set(Caller(subject="token:me", granted=whole))
    cancelling = CancelOperation(name=(await server.backend.vms.load(vm_id)).active_operations[0].name)
    for command in (cancelling, create(2)):
        decided = await server.backend.vms.execute(vm_id, command, actor="token:me")
        server.service.runtime.acknowledge(decided.envelopes)
    found = await server.operations.ListOperations(ListOperationsRequest(filter='actor = "@me"'), CALLER)
    assert [o.name.partition(".")[0] for o in found.operations] == [f"operations/{vm_id}"]
    await server.backend.views.reached(server.log.head_position())
    events = await server.audit.ListEvents(audit_pb2.ListEventsRequest(actor="@me"), CALLER)
    assert {e.actor for e in events.events} == {"token:me"}
