"""Begin to export a VM with its checkpoints into a folder of its own: a job of the hypervisor, which is waited for.

Ended by `export_end`, which its kinds plan. The job goes on whatever becomes of the script. Where the script died
before it could tell the job, the export counts as begun, by a job that nobody knows: it is ended, and begun anew.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import export_end
from snapshotd.steps.action import FACTS, Absent, Action, InProgress, Judgement, Trace, power_refusal, trace
from snapshotd.steps.export_folder import marker_of, partial_folder

_OF_OURS: Final = "EXPORT"
"""What the hypervisor does while our own job is at work. It may show as a job without a word of its own, too."""


@dataclass(frozen=True, slots=True)
class Input:
    """Where to."""

    directory: str
    """In the plan the folder of all exports, as the host sees it; the host gets that of the attempt."""


@dataclass(frozen=True, slots=True)
class Before:
    """What the host must find, and what the export is of."""

    power: Power
    checkpoint_ids: tuple[CheckpointId, ...]
    current_checkpoint_id: CheckpointId | None
    drives: tuple[str, ...]
    offering: Offering
    directory: str
    """The folder of this attempt. Not compared: the script refuses one that is there."""


@dataclass(frozen=True, slots=True)
class Output:
    """What was begun."""

    job_id: str
    """Empty: it was done at once. `export_end.ANY_JOB`: nobody knows which."""


class VmExport(Action):
    """Begin an export."""

    name = export_end.EXPORT
    label = "export"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)
    output: Versioned[Output] = Versioned(Output)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return what the export is of, and the folder of this attempt."""
        return _state(vm, self.folder(operation, step))

    def folder(self, operation: Operation, step: Step) -> str:
        """Return the folder of the attempt that a step begins, while it is not complete."""
        return partial_folder(self.input.read(step.plan.input).directory, operation, step)

    def unchanged(self, vm: VirtualMachine, step: Step) -> bool:
        """Return whether the VM, as it is on record, is what a step has exported."""
        assert step.before is not None, step
        then = self.facts.read(step.before)
        return then == _state(vm, then.directory)

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return the folder of this attempt."""
        return {"directory": self.folder(operation, step)}

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the file that shows that something was begun."""
        return (marker_of(self.facts.read(step.before).directory),) if step.before else ()

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Look whether the script has begun something. Our own job holds nothing up: it is what was wanted."""
        if any(not _may_be_ours(activity) for activity in report.activities):
            return InProgress()
        if trace(vm, operation, step, report.journal) in (Trace.UNTOUCHED, Trace.BEGUN_BEFORE, Trace.DONE):
            return Absent()  # of one that is done, the journal tells the job
        # A folder of which nobody can tell is not there, or its storage is away. The next script refuses one.
        begun = set(report.existing_files) & set(self.watched_files(step))
        return self.done(Output(export_end.ANY_JOB)) if begun or _OF_OURS in report.activities else Absent()

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM is neither off nor running."""
        return power_refusal(vm, "export_begins", "export")

    def left(self, operation: Operation, step: Step) -> export_end.Input:
        """Return what a step has to be ended by that has begun an export, or may have, unless that was completed."""
        job_id = self.output.read(step.output).job_id if step.output is not None else export_end.ANY_JOB
        return export_end.Input(job_id=job_id, directory=self.folder(operation, step))

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits a beginning."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return where to."""
        root = self.input.read(plan.input).directory
        return f"Begin to export the VM with its checkpoints, into a folder of its own below {root}."


def _state(vm: VirtualMachine, folder: str) -> Before:
    assert vm.description is not None, vm.vm_id
    known = {f.name: FACTS[f.name](vm, vm.description) for f in fields(Before) if f.name != "directory"}
    return Before(**known, directory=folder)  # type: ignore[arg-type]  # FACTS has them by these names


def _may_be_ours(activity: str) -> bool:
    return activity == _OF_OURS or activity.startswith("JOB_")


VM_EXPORT = VmExport()
