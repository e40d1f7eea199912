"""Import a released VM from its export: in place, under its own id, with its checkpoints.

The host is asked before whether anything stands in the way, such as a switch that it does not have. Then nothing is
done, and the list is told. There is no undo: a VM that was imported is on its host again.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmDescription, VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Absent, Action, Judgement


@dataclass(frozen=True, slots=True)
class Input:
    """From where."""

    configuration_path: str


@dataclass(frozen=True, slots=True)
class Before:
    """What the host must find."""

    vm_absent: bool


class VmImport(Action):
    """Import a VM in place."""

    name = ActionName("vm_import")
    label = "import"
    needs_vm = False
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the host has the VM: it had not when the step was issued."""
        return Absent() if report.power is Power.ABSENT else self.done()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the VM is on a host again."""
        return vm.released is None

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM with its disks, and those of its checkpoints, in the folder of the export."""
        if not step.attempts:
            return recorded
        there = {c.checkpoint_id: c.disks for c in observed.checkpoints}
        frozen = (replace(c, disks=there.get(c.checkpoint_id, c.disks)) for c in recorded.checkpoints)
        return replace(recorded, disks=observed.disks, files=observed.files, checkpoints=tuple(frozen))

    def claims(self, vm: VirtualMachine, step: Step) -> frozenset[Power]:
        """Return what an export may have kept: a VM that is off, or its saved memory."""
        return frozenset({Power.STOPPED, Power.SAVED})

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for checkpoints: many files may have to be looked at."""
        return policy.create_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return from where."""
        return f"Import the VM from its export: {self.input.read(plan.input).configuration_path}."


VM_IMPORT = VmImport()
