"""End an export, or a copy of a disk: terminate its job if it is at work, and remove its folder.

It may be done again and again. The host removes no folder of which a VM uses a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Nothing, Versioned
from snapshotd.steps.action import Absent, Action, Judgement

ANY_JOB: Final = "unknown"
"""Stands for a job that nobody knows: whichever export of this VM is under way, if the folder is there."""


@dataclass(frozen=True, slots=True)
class Input:
    """What to end."""

    job_id: str
    """Its job; empty: none is at work; ANY_JOB: not known."""
    directory: str


class ExportEnd(Action):
    """End an export, and remove its folder."""

    name = ActionName("export_end")
    label = "end export"
    needs_vm = False
    input: Versioned[Input] = Versioned(Input)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Nothing:
        """Return nothing: whatever the VM is like, what is named is ended."""
        return Nothing()

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Have it done again, unless the journal says that it is done: that harms nobody."""
        return Absent()

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        asked = self.input.read(plan.input)
        return f"{'End the export, and remove' if asked.job_id else 'Remove'} {asked.directory}."


EXPORT_END = ExportEnd()
