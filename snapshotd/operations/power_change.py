"""What starting and stopping have in common: one step changes the power, and no snapshot takes part."""

from __future__ import annotations

from typing import ClassVar

from snapshotd.domain import events as e
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Kind, move_vm


class PowerChange(Kind):
    """An operation of one step that changes the power."""

    joins = True
    passes = True
    trigger: ClassVar[str]
    """The arrow that the VM takes."""

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to STARTING or STOPPING."""
        return (move_vm(vm, self.trigger),)

    def skips(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the step is an undo. A request for the power that the VM has is refused, not skipped."""
        return step.plan.undoes is not None
