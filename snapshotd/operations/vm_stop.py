"""StopVirtualMachine: one undoable step, by shutdown, turn-off, save or pause.

A turn-off goes past a shutdown, which may hang in its guest for ever. The shutdown ends CANCELLED, and is not undone:
nothing is started only to be turned off. If the shutdown got there after all, the turn-off has nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Undo
from snapshotd.operations.power_change import PowerChange
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import vm_stop as step
from snapshotd.steps.vm_stop import StopMode


@dataclass(frozen=True, slots=True)
class Params:
    """How to stop."""

    mode: StopMode


class StopVirtualMachine(PowerChange):
    """Shut a VM down, turn it off, save or pause it."""

    name = KindName("STOP_VIRTUAL_MACHINE")
    params: Versioned[Params] = Versioned(Params)
    trigger = "stop_begins"

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise WrongPower or VmAbsent if the VM's power does not allow this way to stop."""
        if forbidden := step.forbids(vm, self.params.read(request.params).mode):
            raise forbidden

    def goes_past(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether a turn-off is asked for while the guest is being shut down."""
        wanted = self.params.read(request.params).mode
        return wanted is StopMode.TURN_OFF and active.kind == self.name and self._mode(active) is StopMode.SHUTDOWN

    def _mode(self, operation: Operation) -> StopMode:
        return self.params.read(operation.params).mode

    def skips(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the step is an undo, or a turn-off that went past a shutdown."""
        stops = [o for o in vm.operations.values() if o.kind == self.name and o.number < operation.number]
        passed = any(
            o.cancel_requested and (o.ended_at or operation.requested_at) >= operation.requested_at for o in stops
        )
        return passed or super().skips(vm, operation, step)

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return the start of a VM that was running, unless the operation makes way for a turn-off."""
        return Undo() if vm.makes_way(operation) else super().undo(vm, operation, failure)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return one step."""
        how = step.Input(self.params.read(request.params).mode)
        return (step.VM_STOP.planned(how, nature=StepNature.UNDOABLE),)


STOP_VIRTUAL_MACHINE = StopVirtualMachine()
