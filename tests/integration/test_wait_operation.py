"""WaitOperation returns when its operation has ended, and is woken by its own VM only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.longrunning.operations_pb2 import WaitOperationRequest

from snapshotd.domain.ids import OperationName, VmId, vm_stream
from snapshotd.domain.operation import Operation
from snapshotd.domain.state import replace
from snapshotd.ports.views import Views
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.operations_service import OperationsService
from snapshotd.steps.vm_stop import StopMode
from tests.asking import stop_vm
from tests.integration import quiet_server
from tests.integration.quiet_server import CALLER, Running, turns
from tests.integration.writing import write
from tests.unit.projections.histories import RecordedWorld

WAITERS = 50
OTHER = VmId("22222222-2222-4222-8222-222222222222")


@dataclass
class Counted:
    """Views that count how often an operation is read."""

    views: Views
    reads: int = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever the views have)
        """Return what is not counted."""
        return getattr(self.views, name)

    async def operation(self, name: OperationName) -> Operation | None:
        """Read an operation."""
        self.reads += 1
        return await self.views.operation(name)


async def taken_in(running: Running) -> None:
    """Return when all that was recorded is in the views, and whoever it wakes has read what he wants to."""
    views = running.backend.views
    await views.reached(running.log.head_position())
    for _ in range(3):
        await turns()
        await views.vm_counts()  # reads come one after another, so those that were asked for before have been answered


@pytest.mark.slow
async def test_only_those_who_wait_for_the_vm_of_an_event_look_again(tmp_path: Path) -> None:
    world = RecordedWorld()
    (operation,) = world.do(stop_vm(StopMode.TURN_OFF)).vm.active_operations
    other = [replace(envelope, stream=vm_stream(OTHER)) for envelope in RecordedWorld().envelopes]
    async with quiet_server.run(tmp_path) as running:
        await write(running.log, world.envelopes)
        await taken_in(running)
        counted: Any = Counted(running.backend.views)
        backend = replace(running.backend, views=counted)
        service = OperationsService(backend, OperationReader(backend))  # type: ignore[abstract]  # what is not built
        request = WaitOperationRequest(name=operation.name)
        waiting = [asyncio.create_task(service.WaitOperation(request, CALLER)) for _ in range(WAITERS)]
        await taken_in(running)
        assert counted.reads == WAITERS
        for envelope in other:
            await write(running.log, [envelope])
            await taken_in(running)
        assert counted.reads == WAITERS
        before = len(world.envelopes)
        world.run()
        await write(running.log, world.envelopes[before:])
        assert {ended.done for ended in await asyncio.gather(*waiting)} == {True}
