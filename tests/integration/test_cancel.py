"""CancelOperation over the real log and views."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.longrunning.operations_pb2 import CancelOperationRequest, GetOperationRequest

from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.domain.errors import CancelTooLate
from snapshotd.domain.virtual_machine import REMEMBERED_OPERATIONS
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, Running, run

STOP = vm_pb2.StopVirtualMachineRequest(name=f"virtualMachines/{VM_ID}")


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


async def test_an_operation_that_has_ended_is_too_late_to_cancel_however_long_ago_it_was(running: Running) -> None:
    await running.register(FakeHost().report())
    running.service.runtime.detached("executor", running.asked)  # so that nothing begins
    ended = []
    for _ in range(REMEMBERED_OPERATIONS + 1):
        operation = await running.vms.StopVirtualMachine(STOP, CALLER)
        await running.operations.CancelOperation(CancelOperationRequest(name=operation.name), CALLER)
        ended.append(operation.name)
    vm = await running.service.runtime.load(VM_ID)
    assert 1 not in vm.operations
    for name in (ended[0], ended[-1]):
        assert (await running.operations.GetOperation(GetOperationRequest(name=name), CALLER)).done
        with pytest.raises(CancelTooLate) as refused:
            await running.operations.CancelOperation(CancelOperationRequest(name=name), CALLER)
        assert (refused.value.operation, refused.value.state) == (name, "CANCELLED")
