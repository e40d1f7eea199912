"""What answers, looks and polls mean for a step: done, without effect, in progress, or never to be known.

Pure. The core's half of the fence is here (docs/adr/0002), the host's half in docs/host-protocol.md.
"""

from __future__ import annotations

from typing import assert_never

from snapshotd.application.draft import Draft
from snapshotd.application.host_failures import failure_of
from snapshotd.application.host_grades import may_pass
from snapshotd.application.judging import (
    LATE,
    away,
    between_two_powers,
    claimed,
    hangs,
    judged,
    ran_out,
    still_changing,
    told,
)
from snapshotd.application.next_action import not_begun
from snapshotd.application.progress import advance, fail, give_up, step_move
from snapshotd.application.reconcile import describe, reconcile
from snapshotd.application.rolled_back import notice
from snapshotd.application.unknown import take_nothing, unknown
from snapshotd.domain import commands as c
from snapshotd.domain import events as e
from snapshotd.domain.host_report import HostAnswer, Verdict, VmReport
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.state import replace
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import CANCELLED, UNDETERMINED
from snapshotd.steps.action import Absent, Done, Failed, InProgress, Undetermined
from snapshotd.steps.catalogue import ACTIONS


def take(draft: Draft, command: c.StepCommand) -> None:
    """Record what a command about a step means; nothing if its operation has ended, or the log was rolled back."""
    if isinstance(command, c.TakeAnswer):
        notice(draft, command.answer.vm, command.answer.highest_token)
    elif isinstance(command, c.TakePoll):
        notice(draft, command.report)
    if draft.vm.rolled_back:
        advance(draft)
        return
    operation = draft.vm.operations.get(command.number)
    if operation is None or not operation.active or command.step > len(operation.steps):
        return
    step = operation.step(command.step)
    if draft.vm.claims and not isinstance(command, c.NotSent):
        take_nothing(draft, operation, step, command)
    else:
        _take(draft, operation, step, command)


def _take(draft: Draft, operation: Operation, step: Step, command: c.StepCommand) -> None:
    match command:
        case c.TakeAnswer():
            _take_answer(draft, operation, step, command)
        case c.LoseOutcome() | c.NotSent() | c.GiveUpLook():
            if step.token == command.token:
                _take_loss(draft, operation, step, command)
        case c.TakePoll():
            if step.state is StepState.WAITING:
                _take_poll(draft, operation, step, command)
        case c.StallWait():
            if step.state is StepState.WAITING:
                fail(draft, operation, step, command.failure)
                advance(draft)
        case _:
            assert_never(command)


def _take_loss(
    draft: Draft, operation: Operation, step: Step, command: c.LoseOutcome | c.NotSent | c.GiveUpLook
) -> None:
    """Record that no answer will come: the outcome is unknown, never failed, unless nothing was sent at all."""
    failure = command.failure
    if isinstance(command, c.GiveUpLook):
        if step.state is StepState.OUTCOME_UNKNOWN:
            text = "Cannot tell whether the step took effect: the VM could not be looked at for too long."
            text = f"{text} Last failure: {failure.message}"
            give_up(draft, operation, step, Failure(reason=UNDETERMINED, message=text, error_id=failure.error_id))
            advance(draft)
        elif step.observing:
            # Nothing was sent. The step goes on with what is on record, or is refused by it.
            unseen = e.ObservationAnswered(number=operation.number, step=step.plan.number, seen=False)
            draft.add([unseen], operation.number)
            advance(draft)
    elif step.state is not StepState.ISSUED:
        return
    elif isinstance(command, c.NotSent):
        draft.add([e.StepNotSent(**step_move(operation, step, "not_sent"), failure=failure)], operation.number)
        advance(draft)
    else:
        unknown(draft, operation, step, failure)


def _take_answer(draft: Draft, operation: Operation, step: Step, command: c.TakeAnswer) -> None:
    """Record what an answer means. One that comes twice changes nothing.

    With an old token only DONE counts. So it is with a host that the VM has left: what went there is looked at anew.
    """
    answer = command.answer
    newest = command.token == step.token
    elsewhere = command.host_id not in (None, draft.vm.host_id)
    done = told(draft.vm, operation, step, answer) if step.open else None
    if done is not None and answer.vm is not None:
        _settle(draft, operation, step, done, answer.vm, observed=False, current=not elsewhere)
    elif not newest:
        return
    elif answer.verdict is Verdict.OBSERVED and step.observing and answer.vm is not None:
        _observed(draft, operation, step, answer.vm)
    elif step.state is StepState.ISSUED:
        _answered_otherwise(draft, operation, step, answer)
    advance(draft)


def _take_poll(draft: Draft, operation: Operation, step: Step, command: c.TakePoll) -> None:
    """Record that a step is done, or has failed, if a poll shows it. A poll proves nothing else."""
    if command.host_id not in (None, draft.vm.host_id):
        return
    judged = ACTIONS[step.plan.action].judge(draft.vm, operation, step, command.report)
    if isinstance(judged, Done):
        current = draft.vm.last_step_version <= command.asked_version
        _settle(draft, operation, step, judged, command.report, observed=True, current=current)
        advance(draft)
    elif isinstance(judged, Failed):
        current = draft.vm.last_step_version <= command.asked_version
        fail(draft, operation, step, judged.failure)
        advance(draft)
        if current:
            _absorb(draft, operation, step, command.report)


def _settle(
    draft: Draft,
    operation: Operation,
    step: Step,
    done: Done,
    report: VmReport,
    *,
    observed: bool,
    current: bool = True,
) -> None:
    """Record that a step is done, what that means for VM and snapshots, and what else the report shows.

    Not `current`: another step has run since the report was asked for, so it proves nothing else. If the power shows
    no sign of the step, it had one: the step's change is on record before the one that others have made since.
    """
    number = operation.number
    event = e.StepDone(**step_move(operation, step, "done"), observed=observed, output=done.output)
    draft.add([event], number)
    quiet = current and not draft.vm.step_is_open()
    operation = draft.vm.operations[number]
    claims = claimed(draft.vm, operation, operation.step(step.plan.number), report)
    goal = ACTIONS[step.plan.action].goal(step.plan)
    if quiet and goal in claims and goal not in (draft.vm.power, report.power):
        draft.add([e.VmPowerChanged(from_power=draft.vm.power, to_power=goal, cause="step")], number)
    draft.add(KINDS[operation.kind].recognises(draft.vm, operation, operation.step(step.plan.number)), number)
    before = describe(draft, report, number, claimed=claims) if quiet else None
    draft.add(KINDS[operation.kind].step_done(draft.vm, operation, operation.step(step.plan.number)), number)
    advance(draft)
    if quiet:
        reconcile(draft, before)


def _observed(draft: Draft, operation: Operation, step: Step, report: VmReport) -> None:
    """Record what an observation proves. For a step that is only due, it makes the journal and the power known."""
    if away(draft.vm, operation, step, report, draft.context):
        return  # looked at again with the same token, each time later
    if step.state is StepState.DUE:
        if between_two_powers(draft.vm, operation, step, report, draft.context):
            return  # likewise
        draft.add([e.ObservationAnswered(number=operation.number, step=step.plan.number)], operation.number)
        _absorb(draft, operation, step, report)
        return
    match judged(draft.vm, operation, step, report, draft.context):
        case Done() as done:
            _settle(draft, operation, step, done, report, observed=True)
        case Absent():
            assert step.failure is not None, step
            passing = may_pass(step.failure.error_id, step.failure.message, refused=False)
            failure = step.failure if passing else replace(step.failure, reason="HOST_ERROR")
            if hangs(draft.vm, operation, step, report, draft.context):
                fail(draft, operation, step, still_changing(draft.vm, operation, step, report))
            else:
                late = ran_out(draft.vm, operation, step, report)
                _without_effect(draft, operation, step, failure, passing=passing, late=late)
            _absorb(draft, operation, step, report)
        case Undetermined(detail=detail):
            assert step.failure is not None, step
            text = f"Cannot tell whether the step took effect: {detail}. Last failure: {step.failure.message}"
            failure = Failure(reason=UNDETERMINED, message=text, error_id=step.failure.error_id)
            give_up(draft, operation, step, failure)
            advance(draft)
            _absorb(draft, operation, step, report)
        case Failed(failure):
            fail(draft, operation, step, failure)
            advance(draft)
            _absorb(draft, operation, step, report)
        case InProgress():
            pass  # looked at again with the same token: the fence is up, so nothing new can begin


def make_way(draft: Draft, operation: Operation) -> None:
    """Cancel an operation for a newer one. A step that may wait for its guest for ever is waited for no longer."""
    number = operation.number
    if not (operation.cancel_requested or operation.undoing):
        draft.add([e.CancelRequested(number=number)], number)
    for step in operation.steps:
        if step.state is StepState.ISSUED and ACTIONS[step.plan.action].waits_for_guest(step.plan):
            unknown(draft, operation, step, CANCELLED)


def _answered_otherwise(draft: Draft, operation: Operation, step: Step, answer: HostAnswer) -> None:
    """Record what an effect's own answer means, other than Done."""
    failure = failure_of(answer)
    if answer.verdict is Verdict.NO_EFFECT:
        passing = may_pass(answer.error_id, answer.error_message, refused=True)
        _without_effect(draft, operation, step, failure, passing=passing)
        if answer.vm is not None:
            _absorb(draft, operation, step, answer.vm)
        return
    if answer.verdict is Verdict.NOT_BEGUN:
        # The script wrote the token, so nothing that was sent for the step can begin any more.
        _without_effect(draft, operation, step, failure, passing=True, look_due=True)
        return
    unknown(draft, operation, step, failure)
    if answer.verdict is Verdict.CHANGED and answer.vm is not None:
        # The script wrote the token before it compared: this is an observation with that token.
        operation = draft.vm.operations[operation.number]
        _observed(draft, operation, operation.step(step.plan.number), answer.vm)


def _without_effect(
    draft: Draft,
    operation: Operation,
    step: Step,
    failure: Failure,
    *,
    passing: bool,
    late: bool = False,
    look_due: bool = False,
) -> None:
    """Record that a step had no effect: due again if the reason may pass and attempts are left, or failed.

    `look_due`: the host could not look at the VM, and so has not begun the step.

    `late`: its script ran until the deadline, and was ended. It is not run for so long again. How long nobody could
    look at the host does not count: the step was not at work then.
    """
    wanted = operation.undoing or operation.past_pivot or not operation.cancel_requested
    now, policy = draft.context.now, draft.context.policy
    late = late or KINDS[operation.kind].deadline(operation, step, now, policy) <= now
    if passing and not late and step.attempts < policy.max_attempts and wanted:
        again = e.StepDueAgain(**step_move(operation, step, "due_again"), failure=failure, look_due=look_due)
        draft.add([again], operation.number)
        return
    if passing and late:
        text = f"The step had no effect before its deadline. Last failure: {failure.message}"
        failure = Failure(reason=LATE, message=text, error_id=failure.error_id)
    elif look_due:
        failure = not_begun(failure)
    fail(draft, operation, step, failure)


def _absorb(draft: Draft, operation: Operation, step: Step, report: VmReport) -> None:
    """Record what a report for a step shows, unless a step is open."""
    if not draft.vm.step_is_open():
        operation = draft.vm.operations[operation.number]
        claims = claimed(draft.vm, operation, operation.step(step.plan.number), report)
        before = describe(draft, report, operation.number, claimed=claims)
        reconcile(draft, before)
