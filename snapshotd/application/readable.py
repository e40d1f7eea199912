"""Refuses what a release cannot go on with: kinds and actions that it lacks, and records that it cannot read."""

from __future__ import annotations

from snapshotd.domain.events import Envelope, OperationRequested, PlanRepeated, UndoPlanned
from snapshotd.domain.operation import Operation
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.operations.catalogue import KINDS
from snapshotd.steps.catalogue import ACTIONS


def refuse_unknown(envelope: Envelope) -> None:
    """Raise RecordNotReadable for a kind or an action that this release does not have."""
    event = envelope.event
    if isinstance(event, OperationRequested) and event.kind not in KINDS:
        raise RecordNotReadable(f"position {envelope.position} of the log", f"there is no kind {event.kind}")
    if isinstance(event, OperationRequested | UndoPlanned | PlanRepeated):
        for step in event.steps:
            if step.action not in ACTIONS:
                raise RecordNotReadable(f"position {envelope.position} of the log", f"there is no action {step.action}")


def refuse_unreadable(operation: Operation) -> None:
    """Raise RecordNotReadable for what an active operation has put on record, and this release cannot go on with."""
    try:
        KINDS[operation.kind].params.read(operation.params)
        for step in operation.steps:
            action = ACTIONS[step.plan.action]
            parts = [(action.input, step.plan.input), (action.facts, step.before), (action.output, step.output)]
            for part, recorded in parts:
                if recorded is not None:
                    part.read(recorded)
    except RecordNotReadable as error:
        raise RecordNotReadable(f"{error.record} of {operation.name}", error.problem) from error
