"""StopVirtualMachine: one undoable step, by shutdown, turn-off, save or pause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.operation import PlannedStep, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
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
        """Raise WrongPower if the VM's power does not allow this way to stop."""
        if forbidden := step.forbids(vm, self.params.read(request.params).mode):
            raise forbidden

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return one step."""
        how = step.Input(self.params.read(request.params).mode)
        return (step.VM_STOP.planned(how, nature=StepNature.UNDOABLE),)


STOP_VIRTUAL_MACHINE = StopVirtualMachine()
