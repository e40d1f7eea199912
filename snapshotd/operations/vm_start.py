"""StartVirtualMachine: one undoable step. A paused VM is resumed, a saved one goes on from its saved memory."""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import PlannedStep, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Preview
from snapshotd.operations.power_change import PowerChange
from snapshotd.steps.action import wrong_power
from snapshotd.steps.vm_start import VM_START


class StartVirtualMachine(PowerChange):
    """Start, or resume, a VM."""

    name = KindName("START_VIRTUAL_MACHINE")
    trigger = "start_begins"

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise WrongPower or VmAbsent unless the VM is off, saved or paused."""
        if wrong := wrong_power(vm, self.trigger, "start"):
            raise wrong

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return one step."""
        return (VM_START.planned(nature=StepNature.UNDOABLE),)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that it runs."""
        return Preview(current=vm.current_id, power=Power.RUNNING)


START_VIRTUAL_MACHINE = StartVirtualMachine()
