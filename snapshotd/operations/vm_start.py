"""StartVirtualMachine: one undoable step. A paused VM is resumed, a saved one goes on from its saved memory."""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain.commands import OperationRequest, StartVm
from snapshotd.domain.errors import WrongPower
from snapshotd.domain.lifecycle import NEEDS_POWER
from snapshotd.domain.operation import OperationKind, PlannedStep, StepAction, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import needed
from snapshotd.operations.power import PowerOnly


class StartVmKind(PowerOnly):
    """Start, or resume, a VM."""

    kind = OperationKind.START_VM
    begins_trigger = "start_begins"

    def check(self, vm: VirtualMachine, request: OperationRequest, policy: Policy, now: datetime) -> None:
        """Need a VM that is off, saved or paused. Raises WrongPower."""
        if vm.power not in NEEDS_POWER["start_begins"]:
            raise WrongPower(vm=vm.name, power=vm.power.name, needed=needed("start_begins"), action="start")

    def plan(self, vm: VirtualMachine, request: OperationRequest) -> tuple[PlannedStep, ...]:
        """Plan one step."""
        assert isinstance(request, StartVm)
        return (PlannedStep(number=1, action=StepAction.START, nature=StepNature.UNDOABLE),)
