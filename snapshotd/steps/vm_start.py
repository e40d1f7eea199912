"""Start a VM: a paused one is resumed, a saved one goes on from its saved memory. Undone by `vm_stop`."""

from __future__ import annotations

from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps import vm_stop
from snapshotd.steps.action import power_refusal
from snapshotd.steps.power import START, PowerAction


class VmStart(PowerAction):
    """Start, or resume, a VM."""

    name = START
    label = "start"

    def goal(self, plan: PlannedStep) -> Power:
        """Return RUNNING."""
        return Power.RUNNING

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if Hyper-V does not allow it in the VM's power."""
        return power_refusal(vm, "start_begins", "start")

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return the stop that takes a running VM back to the power that it had."""
        assert step.before is not None, step
        mode = vm_stop.MODE_TO.get(self.facts.read(step.before).power)
        if mode is None or vm.power is not Power.RUNNING:
            return ()
        return (vm_stop.VM_STOP.planned(vm_stop.Input(mode), nature=StepNature.FORWARD_ONLY),)

    def description(self, plan: PlannedStep) -> str:
        """Return what it does. The last step of a revert mostly finds the power right."""
        if plan.undoes is None and plan.nature is StepNature.FORWARD_ONLY:
            return "Start the VM, if it is not running by then."
        return "Start the VM, or resume it."


VM_START = VmStart()
