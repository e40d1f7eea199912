"""SettleOperation over the real log: only what its host will not tell, recorded with actor and reason; and overdue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.longrunning.operations_pb2 import GetOperationRequest, ListOperationsRequest, Operation

from snapshotd.api.v1 import admin_pb2 as pb
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.domain.errors import InvalidArgument, NotFound, RequestIdReused
from snapshotd.domain.host_report import HostAnswer, Journal, JournalState, Verdict, VmReport
from snapshotd.domain.settle_errors import SettleRefused, SettleTooEarly
from snapshotd.domain.state import replace
from snapshotd.server.admin_service import AdminService
from snapshotd.server.executor_service import ExecutorService
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.watchdog import Watchdog
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, Running, run

STOP = vm_pb2.StopVirtualMachineRequest(name=f"virtualMachines/{VM_ID}")
GIVEN_UP = pb.SettleOperationRequest.GIVEN_UP
REQUEST_ID = "aaaaaaaa-0000-4000-8000-000000000001"


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


def report() -> VmReport:
    """Return the report of a running VM with a journal."""
    return FakeHost(journal=Journal(state=JournalState.PRESENT, journal_id="j")).report()


async def stopping(running: Running) -> Operation:
    """Return an operation whose command is on its way to the host."""
    await running.register(report())
    operation = await running.vms.StopVirtualMachine(STOP, CALLER)
    await running.asked.orders.get()
    return operation


def saying(operation: str, **more: Any) -> pb.SettleOperationRequest:  # noqa: ANN401  (fields of the request)
    """Return what a person says."""
    fields: dict[str, Any] = {"name": operation, "outcome": GIVEN_UP, "reason": "the host burnt"}
    return pb.SettleOperationRequest(**fields | more)


def cut_off(running: Running) -> None:
    """Take the executor away, so that the host cannot be asked."""
    running.service.runtime.detached("executor", running.asked)


@dataclass(frozen=True)
class Later:
    """A clock that is ahead."""

    hours: int

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC) + timedelta(hours=self.hours)


def later(running: Running, hours: int) -> AdminService:
    """Return the service as it is hours later."""
    backend = replace(running.backend, clock=Later(hours))
    service = running.service
    executors = ExecutorService(
        service.runtime, service.hosts, running.comparisons, "i", Later(hours), service.refusals
    )
    return AdminService(backend, executors, OperationReader(backend))  # type: ignore[abstract]  # what is not built


async def metadata(running: Running, name: str) -> OperationMetadata:
    """Return an operation's metadata."""
    found = OperationMetadata()
    (await running.operations.GetOperation(GetOperationRequest(name=name), CALLER)).metadata.Unpack(found)
    return found


async def test_what_a_dead_host_leaves_behind_is_given_up_and_the_log_says_who_said_so(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapshotd.server.log_lines")
    operation = await stopping(running)
    cut_off(running)
    ended = await running.admin.SettleOperation(saying(operation.name), CALLER)
    assert ended.done
    assert "anonymous settled step 1 as GIVEN_UP: the host burnt." in ended.error.message
    assert (await metadata(running, operation.name)).outcome_detail.startswith("anonymous settled step 1")
    unregister = vm_pb2.UnregisterVirtualMachineRequest(name=f"virtualMachines/{VM_ID}")
    await running.vms.UnregisterVirtualMachine(unregister, CALLER)
    told = [(r.levelname, r.getMessage(), r.__dict__["facts"]) for r in caplog.records]
    about = {"vm": VM_ID, "vm_name": "web01", "host": "hv01", "operation": operation.name, "actor": "anonymous"}
    about |= {"kind": "STOP_VIRTUAL_MACHINE"}
    assert told[0] == ("WARNING", "step 1 settled: the host burnt", about | {"reason": "GIVEN_UP"})
    assert (told[1][0], told[1][2]) == ("WARNING", about | {"reason": "OUTCOME_UNDETERMINED"})
    assert told[1][1].startswith("operation failed: It was given up.")


async def test_a_host_that_answers_is_waited_for(running: Running) -> None:
    operation = await stopping(running)
    settling = asyncio.create_task(running.admin.SettleOperation(saying(operation.name), CALLER))
    running.answer(await running.asked.orders.get(), report())
    with pytest.raises(SettleTooEarly, match="host hv01 answers, so what came of it is being found out"):
        await settling


async def test_an_overdue_operation_is_settled_though_its_host_answers_but_never_while_that_is_at_work(
    running: Running,
) -> None:
    operation, admin = await stopping(running), later(running, 1)
    settling = asyncio.create_task(admin.SettleOperation(saying(operation.name), CALLER))
    running.answer(await running.asked.orders.get(), replace(report(), activities=("STATE_CHANGE",)))
    with pytest.raises(SettleTooEarly, match=r"Hyper-V is at work on VM web01 \(STATE_CHANGE\)"):
        await settling
    settling = asyncio.create_task(admin.SettleOperation(saying(operation.name), CALLER))
    running.answer(await running.asked.orders.get(), replace(report(), activities=("MERGE",)))
    assert (await settling).done


async def test_a_host_whose_journals_belong_to_another_installation_tells_nothing(running: Running) -> None:
    operation = await stopping(running)
    settling = asyncio.create_task(running.admin.SettleOperation(saying(operation.name), CALLER))
    foreign = HostAnswer(verdict=Verdict.REPORTED, vms=(report(),), installation_id="theirs")
    running.service.runtime.outcome("executor", await running.asked.orders.get(), foreign)
    assert (await settling).done


async def test_a_request_that_is_repeated_gets_its_first_answer_and_asks_nobody(running: Running) -> None:
    operation = await stopping(running)
    cut_off(running)
    said = saying(operation.name, request_id=REQUEST_ID)
    first = await running.admin.SettleOperation(said, CALLER)
    assert await running.admin.SettleOperation(said, CALLER) == first
    with pytest.raises(RequestIdReused):
        await running.admin.SettleOperation(saying(operation.name, request_id=REQUEST_ID, reason="x"), CALLER)
    with pytest.raises(SettleRefused, match="it has ended"):
        await running.admin.SettleOperation(saying(operation.name), CALLER)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"reason": " "}, InvalidArgument),
        ({"reason": "x" * 1001}, InvalidArgument),
        ({"reason": "a\nb"}, InvalidArgument),
        ({"outcome": 0}, InvalidArgument),
        ({"outcome": 99}, InvalidArgument),
        ({"name": "operations/x"}, InvalidArgument),
        ({"request_id": "x"}, InvalidArgument),
        ({"name": f"operations/{VM_ID}.7-00000000"}, NotFound),
    ],
)
async def test_what_says_nothing_is_refused(running: Running, wrong: dict[str, Any], error: type[Exception]) -> None:
    operation = await stopping(running)
    cut_off(running)
    with pytest.raises(error):
        await running.admin.SettleOperation(saying(operation.name, **wrong), CALLER)


async def test_an_operation_that_takes_too_long_is_told_with_the_way_out(running: Running) -> None:
    operation = await stopping(running)
    cut_off(running)
    assert not (await metadata(running, operation.name)).HasField("overdue_since")
    await running.backend.seen("operations")
    assert (await running.admin.GetStatus(pb.GetStatusRequest(), CALLER)).overdue_operation_count == 0
    status = await later(running, 1).GetStatus(pb.GetStatusRequest(), CALLER)
    (overdue,) = status.overdue_operations
    assert status.overdue_operation_count == 1
    assert (overdue.operation, overdue.display_name) == (operation.name, "web01")
    assert overdue.kind == OperationMetadata.STOP_VIRTUAL_MACHINE
    assert f"Cancel it (`snapshotctl operation cancel {operation.name}`)" in overdue.message
    reader = OperationReader(replace(running.backend, clock=Later(1)))
    (operation_,) = (await running.service.runtime.load(VM_ID)).active_operations
    found = OperationMetadata()
    reader.listed(operation_).metadata.Unpack(found)
    assert found.overdue_since == overdue.since


async def test_the_watchdog_tells_an_overdue_operation_once(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    operation = await stopping(running)
    cut_off(running)
    await Watchdog(running.backend).look()
    assert caplog.records == []
    watchdog = Watchdog(replace(running.backend, clock=Later(1)))
    for _ in range(3):
        await watchdog.look()
    (told,) = caplog.records
    assert told.levelname == "WARNING"
    assert told.getMessage().startswith("operation overdue since 2")
    assert told.__dict__["facts"]["operation"] == operation.name
    await running.admin.SettleOperation(saying(operation.name), CALLER)
    caplog.clear()
    await watchdog.look()
    assert caplog.records == []


async def test_status_tells_what_failed_in_the_last_day(running: Running) -> None:
    names = []
    await running.register(report())
    cut_off(running)
    for _ in range(6):
        operation = await running.vms.StopVirtualMachine(STOP, CALLER)
        await running.admin.SettleOperation(saying(operation.name), CALLER)
        names.append(operation.name)
    await running.backend.seen("operations")
    failures = (await running.admin.GetStatus(pb.GetStatusRequest(), CALLER)).recent_failures
    assert failures.count == 6
    assert [f.operation for f in failures.latest] == names[:0:-1]
    assert (failures.latest[0].display_name, failures.latest[0].failure.reason) == ("web01", "GIVEN_UP")
    assert (await later(running, 25).GetStatus(pb.GetStatusRequest(), CALLER)).recent_failures.count == 0


async def test_operations_are_filtered_by_when_they_ended(running: Running) -> None:
    await running.register(report())
    cut_off(running)
    ended = await running.vms.StopVirtualMachine(STOP, CALLER)
    await running.admin.SettleOperation(saying(ended.name), CALLER)
    active = await running.vms.StopVirtualMachine(STOP, CALLER)

    async def found(text: str) -> list[str]:
        request = ListOperationsRequest(filter=text)
        return [o.name for o in (await running.operations.ListOperations(request, CALLER)).operations]

    assert await found('end_time > "2001-01-01T00:00:00Z"') == [ended.name]
    assert await found('end_time < "2001-01-01T00:00:00Z"') == []
    assert await found('create_time > "2001-01-01T00:00:00Z"') == [active.name, ended.name]
