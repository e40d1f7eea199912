"""Decides what happens next with an operation: a pure function of the VM and the time.

Issue, Observe                 are recorded first, then sent (write-ahead)
AwaitAnswer, Poll, Later       need the host, or the clock, before anything can be recorded
AwaitTurn                      needs the end of an older operation, which was cancelled for this one
AwaitPerson                    needs a person: the log is older than the host, or two hosts have the VM
Skip, StartWait, StopWait,     need nobody: they are recorded together with what led to them
GiveUp, Repeat, PlanUndo,
Finish
"""

from __future__ import annotations

from datetime import datetime, timedelta

from snapshotd.domain.conditions import claimed
from snapshotd.domain.errors import LogRolledBack, VmAbsent
from snapshotd.domain.lifecycle import OperationState, Power, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Settlement, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import State
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import UNDETERMINED
from snapshotd.steps.catalogue import ACTIONS

NOT_BEGUN = "NOT_BEGUN"
"""The reason of a step that certainly was not begun, since its host could not look at the VM."""
GIVEN_UP = "GIVEN_UP"
"""The reason of an operation that a person gave up before anything of it was sent."""


class _OfStep(State, frozen=True):
    step: Step


class Issue(_OfStep, frozen=True):
    """Issue this step."""


class Observe(_OfStep, frozen=True):
    """Observe the host for this step, with a new token."""


class StartWait(_OfStep, frozen=True):
    """Begin to poll for this step."""


class StopWait(_OfStep, frozen=True):
    """Poll no more for this step: the operation was cancelled, and it holds the VM."""


class AwaitAnswer(_OfStep, frozen=True):
    """A command or an observation for this step is on record; its answer comes next."""


class Poll(_OfStep, frozen=True):
    """Poll for this step."""


class Skip(State, frozen=True):
    """Skip this step: it is not needed, or it must not be issued and the plan goes on without it."""

    step: Step
    failure: Failure | None = None


class GiveUp(State, frozen=True):
    """Conclude that nobody will ever know what became of this step."""

    step: Step
    failure: Failure


class Later(State, frozen=True):
    """Do nothing until then."""

    until: datetime


class AwaitTurn(State, frozen=True):
    """Nothing until this operation has ended."""

    older: Operation


class AwaitPerson(State, frozen=True):
    """Nothing until a person has decided."""

    why: Failure


class Repeat(State, frozen=True):
    """Go on with these steps, in place of those that are left."""

    steps: tuple[PlannedStep, ...]
    failure: Failure


class PlanUndo(State, frozen=True):
    """Go no further, and plan the undo of what was done. No failure: cancelled."""

    failure: Failure | None


class Finish(State, frozen=True):
    """End the operation."""

    outcome: OperationState
    failure: Failure | None = None


Next = (
    Issue
    | Observe
    | StartWait
    | StopWait
    | AwaitAnswer
    | Poll
    | Later
    | AwaitTurn
    | AwaitPerson
    | Skip
    | GiveUp
    | Repeat
    | PlanUndo
    | Finish
)


def next_action(vm: VirtualMachine, operation: Operation, now: datetime, policy: Policy) -> Next:
    """Return what happens next with an active operation."""
    assert operation.active, operation
    if (said := operation.given_up) is not None:
        return _given_up(operation, said)
    if vm.rolled_back:
        return _rolled_back(vm, operation)
    if vm.claims:
        begun = operation.state is not OperationState.PENDING
        waits = begun or not operation.cancel_requested
        return AwaitPerson(Failure.of(claimed(vm))) if waits else Finish(OperationState.CANCELLED)
    step = operation.open_step
    if step is not None:
        if step.state is StepState.WAITING:
            unwanted = operation.cancel_requested and not operation.undoing and step.plan.holds_vm
            return StopWait(step) if unwanted else Poll(step)
        unseen = step.state is StepState.OUTCOME_UNKNOWN and not step.observing
        return Observe(step) if unseen else AwaitAnswer(step)
    stopped = _stopped(vm, operation)
    if stopped is not None:
        return stopped
    due = operation.next_due
    if due is not None:
        return _begin(vm, operation, due, now, policy)
    if operation.undoing:
        return _over(operation.failure)
    failure = KINDS[operation.kind].verify(vm, operation)
    if failure is None:
        return Finish(OperationState.SUCCEEDED)
    natures = {s.plan.nature for s in operation.steps if s.state is StepState.DONE}
    undoable = StepNature.UNDOABLE in natures and StepNature.PIVOT not in natures
    return PlanUndo(failure) if undoable else Finish(OperationState.FAILED, failure)


def _rolled_back(vm: VirtualMachine, operation: Operation) -> Next:
    """Return what becomes of an operation while the log is older than the host: nothing, until it is cancelled.

    Then it ends, and nothing is asked of the host for that.
    """
    why = Failure.of(LogRolledBack(vm.name, vm.rolled_back))
    if not operation.cancel_requested:
        return AwaitPerson(why)
    if operation.state is OperationState.PENDING:
        return Finish(OperationState.CANCELLED)
    unknown = Failure(reason=UNDETERMINED, message=f"Cannot tell what came of the operation. {why.message}")
    return _ends_unknown(operation, unknown)


def _given_up(operation: Operation, said: Settlement) -> Next:
    """Return how an operation ends that a person has given up: at once, and nothing is asked of the host for that."""
    if operation.state is OperationState.PENDING:
        return Finish(OperationState.FAILED, Failure(reason=GIVEN_UP, message=f"Nothing of it was sent. {said.text}"))
    return _ends_unknown(operation, Failure(reason=UNDETERMINED, message=f"It was given up. {said.text}"))


def _ends_unknown(operation: Operation, unknown: Failure) -> Next:
    step = operation.open_step
    if step is not None:
        return StopWait(step) if step.state is StepState.WAITING else GiveUp(step, unknown)
    return Finish(OperationState.FAILED, unknown)


def _stopped(vm: VirtualMachine, operation: Operation) -> Next | None:
    """Return how an operation goes on after a failed step or a cancellation; None: with its next step."""
    for step in operation.steps[operation.round_from - 1 :]:
        if step.state is StepState.UNDETERMINED and step.plan.nature is not StepNature.BEST_EFFORT:
            return Finish(OperationState.FAILED, step.failure)
        if step.state is StepState.FAILED and step.plan.nature is not StepNature.BEST_EFFORT:
            if operation.undoing:
                if step.plan.undoes is not None:
                    return Finish(OperationState.FAILED, operation.failure or step.failure)
            elif (again := _again(vm, operation, step)) is not None:
                return again
            elif step.plan.nature in (StepNature.UNDOABLE, StepNature.PIVOT):
                return PlanUndo(None if operation.cancel_requested else step.failure)
            else:
                return Finish(OperationState.FAILED, step.failure)
    wanted = not operation.cancel_requested or operation.past_pivot or _completes(operation)
    if not wanted and not operation.undoing:
        return PlanUndo(None)
    return None


def _again(vm: VirtualMachine, operation: Operation, failed: Step) -> Repeat | None:
    """Return the steps by which an operation goes on after a failed one; None: it does not."""
    if operation.cancel_requested or failed.failure is None:
        return None
    steps = KINDS[operation.kind].again(vm, operation, failed)
    return Repeat(steps, failed.failure) if steps else None


def _completes(operation: Operation) -> bool:
    """Return whether the next step only waits for what a step that is done has begun: no cancellation stops that."""
    due = operation.next_due
    if due is None or not due.plan.polls or due.plan.snapshot_id is None:
        return False
    return any(s.state is StepState.DONE and s.plan.snapshot_id == due.plan.snapshot_id for s in operation.steps)


def _over(failure: Failure | None) -> Finish:
    return Finish(OperationState.FAILED, failure) if failure else Finish(OperationState.CANCELLED)


def _begin(vm: VirtualMachine, operation: Operation, due: Step, now: datetime, policy: Policy) -> Next:
    """Return how the next step that is due begins."""
    action = ACTIONS[due.plan.action]
    if due.observing:
        return AwaitAnswer(due)
    if operation.state is OperationState.PENDING and (older := _at_work_before(vm, operation)):
        return AwaitTurn(older)
    kind = KINDS[operation.kind]
    if kind.skips(vm, operation, due) and action.satisfied(vm, operation, due):
        return Skip(due)
    if awaits_move(vm, operation, due, now, policy) and not due.plan.polls:
        return Observe(due)
    if (withheld := _withheld(vm, operation, due)) is not None:
        return withheld
    if due.plan.polls:
        return StartWait(due)
    if _is_patient(due) and awaits_power(vm, operation, due, now, policy):
        return Observe(due)
    refusal = action.refusal(vm, operation, due)
    if refusal is not None:
        return _refused(operation, due, refusal)
    return _allowed(vm, operation, due, now, policy)


def _allowed(vm: VirtualMachine, operation: Operation, due: Step, now: datetime, policy: Policy) -> Next:
    """Return how a step begins that nothing on record forbids."""
    if due.look_due and due.looked_since is not None:
        assert due.failure is not None, due
        return _refused(operation, due, not_begun(due.failure))
    if not vm.journal_id or vm.fence_due or due.look_due or _first_loss(vm, operation, due):
        # An effect acts only on the journal that it was told of (the rule journal-id), so the journal is made known
        # first. What was sent for a settled step must not act any more. And nothing is lost for later steps that turn
        # out to be refused: the record may be old.
        return Observe(due)
    ready = _backing_off(operation, due, now, policy)
    return Issue(due) if ready is None else Later(ready)


def _backing_off(operation: Operation, due: Step, now: datetime, policy: Policy) -> datetime | None:
    """Return until when a step waits that is tried again, alone or with a plan made anew; None: it need not wait."""
    tries, since = due.attempts, due.changed_at
    if not tries and due.plan.number == operation.round_from > 1:
        ended = [s.changed_at for s in operation.steps[: due.plan.number - 1] if s.changed_at is not None]
        tries, since = operation.rounds - 1, max(ended, default=None)
    if not tries or since is None:
        return None
    ready = since + timedelta(seconds=policy.backoff_s(tries))
    # A clock that was set back must not prolong it.
    return ready if since <= now < ready else None


def _withheld(vm: VirtualMachine, operation: Operation, due: Step) -> Next | None:
    """Return how the operation goes on if its kind does not let the next step begin; None: it does."""
    kind = KINDS[operation.kind]
    if operation.undoing:
        return None
    if refused := kind.refusal(vm, operation, due):
        return _goes_no_further(due, refused)
    spared = kind.spares(vm, operation, due)
    return Skip(due, spared) if spared else None


def _first_loss(vm: VirtualMachine, operation: Operation, due: Step) -> bool:
    """Return whether an operation's first step loses something for later ones, and the VM was not looked at for it."""
    first = operation.state is OperationState.PENDING and due.looked_since is None
    return first and due.plan.number < len(operation.steps) and ACTIONS[due.plan.action].may_lose(vm, due.plan) != ""


def _is_patient(due: Step) -> bool:
    """Return whether a step waits until the VM's power is known, rather than be refused.

    One that the operation can go on without does so too, unless it is only there to change the power.
    """
    spared = due.plan.nature is StepNature.BEST_EFFORT and ACTIONS[due.plan.action].goal(due.plan) is None
    return spared or due.plan.nature is StepNature.FORWARD_ONLY


def not_begun(failure: Failure) -> Failure:
    """Return the failure of a step that its host has not begun, since it could not look at the VM for too long."""
    text = (
        f"The step was not begun: the host could not look at the VM, and nothing was done. Last failure: "
        f"{failure.message}"
    )
    return Failure(reason=NOT_BEGUN, message=text, error_id=failure.error_id)


def _refused(operation: Operation, due: Step, refusal: Failure) -> Next:
    """Return how an operation goes on when its next step must not be issued."""
    if due.plan.nature is StepNature.BEST_EFFORT:
        return Skip(due, refusal)
    if operation.undoing:
        return Finish(OperationState.FAILED, operation.failure or refusal)
    return _goes_no_further(due, refusal)


def _goes_no_further(due: Step, failure: Failure) -> Next:
    """Return how an operation ends that must not begin its next step: nothing is undone after the pivot."""
    forward = due.plan.nature is StepNature.FORWARD_ONLY
    return Finish(OperationState.FAILED, failure) if forward else PlanUndo(failure)


def awaits_move(vm: VirtualMachine, operation: Operation, step: Step, now: datetime, policy: Policy) -> bool:
    """Return whether a step waits since its host does not have the VM: for a while, another one may turn out to.

    An operation that has gone on without a step for that reason does not wait again for each of the others.
    """
    if not ACTIONS[step.plan.action].needs_vm:
        return False
    if any(s.state is StepState.SKIPPED and s.failure and s.failure.reason == VmAbsent.reason for s in operation.steps):
        return False
    limit = timedelta(seconds=policy.move_wait_s)
    return vm.power is Power.ABSENT and (step.looked_since is None or now < step.looked_since + limit)


def awaits_power(vm: VirtualMachine, operation: Operation, due: Step, now: datetime, policy: Policy) -> bool:
    """Return whether a step that is due waits until the VM's power is known: for as long as it may take itself."""
    action = ACTIONS[due.plan.action]
    limit = timedelta(seconds=action.time_limit_s(policy))
    if vm.power is not Power.UNKNOWN or (due.looked_since is not None and now >= due.looked_since + limit):
        return False
    brings_power = due.plan.nature is StepNature.FORWARD_ONLY and action.goal(due.plan) is not None
    return brings_power or action.refusal(vm, operation, due) is not None


def _at_work_before(vm: VirtualMachine, operation: Operation) -> Operation | None:
    """Return an older operation that has to end first: all but one that only waits, if this kind may pass that."""
    passes = KINDS[operation.kind].passes
    older = (o for o in vm.active_operations if o.number < operation.number)
    return next((o for o in older if not (passes and o.only_waits)), None)
