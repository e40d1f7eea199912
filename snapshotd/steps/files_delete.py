"""Delete files: exactly those that are named. What is gone already is no error, so it may be done again.

The host's side refuses a file that stands in the chain of any VM of that host, also of one that nobody has registered,
and, if an identifier is given, a file that is another virtual disk by now.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Absent, Action, InProgress, Judgement


@dataclass(frozen=True, slots=True)
class Input:
    """Which files."""

    paths: tuple[str, ...]
    only_identifier: str = ""
    """Of the virtual disk that they must be; empty: whatever is there."""


class FilesDelete(Action):
    """Delete files."""

    name = ActionName("files_delete")
    label = "delete files"
    needs_vm = False
    input: Versioned[Input] = Versioned(Input)

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the files."""
        return self.input.read(step.plan.input).paths

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if none of the files is there."""
        files = set(self.watched_files(step))
        if report.activities or files & set(report.unknown_files):
            return InProgress()
        return Absent() if files & set(report.existing_files) else self.done()

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return f"Delete {', '.join(self.input.read(plan.input).paths)}."


FILES_DELETE = FilesDelete()
