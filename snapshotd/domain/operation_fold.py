"""An operation and its steps as folds of their events. Their classes are in operation.py, which the events build on."""

from __future__ import annotations

from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.domain.ids import VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Settlement, Step, StepNature
from snapshotd.domain.state import replace


def new_operation(vm_id: VmId, event: e.OperationRequested, at: e.Occasion) -> Operation:
    """Return the operation that was requested."""
    return Operation(
        name=event.name,
        vm_id=vm_id,
        host_id=event.host_id,
        number=event.number,
        kind=event.kind,
        params=event.params,
        state=event.to_state,
        snapshot_id=event.snapshot_id,
        steps=_due(event.steps),
        actor=at.actor,
        request_id=at.request_id,
        requested_at=at.time,
        updated_at=at.time,
        follows=event.follows,
    )


def _due(plans: tuple[PlannedStep, ...]) -> tuple[Step, ...]:
    return tuple(Step(plan=plan, state=StepState.DUE) for plan in plans)


def evolve_operation(operation: Operation, event: e.OperationProgress | e.StepEvent, at: e.Occasion) -> Operation:
    """Return the operation with one event applied. Never refuses."""
    match event:
        case e.OperationStarted():
            return replace(operation, state=event.to_state, started_at=at.time, updated_at=at.time)
        case e.OperationSucceeded() | e.OperationCancelled():
            return _ended(operation, event, at, operation.failure)
        case e.OperationFailed():
            return _ended(operation, event, at, event.failure)
        case e.CancelRequested():
            return replace(operation, cancel_requested=True, updated_at=at.time)
        case e.UndoPlanned():
            steps = operation.steps + _due(event.steps)
            return replace(operation, steps=steps, undoing=True, failure=event.failure, updated_at=at.time)
        case e.PlanRepeated():
            first, steps = len(operation.steps) + 1, operation.steps + _due(event.steps)
            return replace(operation, steps=steps, round_from=first, rounds=operation.rounds + 1, updated_at=at.time)
        case e.FollowUpRefused():
            return replace(operation, updated_at=at.time)
        case e.OperationSettled():
            said = Settlement(step=event.step, outcome=event.outcome, reason=event.reason, actor=at.actor)
            return replace(operation, settled=(*operation.settled, said), updated_at=at.time)
        case e.MemoryLost():
            return replace(operation, memory_lost=True, updated_at=at.time)
        case e.StepTransition() | e.ObservationIssued() | e.ObservationAnswered():
            step = _evolve_step(operation.step(event.step), event, at)
            begins = isinstance(event, e.StepIssued | e.StepWaitStarted)
            others = _without_facts(operation.steps, step) if begins else operation.steps
            steps = tuple(step if s.plan.number == event.step else s for s in others)
            return replace(operation, steps=steps, updated_at=at.time)
        case _:
            assert_never(event)


def _without_facts(steps: tuple[Step, ...], begun: Step) -> tuple[Step, ...]:
    """Return steps without the `before` of those that are over and were about another snapshot than one that begins.

    What they have done is on record, and is never undone. So an operation about many snapshots stays small.
    """
    about = begun.plan.snapshot_id

    def is_settled(step: Step) -> bool:
        for_another = None not in (about, step.plan.snapshot_id) and step.plan.snapshot_id != about
        return for_another and step.state.at_rest and step.plan.nature is not StepNature.UNDOABLE

    return tuple(replace(step, before=None) if is_settled(step) else step for step in steps)


def _ended(operation: Operation, event: e.OperationEnd, at: e.Occasion, failure: Failure | None) -> Operation:
    """Return the ended operation without the `before` of its steps: no decision needs them any more."""
    steps = tuple(replace(step, before=None) for step in operation.steps)
    return replace(operation, state=event.to_state, steps=steps, failure=failure, ended_at=at.time, updated_at=at.time)


def _evolve_step(step: Step, event: e.StepEvent, at: e.Occasion) -> Step:
    if isinstance(event, e.ObservationIssued):
        return replace(
            step, token=e.token_of(event, at.version), observing=True, looked_since=step.looked_since or at.time
        )
    if isinstance(event, e.ObservationAnswered):
        return replace(step, observing=False, look_due=step.look_due and not event.seen)
    step = replace(step, state=event.to_state, changed_at=at.time, observing=False, look_due=False, looked_since=None)
    match event:
        case e.StepIssued():
            token = e.token_of(event, at.version)
            return replace(
                step,
                token=token,
                issued_token=token,
                attempts=event.attempt,
                before=event.before,
                deadline=event.deadline,
                started_at=step.started_at or at.time,
            )
        case e.StepWaitStarted():
            return replace(step, before=event.before, started_at=at.time)
        case e.StepDone():
            return replace(step, output=event.output, failure=None)
        case e.StepNotSent():
            return replace(step, attempts=step.attempts - 1, deadline=None, failure=event.failure)
        case e.StepDueAgain():
            return replace(step, failure=event.failure, look_due=event.look_due)
        case e.StepFailed() | e.StepOutcomeUnknown() | e.StepUndetermined():
            return replace(step, failure=event.failure)
        case e.StepSkipped():
            return replace(step, failure=event.failure or step.failure)
        case _:
            assert_never(event)
