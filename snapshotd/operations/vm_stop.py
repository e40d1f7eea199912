"""StopVirtualMachine: one undoable step, by shutdown, turn-off, save or pause; a shutdown may have a timeout.

A shutdown with a timeout is two steps: the shutdown, whose failure is recorded, and a turn-off, which is skipped if the
VM is off by then. Without a timeout, a shutdown never becomes a power cut.

A turn-off goes past a shutdown, which may hang in its guest for ever. The shutdown ends CANCELLED, and is not undone:
nothing is started only to be turned off. If the shutdown got there after all, the turn-off has nothing to do.
"""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations import vm_export
from snapshotd.operations.kind import Preview
from snapshotd.operations.power_change import Stop, asks_guest
from snapshotd.steps import vm_stop as step
from snapshotd.steps.power import IN_MEMORY
from snapshotd.steps.vm_stop import StopMode


class StopVirtualMachine(Stop):
    """Shut a VM down, turn it off, save or pause it."""

    name = KindName("STOP_VIRTUAL_MACHINE")

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise WrongPower or VmAbsent if the VM's power does not allow this way to stop."""
        if forbidden := step.forbids(vm, self.params.read(request.params).mode):
            raise forbidden

    def goes_past(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an export is under way, or a turn-off is asked for while the guest is being shut down."""
        passes = self.params.read(request.params).mode is StopMode.TURN_OFF and asks_guest(active)
        return passes or super().goes_past(request, active)

    def skips(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the step is an undo, follows a shutdown, or is a turn-off that went past one."""
        older = [o for o in vm.operations.values() if o.number < operation.number and asks_guest(o)]
        passed = any(
            o.cancel_requested and (o.ended_at or operation.requested_at) >= operation.requested_at for o in older
        )
        return passed or step.plan.number > 1 or super().skips(vm, operation, step)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the stop."""
        return self.stop_steps(request)

    def follows(self, vm: VirtualMachine, operation: Operation, policy: Policy) -> RequestOperation | None:
        """Return the export of a VM that is off, if its policy says so. The stop itself is over by then."""
        return vm_export.after_stop(vm, policy)

    def warns(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> tuple[str, ...]:
        """Return which export follows, and that the VM is removed from its host after it."""
        goal = step.GOAL[self.params.read(request.params).mode]
        follows = vm_export.after_stop(replace(vm, power=goal), policy)
        return (*super().warns(vm, request, policy, now), *(vm_export.announced(vm, follows) if follows else ()))

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the power that the VM ends in, and whether its memory is lost."""
        mode = self.params.read(request.params).mode
        return Preview(
            current=vm.current_id,
            power=step.GOAL[mode],
            memory_lost=mode is StopMode.TURN_OFF and vm.power in IN_MEMORY,
            warnings=self.warnings(request),
        )


STOP_VIRTUAL_MACHINE = StopVirtualMachine()
