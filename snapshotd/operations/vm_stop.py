"""StopVirtualMachine: one undoable step, by shutdown, turn-off or save.

A shutdown asks the guest, and is an error where the guest cannot: it never turns into a power cut by itself
(docs/hyperv.md, section 1).
"""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain.commands import OperationRequest, StopVm
from snapshotd.domain.errors import WrongPower
from snapshotd.domain.operation import OperationKind, PlannedStep, StepAction, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.power import PowerOnly, mode_needs, mode_refusal, mode_verb


class StopVmKind(PowerOnly):
    """Shut a VM down, turn it off, or save it."""

    kind = OperationKind.STOP_VM
    begins_trigger = "stop_begins"

    def check(self, vm: VirtualMachine, request: OperationRequest, policy: Policy, now: datetime) -> None:
        """Need a power from which the asked way is possible. Raises WrongPower."""
        assert isinstance(request, StopVm)
        if mode_refusal(vm, request.mode) is not None:
            raise WrongPower(
                vm=vm.name,
                power=vm.power.name,
                needed=mode_needs(request.mode),
                action=mode_verb(request.mode),
            )

    def plan(self, vm: VirtualMachine, request: OperationRequest) -> tuple[PlannedStep, ...]:
        """Plan one step."""
        assert isinstance(request, StopVm)
        return (PlannedStep(number=1, action=StepAction.STOP, nature=StepNature.UNDOABLE, stop_mode=request.mode),)
