"""Delete files: exactly those that are named. What is gone already is no error, so it may be done again.

The host's side refuses a file that stands in the chain of any VM of that host, also of one that nobody has registered,
and, if an identifier is given, a file that is another virtual disk by now.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport, file_key, file_keys
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.own_files import own_files
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Absent, Action, InProgress, Judgement


@dataclass(frozen=True, slots=True)
class Input:
    """Which files."""

    paths: tuple[str, ...]
    only_identifier: str = ""
    """Of the virtual disk that they must be; empty: whatever is there."""
    only_own: bool = False
    """Only those that were the VM's own when its host last reported it."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was found to be deleted."""

    paths: tuple[str, ...]
    """Not compared: the files."""


class FilesDelete(Action):
    """Delete files."""

    name = ActionName("files_delete")
    label = "delete files"
    needs_vm = False
    input: Versioned[Input] = Versioned(Input)
    unsent = frozenset({"only_own"})
    facts: Versioned[Before] = Versioned(Before)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return the files; if only the VM's own are meant, those of them that it had when it was last reported."""
        planned = self.input.read(step.plan.input)
        if not planned.only_own:
            return Before(planned.paths)
        own = file_keys(own_files(vm.description)) if vm.description else set()
        return Before(tuple(path for path in planned.paths if file_key(path) in own))

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return the files that were found to be deleted."""
        return {"paths": list(self.paths(step)), "only_identifier": self.input.read(step.plan.input).only_identifier}

    def paths(self, step: Step) -> tuple[str, ...]:
        """Return the files; of a step that was not issued, those that were planned."""
        return self.facts.read(step.before).paths if step.before else self.input.read(step.plan.input).paths

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the files."""
        return self.paths(step)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if none of the files is there."""
        keys = file_keys(self.paths(step))
        if report.activities or keys & file_keys(report.unknown_files):
            return InProgress()
        return Absent() if keys & file_keys(report.existing_files) else self.done()

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return f"Delete {', '.join(self.input.read(plan.input).paths)}."


FILES_DELETE = FilesDelete()
