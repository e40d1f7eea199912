"""Records that nobody knows what became of a step: no answer will come, or none that counts. It is observed then."""

from __future__ import annotations

from snapshotd.application.draft import Draft
from snapshotd.domain import commands as c
from snapshotd.domain import events as e
from snapshotd.domain.conditions import claimed
from snapshotd.domain.lifecycle import STEP, StepState
from snapshotd.domain.operation import Failure, Operation, Step


def unknown(draft: Draft, operation: Operation, step: Step, failure: Failure) -> None:
    """Record that the outcome of a step that was issued is not known, and why."""
    event = e.StepOutcomeUnknown(
        number=operation.number,
        step=step.plan.number,
        from_state=step.state,
        to_state=STEP.dest("outcome_unknown", step.state),
        failure=failure,
    )
    draft.add([event], operation.number)


def take_nothing(draft: Draft, operation: Operation, step: Step, command: c.StepCommand) -> None:
    """Record of what was heard of a claimed VM only that an effect is under way no more.

    What one of two hosts shows need not be true of the VM that stays.
    """
    ended = isinstance(command, c.TakeAnswer | c.LoseOutcome) and command.token == step.token
    if ended and step.state is StepState.ISSUED:
        unknown(draft, operation, step, Failure.of(claimed(draft.vm)))


def look_anew(draft: Draft, why: Failure) -> None:
    """Record that nothing that is under way on the VM's former host tells anything: the VM is looked at where it is."""
    for operation in draft.vm.active_operations:
        for step in operation.steps:
            if step.state is StepState.ISSUED:
                unknown(draft, operation, step, why)
            elif step.observing:
                draft.add([e.ObservationAnswered(number=operation.number, step=step.plan.number)], operation.number)
