"""What an answer or an observation proves about a step. Records nothing.

The action judges by what is there (`Action.judge`). Here is what goes for all of them: what the journal has kept, how
long a VM between two powers is waited for, and which change of the power was the step's.
"""

from __future__ import annotations

from snapshotd.application.draft import Context
from snapshotd.application.next_action import awaits_move, awaits_power
from snapshotd.domain.host_report import STATE_CHANGE, HostAnswer, Verdict, VmReport
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, Step, StepNature
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import CANCELLED
from snapshotd.steps.action import Done, InProgress, Judgement, Trace, trace
from snapshotd.steps.catalogue import ACTIONS

LATE = "DEADLINE_EXCEEDED"
"""Reason of an attempt that was ended at its deadline."""


def told(vm: VirtualMachine, operation: Operation, step: Step, answer: HostAnswer) -> Done | None:
    """Return the result that a DONE reports; None for another verdict, or if its output cannot be this step's.

    What the journal beside it has kept of the step must be the same.
    """
    if answer.verdict is not Verdict.DONE:
        return None
    journal = answer.vm.journal if answer.vm else None
    if journal and journal.output and trace(vm, operation, step, journal) is Trace.DONE:
        return _kept(vm, step, answer.output) if dict(journal.output) == dict(answer.output) else None
    return _kept(vm, step, answer.output)


def _kept(vm: VirtualMachine, step: Step, output: JsonObject) -> Done | None:
    """Return a step's result by the output that its host has kept; None if it cannot be this step's."""
    action = ACTIONS[step.plan.action]
    try:
        done = action.told(output)
    except RecordNotReadable:
        return None
    return done if action.believable(vm, step, done) else None


def judged(vm: VirtualMachine, operation: Operation, step: Step, report: VmReport, context: Context) -> Judgement:
    """Return what became of a step. One that the journal says is done is done: what came after it is drift.

    A VM that stays between two powers is at work until the step's time is over, or until the operation makes way.
    The observation has raised the fence, so nothing that was sent for the step can begin any more.
    """
    if hangs(vm, operation, step, report, context):
        report = replace(report, activities=tuple(a for a in report.activities if a != STATE_CHANGE))
    found = ACTIONS[step.plan.action].judge(vm, operation, step, report)
    if isinstance(found, InProgress) or trace(vm, operation, step, report.journal) is not Trace.DONE:
        return found
    return _kept(vm, step, report.journal.output) or found


def hangs(vm: VirtualMachine, operation: Operation, step: Step, report: VmReport, context: Context) -> bool:
    """Return whether a VM is between two powers, and the step does not wait for it any longer."""
    assert step.deadline is not None, step
    return STATE_CHANGE in report.activities and (context.now >= step.deadline or vm.makes_way(operation))


def ran_out(vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> bool:
    """Return whether a step without effect was at work until its deadline. One whose script never began was not."""
    began = trace(vm, operation, step, report.journal) not in (Trace.UNTOUCHED, Trace.BEGUN_BEFORE)
    return began and step.failure is not None and step.failure.reason == LATE


def still_changing(vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Failure:
    """Return the failure of a step without effect whose VM hangs between two powers."""
    assert step.failure is not None, step
    text = (
        f"VM {vm.name} is still {report.host_state or 'changing its power'} on the host. What was begun may yet take "
        f"effect. Look at the VM there, then run `snapshotctl host sync {vm.host_id}`. "
        f"Last failure: {step.failure.message}"
    )
    reason = CANCELLED.reason if vm.makes_way(operation) else LATE
    return Failure(reason=reason, message=text, error_id=step.failure.error_id)


def between_two_powers(
    vm: VirtualMachine, operation: Operation, step: Step, report: VmReport, context: Context
) -> bool:
    """Return whether a step that is due waits until the VM's power is known; past its time limit it does not.

    Every step waits for a change that is under way. After the pivot, one waits for any power that is not known.
    """
    passing = STATE_CHANGE in report.activities or step.plan.nature is StepNature.FORWARD_ONLY
    seen = replace(vm, power=report.power)
    return passing and awaits_power(seen, operation, step, context.now, context.policy)


def away(vm: VirtualMachine, operation: Operation, step: Step, report: VmReport, context: Context) -> bool:
    """Return whether nothing is concluded yet since the host does not have the VM: it may be on its way to another.

    One that the step itself has begun to remove is not waited for.
    """
    if report.power is not Power.ABSENT or Power.ABSENT in claimed(vm, operation, step, report):
        return False
    return awaits_move(replace(vm, power=report.power), operation, step, context.now, context.policy)


def claimed(vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> frozenset[Power]:
    """Return the powers that a step may have brought about; none if no script has begun it."""
    if not step.attempts or trace(vm, operation, step, report.journal) is Trace.UNTOUCHED:
        return frozenset()
    return ACTIONS[step.plan.action].claims(vm, step)
