"""The watchdog: tells, once, of each operation that takes longer than its kind should. It ends nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from snapshotd.domain.ids import OperationName
from snapshotd.domain.operation import Operation
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.logs import about
from snapshotd.server.backend import Backend
from snapshotd.server.log_lines import of_operation
from snapshotd.server.paging import in_slices

_log = logging.getLogger(__name__)

_LOOK_S: Final = 10.0
"""How often it looks."""


class Watchdog:
    """Looks for overdue operations.

    Args:
        backend: of the server.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._told: frozenset[tuple[OperationName, int]] = frozenset()
        """The overdue operations at the last look, each with the step that it stood at."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Log each operation that has become overdue since the last look, or is so at another step."""
        overdue: set[tuple[OperationName, int]] = set()
        async for some in in_slices(self._backend.runtime.dispatcher.active()):
            for vm in some:
                for operation in vm.active_operations:
                    if self._backend.overdue_since(operation) is None:
                        continue
                    step = operation.current_step
                    at = (operation.name, step.plan.number if step else 0)
                    overdue.add(at)
                    if at not in self._told:
                        self._tell(vm, operation)
        self._told = frozenset(overdue)

    def _tell(self, vm: VirtualMachine, operation: Operation) -> None:
        since, why = self._backend.overdue_since(operation), self._backend.why_overdue(operation)
        wait = self._backend.wait(operation)
        facts = of_operation(vm, operation) | {"reason": wait.failure.reason if wait else ""}
        _log.warning("operation overdue since %s: %s", since, why, extra=about(**facts))
