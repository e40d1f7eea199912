"""Remove a VM from its host after an export: from then on the export is the VM, until it is imported somewhere.

The host removes only what the export is a copy of. The facts are those that the export was begun with; and the script
that begins an export notes when each disk was last written to, so that a VM that was on for a while since, with nobody
looking, is not removed. Its checkpoints go with it, and are in the export; its files stay where they are (documented).
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import vm_export
from snapshotd.steps.action import Absent, Action, InProgress, Judgement, Trace, trace
from snapshotd.steps.export_complete import EXPORT_COMPLETE
from snapshotd.steps.vm_export import VM_EXPORT


@dataclass(frozen=True, slots=True)
class Input:
    """Which export it is released to: empty in the plan, it is the one that the operation has made."""

    directory: str = ""


class VmRelease(Action):
    """Remove a VM from its host that is kept as an export."""

    name = ActionName("vm_release")
    label = "release"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[vm_export.Before] = Versioned(vm_export.Before)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> vm_export.Before:
        """Return what the export is of: the host must find the VM like that."""
        begun = operation.last(VM_EXPORT.name)
        assert begun is not None, operation
        assert begun.before is not None, begun
        return VM_EXPORT.facts.read(begun.before)

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return the folder of the complete export."""
        return {"directory": EXPORT_COMPLETE.target(operation)}

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the host does not have the VM, unless it went without us."""
        if report.power is Power.ABSENT:
            gone = trace(vm, operation, step, report.journal) is not Trace.UNTOUCHED
            return self.done() if gone else Absent()
        return InProgress() if report.works_besides_merging() else Absent()

    def claims(self, vm: VirtualMachine, step: Step) -> frozenset[Power]:
        """Return ABSENT."""
        return frozenset({Power.ABSENT})

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return "Remove the VM from its host, if it is as it was exported; its files there stay."


VM_RELEASE = VmRelease()
