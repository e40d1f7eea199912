"""Settling: a person says what became of a step that nothing else can bring to an end.

That the host does not say otherwise is checked before (server/settling.py). What is recorded is what the person said,
and in the same append what follows from it:

    TOOK_EFFECT   the step is DONE, and the operation goes on
    NO_EFFECT     the step FAILED, and the operation goes on as after any step that failed
    GIVEN_UP      the operation ends (`next_action`); a step whose command may be at work stays UNDETERMINED

A command that was sent for the step may arrive yet. So the VM is observed before anything else is sent (`fence_due`).
"""

from __future__ import annotations

from typing import Final

from snapshotd.application.draft import Draft
from snapshotd.application.progress import advance
from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.commands import SettleOperation
from snapshotd.domain.errors import LogRolledBack, NotFound
from snapshotd.domain.lifecycle import STEP, StepState
from snapshotd.domain.operation import Failure, Operation, SettledAs, Step
from snapshotd.domain.settle_errors import SettleRefused
from snapshotd.operations.catalogue import KINDS
from snapshotd.steps.action import Done
from snapshotd.steps.catalogue import ACTIONS

SETTLED_ABSENT: Final = "SETTLED_ABSENT"
"""The reason of a step that had no effect, as a person said."""


def settle(draft: Draft, command: SettleOperation) -> None:
    """Record what a person says about an operation's step, and what follows.

    Raises NotFound, SettleRefused, LogRolledBack, RequestIdReused.
    """
    vm, context, outcome = draft.vm, draft.context, command.outcome
    if answered_before(vm.requests, context.actor, context.request_id, context.digest) is not None:
        return
    operation = vm.operation(command.name)
    if operation is None:
        raise NotFound("operation", command.name, "See `snapshotctl operation list`.")
    step = operation.current_step
    if not operation.active or step is None:
        raise SettleRefused(operation.name, outcome.name, "it has ended.")
    if (step.plan.number, step.issued_token) != (command.step, command.issued_token):
        why = f"it has come forward meanwhile. Look at it again (`snapshotctl operation show {operation.name}`)."
        raise SettleRefused(operation.name, outcome.name, why)
    if vm.rolled_back and outcome is not SettledAs.GIVEN_UP:
        raise LogRolledBack(vm.name, vm.rolled_back)
    done = _result(draft, operation, step, outcome)
    said = e.OperationSettled(
        number=operation.number,
        step=step.plan.number,
        outcome=outcome,
        reason=command.reason,
        request_digest=context.digest,
    )
    draft.add([said], operation.number)
    if done is not None:
        _took_effect(draft, operation, step, done)
    elif outcome is SettledAs.NO_EFFECT:
        _had_none(draft, operation, step)
    advance(draft)


def _result(draft: Draft, operation: Operation, step: Step, outcome: SettledAs) -> Done | None:
    """Return the result of a step that took effect; None for another outcome. Raises SettleRefused."""
    if outcome is SettledAs.GIVEN_UP:
        return None
    if step.state is StepState.DUE:
        ways = "Cancel the operation" if not operation.too_late_to_cancel() else "Give it up (GIVEN_UP)"
        why = f"step {step.plan.number} has not been sent to the host, so it has no outcome. {ways}."
        raise SettleRefused(operation.name, outcome.name, why)
    if outcome is SettledAs.NO_EFFECT:
        return None
    done = ACTIONS[step.plan.action].settled(draft.vm, step)
    if done is None:
        why = (
            f"nothing on record tells the result of step {step.plan.number}, which the operation needs. Give it up "
            "(GIVEN_UP): what it has left on the host is told when the host is looked at again."
        )
        raise SettleRefused(operation.name, outcome.name, why)
    return done


def _took_effect(draft: Draft, operation: Operation, step: Step, done: Done) -> None:
    """Record that a step is done, and what that means for VM and snapshots. The power is as the step wanted it."""
    number = operation.number
    event = e.StepDone(
        number=number,
        step=step.plan.number,
        from_state=step.state,
        to_state=STEP.dest("done", step.state),
        observed=False,
        output=done.output,
    )
    draft.add([event], number)
    goal = ACTIONS[step.plan.action].goal(step.plan)
    if goal is not None and goal is not draft.vm.power:
        draft.add([e.VmPowerChanged(from_power=draft.vm.power, to_power=goal, cause="step")], number)
    operation = draft.vm.operations[number]
    kind, ended = KINDS[operation.kind], operation.step(step.plan.number)
    draft.add(kind.recognises(draft.vm, operation, ended), number)
    draft.add(kind.step_done(draft.vm, operation, ended), number)


def _had_none(draft: Draft, operation: Operation, step: Step) -> None:
    said = draft.vm.operations[operation.number].settled[-1]
    event = e.StepFailed(
        number=operation.number,
        step=step.plan.number,
        from_state=step.state,
        to_state=STEP.dest("failed", step.state),
        failure=Failure(reason=SETTLED_ABSENT, message=f"The step had no effect, as a person said. {said.text}"),
    )
    draft.add([event], operation.number)
    operation = draft.vm.operations[operation.number]
    ended = operation.step(step.plan.number)
    draft.add(KINDS[operation.kind].step_failed(draft.vm, operation, ended), operation.number)
