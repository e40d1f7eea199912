"""Remove a VM from its host. It is off; its disks stay where they are (documented).

Checkpoints that it still has go with it, and Hyper-V merges their disks afterwards (documented): whoever plans this
step sees to them. Judged by whether the host has the VM. Once it has been asked for, there is no way back.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Absent, Action, InProgress, Judgement, power_outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the host must find."""

    power: Power
    checkpoint_ids: tuple[CheckpointId, ...]
    drives: tuple[str, ...]
    chain_files: tuple[str, ...]


class VmRemove(Action):
    """Remove a VM from its host."""

    name = ActionName("vm_remove")
    label = "remove VM"
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the host does not have the VM."""
        if report.power is Power.ABSENT:
            return self.done()
        return InProgress() if report.activities else Absent()

    def goal(self, plan: PlannedStep) -> Power:
        """Return ABSENT."""
        return Power.ABSENT

    def claims(self, vm: VirtualMachine, step: Step) -> frozenset[Power]:
        """Return ABSENT."""
        return frozenset({Power.ABSENT})

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal unless the VM is off."""
        wrong = power_outside(vm, frozenset({Power.STOPPED}), "remove")
        return Failure.of(wrong) if wrong else None

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return "Remove the VM from its host; its disks stay."


VM_REMOVE = VmRemove()
