"""How operations advance: steps issued, undo planned, the end recorded. What answers mean is in outcomes.py. Pure."""

from __future__ import annotations

from typing import TypedDict

from snapshotd.application.draft import Draft
from snapshotd.application.next_action import (
    Finish,
    GiveUp,
    Issue,
    Observe,
    PlanUndo,
    Repeat,
    Skip,
    StartWait,
    StopWait,
    next_action,
)
from snapshotd.application.unknown import unknown
from snapshotd.domain import events as e
from snapshotd.domain.lifecycle import OPERATION, STEP, VM, OperationState, StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import CANCELLED, move_vm
from snapshotd.steps.action import numbered
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
            case Repeat():
                _repeat(draft, operation, action)
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
                give_up(draft, operation, action.step, action.failure)
            case StopWait():
                fail(draft, operation, action.step, CANCELLED)
            case _:
                break


def _skip(draft: Draft, operation: Operation, skip: Skip) -> None:
    """Record that a step is not needed, or must not be issued."""
    number, at = operation.number, skip.step.plan.number
    draft.add([e.StepSkipped(**step_move(operation, skip.step, "skipped"), failure=skip.failure)], number)
    if operation.state is OperationState.RUNNING:
        operation = draft.vm.operations[number]
        draft.add(KINDS[operation.kind].step_done(draft.vm, operation, operation.step(at)), number)


def fail(draft: Draft, operation: Operation, step: Step, failure: Failure) -> None:
    """Record that a step failed, and what that means for the VM and its snapshots."""
    draft.add([e.StepFailed(**step_move(operation, step, "failed"), failure=failure)], operation.number)
    _failed(draft, operation, step)


def _failed(draft: Draft, operation: Operation, step: Step) -> None:
    """Record what it means for VM and snapshots that a step has ended without its effect, or undetermined."""
    operation = draft.vm.operations[operation.number]
    ended = operation.step(step.plan.number)
    draft.add(KINDS[operation.kind].step_failed(draft.vm, operation, ended), operation.number)


def give_up(draft: Draft, operation: Operation, step: Step, failure: Failure) -> None:
    """Record that nobody will ever know what became of a step whose command may have been at work."""
    if step.state is StepState.ISSUED:
        unknown(draft, operation, step, failure)
        step = draft.vm.operations[operation.number].step(step.plan.number)
    given_up = e.StepUndetermined(**step_move(operation, step, "undetermined"), failure=failure)
    draft.add([given_up], operation.number)
    _failed(draft, operation, step)


def end_undetermined(draft: Draft, operation: Operation, failure: Failure) -> None:
    """End an operation of which nobody will ever know what came, by a person's decision."""
    step = operation.open_step
    if step is not None:
        (fail if step.state is StepState.WAITING else give_up)(draft, operation, step, failure)
    _finish(draft, draft.vm.operations[operation.number], OperationState.FAILED, failure)


def _taken(vm: VirtualMachine, operation: Operation) -> bool:
    """Return whether another operation's step is open: at most one step per VM has an open token."""
    return any(s.open or s.observing for o in vm.active_operations if o.number != operation.number for s in o.steps)


def step_move(operation: Operation, step: Step, trigger: str) -> _Moved:
    """Return a step's transition along an arrow of its table, by `trigger`. Raises IllegalTransition."""
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
        **step_move(operation, step, "issued"),
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
    draft.add([e.StepWaitStarted(**step_move(operation, step, "wait_starts"), before=before)], operation.number)


def _repeat(draft: Draft, operation: Operation, repeat: Repeat) -> None:
    """Skip the steps that are still due, and plan others in their place."""
    operation = _skip_the_rest(draft, operation)
    steps = numbered(repeat.steps, len(operation.steps) + 1)
    draft.add([e.PlanRepeated(number=operation.number, steps=steps, failure=repeat.failure)], operation.number)


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
            draft.add([e.StepSkipped(**step_move(operation, step, "skipped"))], operation.number)
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
