"""RestartVirtualMachine: the stop, by shutdown or turn-off, and then the start, as one operation.

The start is the pivot. Up to it a restart can be cancelled, and a VM that was stopped is started again, which is what
the restart would have done. From its StepIssued on there is nothing to cancel. A start that fails is tried again as the
undo of the stop; if that fails too, the VM stays off, and the failure says so.

A guest that does not shut down keeps running, and the restart fails, unless the shutdown has a timeout. A turn-off goes
past the shutdown of a restart as it does past any: then nothing is started.
"""

from __future__ import annotations

import shlex
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.lifecycle import VM, Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Preview, move_vm
from snapshotd.operations.power_change import Stop
from snapshotd.steps.action import power_outside
from snapshotd.steps.power import IN_MEMORY
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import StopMode

_FROM = {
    StopMode.SHUTDOWN: frozenset({Power.RUNNING}),
    StopMode.TURN_OFF: frozenset({Power.RUNNING, Power.PAUSED}),
}
"""The power that a restart needs. A VM that is off or saved has nothing to restart: it is started."""


class RestartVirtualMachine(Stop):
    """Stop a VM, and start it again."""

    name = KindName("RESTART_VIRTUAL_MACHINE")

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise WrongPower or VmAbsent unless the VM is running; a paused one can be turned off."""
        if wrong := power_outside(vm, _FROM[self.params.read(request.params).mode], "restart"):
            raise wrong

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the stop, and the start."""
        return (*self.stop_steps(request), VM_START.planned(nature=StepNature.PIVOT))

    def skips(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Skip what is so already: a VM that has been shut down meanwhile only has to be started."""
        return True

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to STOPPING; to STARTING if it is off already."""
        return (move_vm(vm, "start_begins" if step.plan.action == VM_START.name else self.trigger),)

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move from STOPPING to STARTING."""
        goes_on = step.plan.action == VM_START.name and VM.allows("restart_goes_on", vm.activity)
        return (move_vm(vm, "restart_goes_on"),) if goes_on else ()

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return, for a restart that has left the VM off, also that, and the command that starts it."""
        if vm.power is not Power.STOPPED:
            return failure
        text = f"VM {vm.name} is off. {failure.message}"
        return replace(failure, message=f"{text} To start it, run `snapshotctl vm start {shlex.quote(vm.name)}`.")

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return RUNNING, and whether the guest's memory is lost."""
        turned_off = self.params.read(request.params).mode is StopMode.TURN_OFF
        return Preview(
            current=vm.current_id,
            power=Power.RUNNING,
            memory_lost=turned_off and vm.power in IN_MEMORY,
            warnings=self.warnings(request),
        )


RESTART_VIRTUAL_MACHINE = RestartVirtualMachine()
