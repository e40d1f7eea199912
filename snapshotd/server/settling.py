"""Looks at a VM before a person settles its operation: what the host can tell, nobody needs to decide.

the host does not answer ─────────────────────────────► settled
it answers: Hyper-V is at work on the VM ─────────────► refused: that will end
nothing is at work, and the operation is
overdue, or its host cannot be used ──────► settled
in time ──────────────────────────────────► refused: it is being looked at, and ends by itself
"""

from __future__ import annotations

import asyncio
from typing import Final

from snapshotd.application.decide import decide
from snapshotd.application.draft import Context
from snapshotd.domain.commands import SettleOperation
from snapshotd.domain.errors import InvalidArgument, SnapshotdError
from snapshotd.domain.host_report import HostAnswer, VmReport
from snapshotd.domain.ids import OperationName, vm_of
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation, SettledAs, Step
from snapshotd.domain.settle_errors import SettleRefused, SettleTooEarly
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.server.backend import Backend
from snapshotd.server.ownership import journals_wait

_LOOK_S: Final = 10.0
"""How long a host is waited for."""
_LONGEST_REASON: Final = 1000


def reason_of(text: str) -> str:
    """Return why a person settles an operation. Raises InvalidArgument."""
    text = text.strip()
    if not text:
        raise InvalidArgument("reason", text, "must not be empty: the audit trail keeps why you decided so.")
    if len(text) > _LONGEST_REASON or not text.isprintable():
        problem = f"must have at most {_LONGEST_REASON} characters, all of them printable."
        raise InvalidArgument("reason", text[:40], problem)
    return text


class Settling:
    """Settles operations.

    Args:
        backend: of the server.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def settle(
        self, name: OperationName, outcome: SettledAs, reason: str, *, actor: str, request_id: str, digest: str
    ) -> Operation | None:
        """Record what a person says became of an operation's step, unless its host will tell.

        Return the operation as it is then; None: this was answered so long ago that it is only in the views.

        Raises NotFound, SettleRefused, SettleTooEarly, and what refuses an append.
        """
        vm_id = vm_of(name)
        vm = await self._backend.runtime.load(vm_id)
        operation = vm.operation(name)
        step = operation.current_step if operation is not None and operation.active else None
        said = SettleOperation(
            name=name,
            outcome=outcome,
            reason=reason,
            step=step.plan.number if step else 0,
            issued_token=step.issued_token if step else 0,
        )
        answered = vm.requests.find(actor, request_id) is not None
        if operation is None and not answered:
            ended = await self._backend.operation(name)  # raises NotFound
            raise SettleRefused(ended.name, outcome.name, "it has ended.")
        if operation is not None and step is not None and not answered:
            # What the core refuses needs no look, which may take a while.
            decide(vm, said, self._context(actor))
            await self._look(vm, operation, step)
        decided = await self._backend.runtime.request(vm_id, said, actor=actor, request_id=request_id, digest=digest)
        return decided.vm.operation(name)

    def _context(self, actor: str) -> Context:
        backend = self._backend
        return Context(now=backend.clock.now(), actor=actor, policy=backend.policy, fresh_id=backend.ids.fresh())

    async def _look(self, vm: VirtualMachine, operation: Operation, step: Step) -> None:
        """Raise SettleTooEarly if the host answers, and will tell or is at work."""
        try:
            async with asyncio.timeout(_LOOK_S):
                answer = await self._backend.reports.report(vm.host_id, vm.vm_id, asked=False)
        except (SnapshotdError, TimeoutError):
            return
        report = answer.vm
        if report is None or report.unread is not None:
            return  # the host answers, and cannot tell anything of this VM
        if works := _works(report, step):
            raise SettleTooEarly(operation.name, f"Hyper-V is at work on VM {vm.name} ({works})")
        if self._backend.overdue_since(operation) is None and self._usable(vm, answer):
            raise SettleTooEarly(operation.name, f"host {vm.host_id} answers, so what came of it is being found out")

    def _usable(self, vm: VirtualMachine, answer: HostAnswer) -> bool:
        """Return whether operations on a host can come forward, by its report."""
        now, ours = self._backend.clock.now(), self._backend.installation_id
        return not vm.rolled_back and journals_wait(vm.host_id, answer, ours, now) is None


def _works(report: VmReport, step: Step) -> str:
    """Return what the hypervisor does that a step may have caused, or waits for; empty: nothing."""
    waits = step.state is StepState.WAITING
    return ", ".join(a for a in report.activities if waits or a != "MERGE")
