"""StartVirtualMachine: one undoable step. A paused VM is resumed, a saved one goes on from its saved memory."""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import OperationRequest, StartVm
from snapshotd.domain.errors import WrongPower
from snapshotd.domain.lifecycle import NEEDS_POWER, OperationState
from snapshotd.domain.operation import Failure, Operation, OperationKind, PlannedStep, Step, StepAction, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Undo, move_vm, needed
from snapshotd.operations.power import bring_power_back


class PowerOnly:
    """What starting and stopping have in common: no snapshot takes part, and a cancelled one brings the power back."""

    kind: OperationKind
    begins_trigger: str

    def accepted(self, vm: VirtualMachine, request: OperationRequest, now: datetime) -> tuple[e.VmEvent, ...]:  # noqa: ARG002
        """Record nothing besides."""
        return ()

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:  # noqa: ARG002
        """Take the VM to STARTING or STOPPING."""
        return (move_vm(vm, self.begins_trigger),)

    def follows(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:  # noqa: ARG002
        """Keep the activity while undoing."""
        return ()

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:  # noqa: ARG002
        """Record nothing besides: the power is observed."""
        return ()

    def verify(self, vm: VirtualMachine, operation: Operation) -> Failure | None:  # noqa: ARG002
        """Be content: the step's own judgement said it."""
        return None

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:  # noqa: ARG002
        """Bring the power back."""
        return Undo(steps=bring_power_back(vm, operation))

    def ends(
        self,
        vm: VirtualMachine,  # noqa: ARG002
        operation: Operation,  # noqa: ARG002
        outcome: OperationState,  # noqa: ARG002
        failure: Failure | None,  # noqa: ARG002
    ) -> tuple[e.VmEvent, ...]:
        """Record nothing besides."""
        return ()


class StartVmKind(PowerOnly):
    """Start, or resume, a VM."""

    kind = OperationKind.START_VM
    begins_trigger = "start_begins"

    def check(self, vm: VirtualMachine, request: OperationRequest, policy: Policy, now: datetime) -> None:  # noqa: ARG002
        """Need a VM that is off, saved or paused. Raises WrongPower."""
        if vm.power not in NEEDS_POWER["start_begins"]:
            raise WrongPower(
                vm=vm.name, power=vm.power.name, needed=needed("start_begins"), action="StartVirtualMachine"
            )

    def plan(self, vm: VirtualMachine, request: OperationRequest) -> tuple[PlannedStep, ...]:  # noqa: ARG002
        """Plan one step."""
        assert isinstance(request, StartVm)
        return (PlannedStep(number=1, action=StepAction.START, nature=StepNature.UNDOABLE),)
