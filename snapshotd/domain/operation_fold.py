"""An operation and its steps as folds of their events. What they are stands in operation.py, which events build on."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.domain.ids import VmId, operation_name
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation, Step


def new_operation(vm_id: VmId, event: e.OperationRequested, at: e.Occasion) -> Operation:
    """Return the operation that was requested."""
    return Operation(
        name=operation_name(vm_id, event.number),
        number=event.number,
        kind=event.kind,
        state=event.to_state,
        snapshot_id=event.snapshot_id,
        steps=tuple(Step(plan=plan, state=StepState.DUE) for plan in event.steps),
        actor=at.actor,
        request_id=at.request_id,
        requested_at=at.time,
        allow_fallback=event.allow_fallback,
        refuse_power_change=event.refuse_power_change,
        stop_mode=event.stop_mode,
    )


def evolve_operation(operation: Operation, event: e.OperationProgress, at: e.Occasion) -> Operation:
    """Apply one event. Never refuses."""
    match event:
        case e.OperationStarted():
            return replace(operation, state=event.to_state, started_at=at.time)
        case e.OperationSucceeded() | e.OperationCancelled():
            return replace(operation, state=event.to_state, ended_at=at.time)
        case e.OperationFailed():
            return replace(operation, state=event.to_state, ended_at=at.time, failure=event.failure)
        case e.CancelRequested():
            return replace(operation, cancel_requested=True)
        case e.UndoPlanned():
            steps = operation.steps + tuple(Step(plan=plan, state=StepState.DUE) for plan in event.steps)
            return replace(operation, steps=steps, undoing=True, failure=event.failure)
        case _:
            assert_never(event)


def evolve_step(step: Step, event: e.StepEvent, at: e.Occasion) -> Step:
    """Apply one event. Never refuses."""
    if isinstance(event, e.ObservationIssued):
        return replace(step, token=at.version, observing=True)
    if isinstance(event, e.ObservationAnswered):
        return replace(step, observing=False)
    step = replace(step, state=event.to_state, changed_at=at.time, observing=False)
    match event:
        case e.StepIssued():
            return replace(
                step,
                token=at.version,
                issued_token=at.version,
                attempts=event.attempt,
                before=event.before,
                deadline=event.deadline,
                first_issued_at=step.first_issued_at or at.time,
            )
        case e.StepDone():
            return replace(
                step, checkpoint_id=event.checkpoint_id, has_memory=event.has_memory, marked=event.marked, failure=None
            )
        case e.StepFailed() | e.StepDueAgain() | e.StepOutcomeUnknown() | e.StepUndetermined():
            return replace(step, failure=event.failure)
        case e.StepWaitStarted():
            return replace(step, watched_files=event.watched_files)
        case e.StepSkipped():
            return step
        case _:
            assert_never(event)
