"""What is recorded of an answer to an order of an operation, and when looking ends. Pure.

Looking ends when nothing has been seen at work for the action's time limit (watch.py): a wait has stalled, and a step
whose outcome is unknown stays undetermined.
"""

from __future__ import annotations

from snapshotd.application.host_failures import failure_of
from snapshotd.dispatch.flights import Flight
from snapshotd.dispatch.orders import OrderKind
from snapshotd.dispatch.outputs import Moment
from snapshotd.dispatch.reach import never_sent
from snapshotd.dispatch.watch import Wait, Watch, still
from snapshotd.domain.commands import GiveUpLook, LoseOutcome, NotSent, StallWait, StepCommand, TakeAnswer, TakePoll
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps.catalogue import ACTIONS


def told(flight: Flight, answer: HostAnswer) -> TakeAnswer:
    """Return the command that judges an order's answer."""
    order = flight.order
    return TakeAnswer(number=flight.number, step=order.step, token=order.token, answer=answer, host_id=order.host_id)


def effect_settled(flight: Flight, answer: HostAnswer) -> list[StepCommand]:
    """Return what to record of an effect that was answered, or that no answer will come for."""
    if answer.verdict is not Verdict.NO_ANSWER:
        return [told(flight, answer)]
    number, step, token, failure = flight.number, flight.order.step, flight.order.token, failure_of(answer)
    if never_sent(answer):
        return [NotSent(number=number, step=step, token=token, failure=failure)]
    return [LoseOutcome(number=number, step=step, token=token, failure=failure)]


def look_settled(
    vm: VirtualMachine | None, flight: Flight, answer: HostAnswer, watch: Watch | None, policy: Policy, moment: Moment
) -> list[StepCommand]:
    """Return what to record of a look. Without an answer nothing: it is taken again, without an event."""
    operation = vm.operations.get(flight.number) if vm is not None else None
    step = (operation.open_step or operation.next_due) if operation is not None else None
    out: list[StepCommand] = []
    forward = False
    if flight.order.kind is OrderKind.OBSERVE:
        out += [told(flight, answer)] if answer.verdict is not Verdict.NO_ANSWER else []
    elif step is None or step.state is not StepState.WAITING:
        return []
    elif answer.vm is not None:
        version, host_id = flight.asked_version, flight.order.host_id
        if watch is not None:
            action = ACTIONS[step.plan.action]
            watch.wait = still(watch.wait, action.awaits(step, answer.vm), moment.utc)
            before, watch.percent = watch.percent, action.progress(step, answer.vm)
            forward = watch.percent > before
            watch.worked_at = moment.utc if forward else watch.worked_at
        poll = TakePoll(
            number=flight.number, step=step.plan.number, report=answer.vm, asked_version=version, host_id=host_id
        )
        out.append(poll)
    if operation is None or step is None or watch is None or answer.verdict is Verdict.OBSERVED:
        return out
    if watch.idle(answer, moment.monotonic_s, forward=forward) > ACTIONS[step.plan.action].time_limit_s(policy):
        out += _given_up(operation, step, answer, watch.wait, policy)
    return out


def _given_up(
    operation: Operation, step: Step, answer: HostAnswer, wait: Wait | None, policy: Policy
) -> list[StepCommand]:
    """Return what ends the looking at a step."""
    number, at, action, last = operation.number, step.plan.number, ACTIONS[step.plan.action], failure_of(answer)
    awaited = step.look_due or operation.too_late_to_cancel()
    if step.state is StepState.OUTCOME_UNKNOWN or (step.observing and awaited):
        return [GiveUpLook(number=number, step=at, token=step.token, failure=last)]
    if step.state is not StepState.WAITING:
        return []  # nothing was sent, so it can be cancelled
    if answer.vm is not None and wait is not None:
        return [StallWait(number=number, step=at, failure=action.stalled(policy, wait.failure))]
    unseen = replace(last, message=f"The VM could not be looked at. Last failure: {last.message}")
    failure = replace(action.stalled(policy, unseen), error_id=last.error_id)
    return [StallWait(number=number, step=at, failure=failure)]
