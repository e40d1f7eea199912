"""Make an empty virtual disk, a file that was not there. Undone by its deletion.

Only a file that this very step has made is ever deleted: it was absent when the script looked, under the VM's mutex,
and the journal says that the script then began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import files_delete
from snapshotd.steps.action import Absent, Action, Done, Failed, InProgress, Judgement, Trace, trace
from snapshotd.steps.files_delete import FILES_DELETE

UNPROVEN: Final = "unproven"
"""Stands for the id of a file that is there, was not there before, and of which the journal does not say who made it:
the VM has moved to another host, say. It is gone on with, and never deleted."""


@dataclass(frozen=True, slots=True)
class Input:
    """Which file, and the size that the guest will see."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Before:
    """What the host must not find."""

    absent_files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What was made."""

    identifier: str
    """The virtual disk's own id. Empty: the script made it, and died before it could tell. Or UNPROVEN."""


class DiskCreate(Action):
    """Make a virtual disk."""

    name = ActionName("disk_create")
    label = "create disk"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)
    output: Versioned[Output] = Versioned(Output)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return that the file is not there."""
        return Before(absent_files=self.watched_files(step))

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the file."""
        return (self.input.read(step.plan.input).path,)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the file is there, unless the step was never begun: that it was absent was compared before."""
        (path,) = self.watched_files(step)
        found = trace(vm, operation, step, report.journal)
        if report.activities:
            return InProgress()
        if path in report.unknown_files:  # its folder is not there, or its storage is away
            return Absent() if found is Trace.UNTOUCHED else InProgress()
        if path not in report.existing_files:
            return Absent()
        if found is Trace.UNTOUCHED:
            text = f"Cannot make {path}: there is a file of that name already. Name another, or attach that one."
            return Failed(Failure(reason="FILE_EXISTS", message=text))
        return self.done(Output("" if found in (Trace.BEGUN, Trace.DONE) else UNPROVEN))

    def settled(self, vm: VirtualMachine, step: Step) -> Done:
        """Return that the file is there. What a person says is no ground to delete it by."""
        return self.done(Output(UNPROVEN))

    def touched(self, vm: VirtualMachine, step: Step) -> bool:
        """Return whether the file is certainly of this step's making."""
        return step.output is not None and self.output.read(step.output).identifier != UNPROVEN

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return the file's deletion."""
        assert step.output is not None, step
        which = files_delete.Input(self.watched_files(step), self.output.read(step.output).identifier)
        return (FILES_DELETE.planned(which, nature=StepNature.FORWARD_ONLY),)

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits small changes."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        wanted = self.input.read(plan.input)
        return f"Make the virtual disk {wanted.path}, of {wanted.size_bytes:,} bytes, which takes room as it is filled."


DISK_CREATE = DiskCreate()
