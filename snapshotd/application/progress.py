"""How operations advance: steps issued, answers judged, undo planned, the end recorded.

Pure. The core's half of the fence is here (docs/adr/0002), the host's half in docs/host-protocol.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, assert_never

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
from snapshotd.application.next_action import (
    Finish,
    GiveUp,
    Issue,
    Observe,
    PlanUndo,
    Skip,
    StartWait,
    StopWait,
    next_action,
)
from snapshotd.application.reconcile import describe, reconcile
from snapshotd.application.rolled_back import notice
from snapshotd.application.unknown import take_nothing, unknown
from snapshotd.domain import commands as c
from snapshotd.domain import events as e
from snapshotd.domain.host_report import HostAnswer, Verdict, VmReport
from snapshotd.domain.lifecycle import OPERATION, STEP, VM, OperationState, StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import CANCELLED, UNDETERMINED, move_vm
from snapshotd.steps.action import Absent, Done, InProgress, Undetermined
from snapshotd.steps.catalogue import ACTIONS


class _Moved(TypedDict):
    """What every transition of a step holds."""

    number: int
    step: int
    from_state: StepState
    to_state: StepState


def advance(draft: Draft, *, issue: bool = False) -> None:
    """Record what comes next and needs no host; with `issue` also steps and observations, which are sent afterwards."""
    for number in [o.number for o in draft.vm.active_operations]:
        advance_one(draft, number, issue=issue)


def advance_one(draft: Draft, number: int, *, issue: bool = False) -> None:
    """Record what comes next with one operation, as `advance` does with all that are active."""
    while (operation := draft.vm.operations[number]).active:
        action = next_action(draft.vm, operation, draft.context.now, draft.context.policy)
        match action:
            case Skip():
                _skip(draft, operation, action)
            case PlanUndo():
                _plan_undo(draft, operation, action.failure)
            case Finish():
                _finish(draft, operation, action.outcome, action.failure)
            case Issue() if issue and not _taken(draft.vm, operation):
                _issue(draft, operation, action.step)
            case Observe() if issue and not _taken(draft.vm, operation):
                _observe(draft, number, action.step)
            case StartWait():
                _start_wait(draft, operation, action.step)
            case GiveUp():
                _give_up(draft, operation, action.step, action.failure)
            case StopWait():
                _fail(draft, operation, action.step, CANCELLED)
            case _:
                break


def _skip(draft: Draft, operation: Operation, skip: Skip) -> None:
    """Record that a step is not needed, or must not be issued."""
    number, at = operation.number, skip.step.plan.number
    draft.add([e.StepSkipped(**_moved(operation, skip.step, "skipped"), failure=skip.failure)], number)
    if operation.state is OperationState.RUNNING:
        operation = draft.vm.operations[number]
        draft.add(KINDS[operation.kind].step_done(draft.vm, operation, operation.step(at)), number)


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
                _fail(draft, operation, step, command.failure)
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
            _give_up(draft, operation, step, Failure(reason=UNDETERMINED, message=text, error_id=failure.error_id))
            advance(draft)
        elif step.observing:
            # Nothing was sent. The step goes on with what is on record, or is refused by it.
            unseen = e.ObservationAnswered(number=operation.number, step=step.plan.number, seen=False)
            draft.add([unseen], operation.number)
            advance(draft)
    elif step.state is not StepState.ISSUED:
        return
    elif isinstance(command, c.NotSent):
        draft.add([e.StepNotSent(**_moved(operation, step, "not_sent"), failure=failure)], operation.number)
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
    """Record that a step is done, if a poll shows it. A poll proves nothing else."""
    if command.host_id not in (None, draft.vm.host_id):
        return
    judged = ACTIONS[step.plan.action].judge(draft.vm, operation, step, command.report)
    if isinstance(judged, Done):
        current = draft.vm.last_step_version <= command.asked_version
        _settle(draft, operation, step, judged, command.report, observed=True, current=current)
        advance(draft)


def _fail(draft: Draft, operation: Operation, step: Step, failure: Failure) -> None:
    draft.add([e.StepFailed(**_moved(operation, step, "failed"), failure=failure)], operation.number)
    _failed(draft, operation, step)


def _failed(draft: Draft, operation: Operation, step: Step) -> None:
    """Record what it means for VM and snapshots that a step has ended without its effect, or undetermined."""
    operation = draft.vm.operations[operation.number]
    ended = operation.step(step.plan.number)
    draft.add(KINDS[operation.kind].step_failed(draft.vm, operation, ended), operation.number)


def _give_up(draft: Draft, operation: Operation, step: Step, failure: Failure) -> None:
    """Record that nobody will ever know what became of a step whose command may have been at work."""
    if step.state is StepState.ISSUED:
        unknown(draft, operation, step, failure)
        step = draft.vm.operations[operation.number].step(step.plan.number)
    given_up = e.StepUndetermined(**_moved(operation, step, "undetermined"), failure=failure)
    draft.add([given_up], operation.number)
    _failed(draft, operation, step)


def end_undetermined(draft: Draft, operation: Operation, failure: Failure) -> None:
    """End an operation of which nobody will ever know what came, by a person's decision."""
    step = operation.open_step
    if step is not None:
        (_fail if step.state is StepState.WAITING else _give_up)(draft, operation, step, failure)
    _finish(draft, draft.vm.operations[operation.number], OperationState.FAILED, failure)


def _taken(vm: VirtualMachine, operation: Operation) -> bool:
    """Return whether another operation's step is open: at most one step per VM has an open token."""
    return any(s.open or s.observing for o in vm.active_operations if o.number != operation.number for s in o.steps)


def _moved(operation: Operation, step: Step, trigger: str) -> _Moved:
    return _Moved(
        number=operation.number,
        step=step.plan.number,
        from_state=step.state,
        to_state=STEP.dest(trigger, step.state),
    )


def _issue(draft: Draft, operation: Operation, step: Step) -> None:
    """Record a step that is about to be sent. The first one also starts the operation, in the same append."""
    kind, action = KINDS[operation.kind], ACTIONS[step.plan.action]
    _begin(draft, operation, step)
    if operation.state is OperationState.RUNNING:
        draft.add(kind.continues(draft.vm, operation, step), operation.number)
    issued = e.StepIssued(
        **_moved(operation, step, "issued"),
        attempt=step.attempts + 1,
        before=action.facts.write(action.before(draft.vm, operation, step)),
        deadline=kind.deadline(operation, step, draft.context.now, draft.context.policy),
        token_base=draft.vm.token_base,
    )
    draft.add([issued], operation.number)


def _observe(draft: Draft, number: int, step: Step) -> None:
    """Record an observation that is about to be sent."""
    base = draft.vm.token_base
    draft.add([e.ObservationIssued(number=number, step=step.plan.number, token_base=base)], number)


def _begin(draft: Draft, operation: Operation, step: Step) -> None:
    if operation.state is OperationState.PENDING:
        operation = _started(draft, operation)
        draft.add(KINDS[operation.kind].begins(draft.vm, operation, step), operation.number)


def _started(draft: Draft, operation: Operation) -> Operation:
    to_state = OPERATION.dest("started", operation.state)
    started = e.OperationStarted(number=operation.number, from_state=operation.state, to_state=to_state)
    draft.add([started], operation.number)
    return draft.vm.operations[operation.number]


def _start_wait(draft: Draft, operation: Operation, step: Step) -> None:
    """Record that the host is polled from now on."""
    action = ACTIONS[step.plan.action]
    _begin(draft, operation, step)
    if operation.state is OperationState.RUNNING:
        draft.add(KINDS[operation.kind].continues(draft.vm, operation, step), operation.number)
    before = action.facts.write(action.before(draft.vm, operation, step))
    draft.add([e.StepWaitStarted(**_moved(operation, step, "wait_starts"), before=before)], operation.number)


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
    event = e.StepDone(**_moved(operation, step, "done"), observed=observed, output=done.output)
    draft.add([event], number)
    quiet = current and not draft.vm.step_is_open()
    operation = draft.vm.operations[number]
    claims = claimed(draft.vm, operation, operation.step(step.plan.number), report)
    goal = ACTIONS[step.plan.action].goal(step.plan)
    if quiet and goal in claims and goal not in (draft.vm.power, report.power):
        draft.add([e.VmPowerChanged(from_power=draft.vm.power, to_power=goal, cause="step")], number)
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
                _fail(draft, operation, step, still_changing(draft.vm, operation, step, report))
            else:
                late = ran_out(draft.vm, operation, step, report)
                _without_effect(draft, operation, step, failure, passing=passing, late=late)
            _absorb(draft, operation, step, report)
        case Undetermined(detail=detail):
            assert step.failure is not None, step
            text = f"Cannot tell whether the step took effect: {detail}. Last failure: {step.failure.message}"
            failure = Failure(reason=UNDETERMINED, message=text, error_id=step.failure.error_id)
            _give_up(draft, operation, step, failure)
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
    unknown(draft, operation, step, failure)
    if answer.verdict is Verdict.CHANGED and answer.vm is not None:
        # The script wrote the token before it compared: this is an observation with that token.
        operation = draft.vm.operations[operation.number]
        _observed(draft, operation, operation.step(step.plan.number), answer.vm)


def _without_effect(
    draft: Draft, operation: Operation, step: Step, failure: Failure, *, passing: bool, late: bool = False
) -> None:
    """Record that a step had no effect: due again if the reason may pass and attempts are left, or failed.

    `late`: its script ran until the deadline, and was ended. It is not run for so long again. How long nobody could
    look at the host does not count: the step was not at work then.
    """
    wanted = operation.undoing or not operation.cancel_requested
    now, policy = draft.context.now, draft.context.policy
    late = late or KINDS[operation.kind].deadline(operation, step, now, policy) <= now
    if passing and not late and step.attempts < policy.max_attempts and wanted:
        draft.add([e.StepDueAgain(**_moved(operation, step, "due_again"), failure=failure)], operation.number)
        return
    if passing and late:
        text = f"The step had no effect before its deadline. Last failure: {failure.message}"
        failure = Failure(reason=LATE, message=text, error_id=failure.error_id)
    _fail(draft, operation, step, failure)


def _absorb(draft: Draft, operation: Operation, step: Step, report: VmReport) -> None:
    """Record what a report for a step shows, unless a step is open."""
    if not draft.vm.step_is_open():
        operation = draft.vm.operations[operation.number]
        claims = claimed(draft.vm, operation, operation.step(step.plan.number), report)
        before = describe(draft, report, operation.number, claimed=claims)
        reconcile(draft, before)


def _plan_undo(draft: Draft, operation: Operation, failure: Failure | None) -> None:
    """Skip the steps that are still due, and plan the undo."""
    number = operation.number
    operation = _skip_the_rest(draft, operation)
    undo = KINDS[operation.kind].undo(draft.vm, operation, failure)
    draft.add([e.UndoPlanned(number=number, steps=undo.steps, failure=failure)], number)
    draft.add(undo.events, number)


def _skip_the_rest(draft: Draft, operation: Operation) -> Operation:
    """Skip the steps that are still due; return the operation with that."""
    for step in operation.steps:
        if step.state is StepState.DUE:
            draft.add([e.StepSkipped(**_moved(operation, step, "skipped"))], operation.number)
    return draft.vm.operations[operation.number]


def _finish(draft: Draft, operation: Operation, outcome: OperationState, failure: Failure | None) -> None:
    """Record an operation's end: its remaining steps, its snapshot, its VM and itself, in one append."""
    number = operation.number
    operation = _skip_the_rest(draft, operation)
    if outcome is OperationState.SUCCEEDED and operation.state is OperationState.PENDING:
        operation = _started(draft, operation)  # every step was satisfied already
    if failure is not None:
        failure = KINDS[operation.kind].explained(draft.vm, operation, failure)
    draft.add(KINDS[operation.kind].ends(draft.vm, operation, outcome, failure), number)
    holders = [o for o in draft.vm.active_operations if o.number != number and o.holds_vm]
    if operation.state is OperationState.RUNNING and not holders and VM.allows("operation_released", draft.vm.activity):
        draft.add([move_vm(draft.vm, "operation_released")], number)
    match outcome:
        case OperationState.SUCCEEDED:
            to_state_ = OPERATION.dest("succeeded", operation.state)
            draft.add([e.OperationSucceeded(number=number, from_state=operation.state, to_state=to_state_)], number)
        case OperationState.CANCELLED:
            to_state_ = OPERATION.dest("cancelled", operation.state)
            draft.add([e.OperationCancelled(number=number, from_state=operation.state, to_state=to_state_)], number)
        case _:
            assert failure is not None, operation
            to_state_ = OPERATION.dest("failed", operation.state)
            failed = e.OperationFailed(number=number, from_state=operation.state, to_state=to_state_, failure=failure)
            draft.add([failed], number)
