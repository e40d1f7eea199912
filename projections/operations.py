"""The operations, active and ended, with their steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from projections.projection import Projection, vm_of
from projections.store import Rows, Table
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import PlannedStep
from snapshotd.ports.views import OperationRow, StepRow

OPERATIONS: Final = Table("operations", OperationRow, ["vm_id", "number"], ["name", "requested_at", "active"])

_FAILURES = e.StepFailed | e.StepDueAgain | e.StepOutcomeUnknown | e.StepUndetermined


def _handle(rows: Rows, envelope: Envelope) -> None:
    event, vm_id = envelope.event, vm_of(envelope)
    if isinstance(event, e.VmRegistered):
        rows.connection.execute("INSERT OR REPLACE INTO operation_hosts VALUES (?, ?)", (vm_id, event.host_id))
        return
    if isinstance(event, e.OperationRequested):
        (host_id,) = rows.connection.execute("SELECT host_id FROM operation_hosts WHERE vm_id = ?", (vm_id,)).fetchone()
        rows.put(OPERATIONS, _requested(envelope, event, HostId(host_id)))
        return
    concerned = e.StepTransition | e.ObservationIssued | e.ObservationAnswered | e.OperationProgress
    if isinstance(event, concerned):
        row = rows.get(OPERATIONS, vm_id, event.number)
        assert row is not None, envelope
        row = replace(row, updated_at=envelope.time)
        rows.put(OPERATIONS, _changed(row, envelope))


def _requested(envelope: Envelope, event: e.OperationRequested, host_id: HostId) -> OperationRow:
    vm_id = vm_of(envelope)
    assert vm_id is not None, envelope
    assert envelope.operation is not None, envelope
    return OperationRow(
        name=envelope.operation,
        vm_id=vm_id,
        host_id=host_id,
        number=event.number,
        kind=event.kind,
        state=event.to_state,
        snapshot_id=event.snapshot_id,
        stop_mode=event.stop_mode,
        steps=tuple(_planned(plan) for plan in event.steps),
        actor=envelope.actor,
        request_id=envelope.request_id,
        cancel_requested=False,
        undoing=False,
        failure=None,
        requested_at=envelope.time,
        started_at=None,
        updated_at=envelope.time,
        ended_at=None,
    )


def _planned(plan: PlannedStep) -> StepRow:
    return StepRow(plan=plan, state=StepState.DUE, attempts=0, started_at=None, ended_at=None, failure=None)


def _changed(row: OperationRow, envelope: Envelope) -> OperationRow:
    """Return an operation's row after an event."""
    event = envelope.event
    match event:
        case e.OperationStarted():
            return replace(row, state=event.to_state, started_at=envelope.time)
        case e.CancelRequested():
            return replace(row, cancel_requested=True)
        case e.UndoPlanned():
            steps = row.steps + tuple(_planned(plan) for plan in event.steps)
            return replace(row, steps=steps, undoing=True, failure=event.failure)
        case e.OperationFailed():
            return replace(row, state=event.to_state, ended_at=envelope.time, failure=event.failure)
        case e.OperationSucceeded() | e.OperationCancelled():
            return replace(row, state=event.to_state, ended_at=envelope.time)
        case e.StepTransition():
            changed = _step(row.steps[event.step - 1], event, envelope)
            return replace(row, steps=tuple(changed if s.plan.number == event.step else s for s in row.steps))
        case _:
            return row


def _step(step: StepRow, event: e.StepTransition, envelope: Envelope) -> StepRow:
    """Return a step's row after an event."""
    ended = envelope.time if event.to_state.at_rest else None
    step = replace(step, state=event.to_state, ended_at=ended)
    if isinstance(event, _FAILURES):
        return replace(step, failure=event.failure)
    match event:
        case e.StepIssued():
            return replace(step, attempts=event.attempt, started_at=step.started_at or envelope.time)
        case e.StepWaitStarted():
            return replace(step, started_at=envelope.time)
        case e.StepDone():
            return replace(step, failure=None)
        case _:
            return step


OPERATIONS_PROJECTION: Final = Projection("operations", _handle)
