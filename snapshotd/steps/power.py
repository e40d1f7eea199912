"""What starting and stopping a VM have in common: both are judged by the observed power alone.

Starting a running VM, or stopping a stopped one, gets a warning from Hyper-V and has no effect (docs/hyperv.md,
section 1, source read), so doing either again harms nobody.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Absent, Action, InProgress, Judgement

START = ActionName("vm_start")
"""Named here, since a stop is undone by a start, and a start by a stop."""
IN_MEMORY = frozenset({Power.RUNNING, Power.PAUSED, Power.SAVED})
"""A VM in one of these has memory to lose."""


@dataclass(frozen=True, slots=True)
class Before:
    """The power that the host must find."""

    power: Power


class PowerAction(Action):
    """Change a VM's power."""

    facts: Versioned[Before] = Versioned(Before)

    @abstractmethod
    def goal(self, plan: PlannedStep) -> Power:
        """Return the power that a step brings about."""

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the power is the goal. Merging alone does not count as work under way."""
        if report.power is self.goal(step.plan):
            return self.done()
        return InProgress() if report.works_besides_merging() else Absent()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the power is the goal."""
        return vm.power is self.goal(step.plan)

    def claims(self, vm: VirtualMachine, step: Step) -> frozenset[Power]:
        """Return the goal."""
        return frozenset({self.goal(step.plan)})

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for power changes."""
        return policy.power_wait_s
