"""WaitOperation returns when its operation has ended, and nothing else wakes it; the answer needs no view."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.longrunning.operations_pb2 import GetOperationRequest, Operation, WaitOperationRequest
from google.protobuf.duration_pb2 import Duration

from snapshotd.api.v1 import admin_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.domain.errors import NotFound
from snapshotd.domain.host_report import Journal, JournalState, VmReport
from snapshotd.domain.ids import OperationName, VmId
from snapshotd.domain.state import replace
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.operations_service import OperationsService
from snapshotd.server.waiting import Waiting
from tests.fakes import VM_ID, FakeHost
from tests.integration import quiet_server
from tests.integration.quiet_server import CALLER, Running, turns
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld

WAITERS = 50
OTHER = VmId("22222222-2222-4222-8222-222222222222")


@dataclass
class Counted:
    """A part of the backend that counts how often it is used."""

    part: Any
    uses: int = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever the part has)
        """Return what the part has."""
        self.uses += 1
        return getattr(self.part, name)


def report(vm_id: VmId) -> VmReport:
    """Return the report of a running VM."""
    host = FakeHost(journal=Journal(state=JournalState.PRESENT, journal_id="j"))
    return replace(host.report(), vm_id=vm_id)


async def stopping(running: Running, vm_id: VmId) -> Operation:
    """Return an operation whose command is on its way to the host."""
    await running.register(report(vm_id))
    request = vm_pb2.StopVirtualMachineRequest(name=f"virtualMachines/{vm_id}")
    operation = await running.vms.StopVirtualMachine(request, CALLER)
    await running.asked.orders.get()
    return operation


async def give_up(running: Running, operation: Operation) -> None:
    """End an operation."""
    running.service.runtime.detached("executor", running.asked)
    outcome = admin_pb2.SettleOperationRequest.GIVEN_UP
    request = admin_pb2.SettleOperationRequest(name=operation.name, outcome=outcome, reason="the host burnt")
    await running.admin.SettleOperation(request, CALLER)


async def test_only_the_end_of_the_operation_wakes_its_waiters_and_no_view_is_read(tmp_path: Path) -> None:
    async with quiet_server.run(tmp_path) as running:
        first, second = await stopping(running, VM_ID), await stopping(running, OTHER)
        vms, views = Counted(running.backend.vms), Counted(running.backend.views)
        backend = replace(running.backend, vms=vms, views=views)  # type: ignore[arg-type]
        service = OperationsService(backend, OperationReader(backend))  # type: ignore[abstract]  # what is not built
        ended, going = (
            [
                asyncio.create_task(service.WaitOperation(WaitOperationRequest(name=operation.name), CALLER))
                for _ in range(WAITERS)
            ]
            for operation in (first, second)
        )
        await turns()
        looked = vms.uses
        assert looked == 2 * WAITERS
        await give_up(running, first)
        answers = await asyncio.gather(*ended)
        assert {(a.done, a.name, a.error.message != "") for a in answers} == {(True, first.name, True)}
        assert vms.uses == looked + WAITERS
        assert not any(task.done() for task in going)
        await give_up(running, second)
        assert {a.done for a in await asyncio.gather(*going)} == {True}
        assert views.uses == 0


async def test_a_wait_whose_time_is_up_returns_the_operation_as_it_is(tmp_path: Path) -> None:
    async with quiet_server.run(tmp_path) as running:
        operation = await stopping(running, VM_ID)
        request = WaitOperationRequest(name=operation.name, timeout=Duration(nanos=1000))
        assert not (await running.operations.WaitOperation(request, CALLER)).done
        await give_up(running, operation)
        assert (await running.operations.WaitOperation(request, CALLER)).done
        unknown = WaitOperationRequest(name=operation.name[:-8] + "00000000")
        with pytest.raises(NotFound):
            await running.operations.WaitOperation(unknown, CALLER)


async def test_an_operation_is_told_alike_from_memory_and_from_the_views(tmp_path: Path) -> None:
    async with quiet_server.run(tmp_path) as running:
        operation = await stopping(running, VM_ID)
        await give_up(running, operation)
        await running.backend.seen("operations")
        request = GetOperationRequest(name=operation.name)
        kept = await running.operations.GetOperation(request, CALLER)
        forgetful = type(running.backend.vms)(
            running.log, running.backend.clock, running.backend.ids, running.backend.policy
        )
        backend = replace(running.backend, vms=forgetful)
        service = OperationsService(backend, OperationReader(backend))  # type: ignore[abstract]  # what is not built
        assert await service.GetOperation(request, CALLER) == kept


async def test_an_end_wakes_those_who_wait_for_it_and_leaves_nothing_behind() -> None:
    world, waiting = RecordedWorld(), Waiting()
    before = len(world.envelopes)
    world.do(create(1))
    world.run()
    (operation,) = {x.operation for x in world.envelopes[before:] if x.operation is not None}
    with waiting.of(operation) as one, waiting.of(operation) as two, waiting.of(OperationName("operations/x")) as other:
        waiting.note(world.envelopes[:-1])
        assert not one.is_set()
        waiting.note(world.envelopes[-1:])
        assert (one.is_set(), two.is_set(), other.is_set()) == (True, True, False)
    assert not waiting._by_name
