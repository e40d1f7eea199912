"""StartVirtualMachine: one undoable step. A paused VM is resumed, a saved one goes on from its saved memory.

A VM that was released after an export is imported first, on the host that was asked for, or else on the one that it was
released from. The record goes to that host with the request: what is asked and observed from then on is asked there. If
nothing comes of the import, it goes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.export_errors import VmNotReleased
from snapshotd.domain.ids import HostId, KindName
from snapshotd.domain.lifecycle import OperationState, Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Preview
from snapshotd.operations.power_change import PowerChange
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import vm_import
from snapshotd.steps.action import wrong_power
from snapshotd.steps.vm_import import VM_IMPORT
from snapshotd.steps.vm_start import VM_START

_INCOMPATIBLE = "ImportIncompatible,snapshotd"
"""What the host's script says of a VM that it cannot import as it is."""


@dataclass(frozen=True, slots=True)
class Params:
    """Where to start."""

    host_id: HostId | None = None
    """None: where the VM is, or was released from."""


class StartVirtualMachine(PowerChange):
    """Start, or resume, a VM."""

    name = KindName("START_VIRTUAL_MACHINE")
    params: Versioned[Params] = Versioned(Params, 2, {1: lambda _: {"host_id": None}})
    trigger = "start_begins"
    accepts_released_vms = True

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless the VM is off, saved or paused, and where it is to be started."""
        wanted = self.params.read(request.params).host_id
        if vm.released is None and wanted not in (None, vm.host_id):
            raise VmNotReleased(vm.name, str(wanted), vm.host_id)
        if wrong := wrong_power(vm, self.trigger, "start"):
            raise wrong

    def accepted(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> tuple[e.VmEvent, ...]:
        """Return the move of a released VM to the host that it is to be imported on."""
        wanted = self.params.read(request.params).host_id
        if vm.released is None or wanted in (None, vm.host_id):
            return ()
        assert wanted is not None
        return (e.VmMoved(from_host_id=vm.host_id, to_host_id=wanted, cause="step"),)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the start, after the import of a VM that was released."""
        if vm.released is None:
            return (VM_START.planned(nature=StepNature.UNDOABLE),)
        source = vm_import.Input(vm.released.configuration_path)
        return (
            VM_IMPORT.planned(source, nature=StepNature.PIVOT),
            VM_START.planned(nature=StepNature.FORWARD_ONLY),
        )

    def skips(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the step is an undo, or an import that others have done meanwhile."""
        return step.plan.action == VM_IMPORT.name or super().skips(vm, operation, step)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM has turned up on another host than it is to be started on."""
        wanted = self.params.read(operation.params).host_id
        if wanted in (None, vm.host_id):
            return None
        return Failure.of(VmNotReleased(vm.name, str(wanted), vm.host_id))

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return of what cannot be imported that nothing was done, and where the VM can be started all the same."""
        if vm.released is None:
            return failure
        reason = "IMPORT_INCOMPATIBLE" if failure.error_id == _INCOMPATIBLE else failure.reason
        text = (
            f"{failure.message} Nothing was imported: the VM stays released, with its export in "
            f"{vm.released.directory}. See to what stands in the way, or start it on another host."
        )
        return replace(failure, reason=reason, message=text)

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the move of a VM that was not imported, back to the host that it was released from."""
        told = super().ends(vm, operation, outcome, failure)
        if vm.released is None or vm.released.host_id == vm.host_id:
            return told
        return *told, e.VmMoved(from_host_id=vm.host_id, to_host_id=vm.released.host_id, cause="step")

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that it runs, and of a released VM from where it is imported."""
        seen = Preview(current=vm.current_id, power=Power.RUNNING)
        if vm.released is None:
            return seen
        wanted = self.params.read(request.params).host_id or vm.host_id
        told = f"The VM is imported on host {wanted}, in place: its files stay in {vm.released.directory}."
        return replace(seen, warnings=(told,))


START_VIRTUAL_MACHINE = StartVirtualMachine()
