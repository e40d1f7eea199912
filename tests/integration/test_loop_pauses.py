"""The largest reads, one after another: none of them keeps the event loop from anything else for long."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from google.longrunning.operations_pb2 import GetOperationRequest, ListOperationsRequest, WaitOperationRequest
from google.protobuf.message import Message

from snapshotd.api.v1 import admin_pb2, audit_pb2, host_pb2, snapshot_pb2, virtual_machine_pb2
from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.server.host_wire import from_outcome
from snapshotd.server.wire_values import timestamp
from tests.fakes import VM_ID
from tests.integration import quiet_server
from tests.integration.large_history import SNAPSHOTS, large_history, operation
from tests.integration.polling import until
from tests.integration.quiet_server import CALLER, HV01, Running
from tests.integration.writing import write

LONGEST_S = 0.05
LISTED = 1_000
"""VMs in one report."""
ATTEMPTS = 5
"""A pause counts only if it is there each time: the machine may have had something else to do."""
VM = f"virtualMachines/{VM_ID}"
OPERATION = operation(SNAPSHOTS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    storage: Path = tmp_path_factory.mktemp("large")
    async with quiet_server.run(storage) as running:
        await write(running.log, large_history())
        head, views = running.log.head_position(), running.backend.views
        await until(lambda: {p.position for p in views.progress()} == {head})
        gc.collect()
        gc.freeze()  # as the daemon does after the replay
        yield running
        gc.unfreeze()


READS: dict[str, Callable[[Running], Awaitable[Message]]] = {
    "ListOperations": lambda s: s.operations.ListOperations(ListOperationsRequest(page_size=1000), CALLER),
    "ListOperations, filtered": lambda s: s.operations.ListOperations(
        ListOperationsRequest(page_size=1000, filter=" AND ".join(['actor != "x" AND done = "false"'] * 100)), CALLER
    ),
    "GetOperation": lambda s: s.operations.GetOperation(GetOperationRequest(name=OPERATION), CALLER),
    "WaitOperation": lambda s: s.operations.WaitOperation(WaitOperationRequest(name=OPERATION), CALLER),
    "ListSnapshots": lambda s: s.snapshots.ListSnapshots(
        snapshot_pb2.ListSnapshotsRequest(parent=VM, page_size=1000, show_deleted=True, order_by="display_name desc"),
        CALLER,
    ),
    "ListSnapshots of all VMs": lambda s: s.snapshots.ListSnapshots(
        snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-", page_size=1000, show_deleted=True), CALLER
    ),
    "ListSnapshots, those that stand": lambda s: s.snapshots.ListSnapshots(
        snapshot_pb2.ListSnapshotsRequest(parent=VM, page_size=1000), CALLER
    ),
    "GetSnapshotTree": lambda s: s.snapshots.GetSnapshotTree(snapshot_pb2.GetSnapshotTreeRequest(name=VM), CALLER),
    "ListVirtualMachines": lambda s: s.vms.ListVirtualMachines(
        virtual_machine_pb2.ListVirtualMachinesRequest(page_size=1000), CALLER
    ),
    "GetVirtualMachine": lambda s: s.vms.GetVirtualMachine(
        virtual_machine_pb2.GetVirtualMachineRequest(name=VM), CALLER
    ),
    "GetSnapshotTree, as of the last event": lambda s: s.snapshots.GetSnapshotTree(
        snapshot_pb2.GetSnapshotTreeRequest(name=VM, as_of_time=timestamp(s.backend.clock.now())), CALLER
    ),
    "GetVirtualMachine, as of the last event": lambda s: s.vms.GetVirtualMachine(
        virtual_machine_pb2.GetVirtualMachineRequest(name=VM, as_of_time=timestamp(s.backend.clock.now())), CALLER
    ),
    "ListEvents": lambda s: s.audit.ListEvents(audit_pb2.ListEventsRequest(page_size=1000), CALLER),
    "ListEvents, found nowhere": lambda s: s.audit.ListEvents(
        audit_pb2.ListEventsRequest(type="VmUnregistered"), CALLER
    ),
    "GetStatus": lambda s: s.admin.GetStatus(admin_pb2.GetStatusRequest(), CALLER),
    "ListHosts": lambda s: s.hosts.ListHosts(host_pb2.ListHostsRequest(), CALLER),
}


async def longest_pause_s(read: Awaitable[Message]) -> float:
    """Return the longest time for which a read and its serialisation kept the loop.

    By the loop's own clock, but no more than the processor time of this process, all threads together: what the machine
    gave to other processes meanwhile is no fault of the read.
    """
    loop, longest_s = asyncio.get_running_loop(), 0.0

    async def work() -> None:
        (await read).SerializeToString()

    task = asyncio.create_task(work())
    while not task.done():
        before_s, used_s = loop.time(), time.process_time()
        await asyncio.sleep(0)
        longest_s = max(longest_s, min(loop.time() - before_s, time.process_time() - used_s))
    task.result()
    return longest_s


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", READS)
async def test_no_read_keeps_the_event_loop_for_long(server: Running, name: str) -> None:
    pauses_s: list[float] = []
    while len(pauses_s) < ATTEMPTS and (not pauses_s or pauses_s[-1] >= LONGEST_S):
        pauses_s.append(await longest_pause_s(READS[name](server)))
    assert pauses_s[-1] < LONGEST_S, pauses_s


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", ["DiscoverVirtualMachines", "SyncHost"])
async def test_no_report_of_many_vms_keeps_the_event_loop_for_long(server: Running, call: str) -> None:
    name = f"hosts/{HV01}"
    requests = {
        "DiscoverVirtualMachines": host_pb2.DiscoverVirtualMachinesRequest(name=name),
        "SyncHost": host_pb2.SyncHostRequest(name=name),
    }
    answer = pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.REPORTED, vms=map(reported_vm, range(LISTED)))

    async def report() -> Message:
        asking = asyncio.ensure_future(getattr(server.hosts, call)(requests[call], CALLER))
        dispatch = await server.asked.orders.get()
        server.service.runtime.outcome("executor", dispatch, from_outcome(pb.CommandOutcome(answer=answer)))
        # The VM that is on record is not in the list, so the host is asked for it.
        asked_again = asyncio.ensure_future(server.asked.orders.get())
        await asyncio.wait([asking, asked_again], return_when=asyncio.FIRST_COMPLETED)
        if asked_again.done():
            server.fail(asked_again.result(), "RightsMissing,snapshotd")
        asked_again.cancel()
        response: Message = await asking
        return response

    pauses_s: list[float] = []
    while len(pauses_s) < ATTEMPTS and (not pauses_s or pauses_s[-1] >= LONGEST_S):
        pauses_s.append(await longest_pause_s(report()))
    assert pauses_s[-1] < LONGEST_S, pauses_s


def reported_vm(number: int) -> pb.VmReport:
    """Return a VM with five checkpoints as its host reports it."""
    vm = pb.VmReport(vm_id=str(uuid.UUID(int=number)), present=True, name=f"vm-{number}", power=pb.RUNNING)
    vm.journal.state = pb.JournalReport.MISSING
    for n in range(5):
        checkpoint = vm.checkpoints.add(checkpoint_id=str(uuid.UUID(int=n)), name=f"s{n}", checkpoint_type="Standard")
        checkpoint.disks.add(location="SCSI:0:0", path=f"C:\\{number}\\{n}.avhdx")
        vm.files.add(path=f"C:\\{number}\\{n}.avhdx")
    return vm


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_listed_operation_carries_its_own_data_only(server: Running) -> None:
    answer = await server.operations.ListOperations(ListOperationsRequest(page_size=1000), CALLER)
    assert len(answer.operations) == 1000
    assert {(o.done, o.WhichOneof("result")) for o in answer.operations} == {(True, None)}
    one = await server.operations.GetOperation(GetOperationRequest(name=answer.operations[0].name), CALLER)
    assert one.HasField("response")
    assert one.metadata == answer.operations[0].metadata
