"""What the actions have in common that begin a job of the host, and leave it to `job_wait` to wait for its end."""

from __future__ import annotations

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation, PlannedStep, Step, StepNature
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps import export_end
from snapshotd.steps.action import Absent, Action, Done, InProgress, Judgement, Trace, Undetermined, trace
from snapshotd.steps.export_end import EXPORT_END


def judge_beginning(
    action: Action, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport
) -> Judgement:
    """Return what became of a step that begins a job, or that moves what a job has made.

    What it did is known by its output alone, which the journal keeps. Without that, whatever is at work on the VM may
    be its job, whose id nobody knows: that is waited for. Then the step begins anew.
    """
    found = trace(vm, operation, step, report.journal)
    if found is Trace.DONE and (done := _journalled(action, report)) is not None:
        return done
    if report.works_besides_merging():
        return InProgress()
    if report.description is None and found is not Trace.UNTOUCHED and action.needs_vm:
        return Undetermined("the host does not have the VM any more")
    return Absent()


def _journalled(action: Action, report: VmReport) -> Done | None:
    """Return the result that the journal keeps; None if it cannot be the action's."""
    try:
        return action.told(report.journal.output)
    except RecordNotReadable:
        return None


def begun(step: Step) -> bool:
    """Return whether a step may have left something in its folder."""
    return step.attempts > 0 and step.state in (StepState.DONE, StepState.FAILED)


def ended_by(job_id: str | None, directory: str, nature: StepNature = StepNature.BEST_EFFORT) -> PlannedStep:
    """Return the step that ends a job, and removes the folder that it was to fill.

    By default others are not held up if it fails: a folder that is left takes up room, and harms nothing.

    Args:
        job_id: as the host told it; empty: none is at work; None: nobody knows.
        directory: the folder.
        nature: of the step.
    """
    which = export_end.ANY_JOB if job_id is None else job_id
    return EXPORT_END.planned(export_end.Input(job_id=which, directory=directory), nature=nature)
