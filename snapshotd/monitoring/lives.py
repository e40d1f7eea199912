"""The lives of operations and their steps, as the events tell them: what has ended, and how long it took.

Keeps a few values of each operation that has not ended, and nothing of those that have. Reads no clock: the times are
those of the events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import ActionName, HostId, KindName, OperationName, StreamId, vm_stream
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.operation import Operation, PlannedStep


@dataclass(slots=True, kw_only=True)
class Life:
    """What is kept of an operation that has not ended."""

    name: OperationName
    kind: KindName
    host_id: HostId
    """Its VM's host when it was requested."""
    actor: str
    requested_at: datetime
    asked: bool
    """A caller asked for it; False: it follows another one."""
    actions: dict[int, ActionName] = field(default_factory=dict)
    """By the number of the step."""
    begun: dict[int, datetime] = field(default_factory=dict)
    """When steps were first issued, or their hosts first polled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEnded:
    """An operation that has ended."""

    life: Life
    outcome: OperationState
    reason: str
    """Why it failed; empty: it did not."""
    ended_at: datetime

    @property
    def took_s(self) -> float:
        """How long it took, from the request."""
        return _seconds(self.life.requested_at, self.ended_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """A step that has ended."""

    life: Life
    """The operation that it belongs to."""
    step: int
    action: ActionName
    outcome: StepState
    reason: str
    """Why it failed; empty: it did not."""
    begun_at: datetime | None
    """None: it never began."""
    ended_at: datetime

    @property
    def took_s(self) -> float | None:
        """How long it took; None: it never began."""
        return None if self.begun_at is None else _seconds(self.begun_at, self.ended_at)


News: TypeAlias = OperationEnded | StepEnded | e.DriftDetected
"""What is told to those who follow the log."""

_StepEnd: TypeAlias = e.StepDone | e.StepFailed | e.StepSkipped | e.StepUndetermined
_StepBegin: TypeAlias = e.StepIssued | e.StepWaitStarted
_MorePlanned: TypeAlias = e.UndoPlanned | e.PlanRepeated
_OfLife: TypeAlias = _StepBegin | _StepEnd | _MorePlanned | e.OperationEnd


class Lives:
    """The operations that have not ended."""

    def __init__(self) -> None:
        self._lives: dict[tuple[StreamId, int], Life] = {}

    def begin(self, operations: Iterable[Operation]) -> None:
        """Begin with the operations that have not ended by now."""
        self._lives = {(vm_stream(o.vm_id), o.number): _life_of(o) for o in operations}

    def take(self, envelope: Envelope) -> News | None:
        """Take in an event; return what has ended with it, or was found by it."""
        event = envelope.event
        if isinstance(event, e.OperationRequested):
            life = Life(
                name=event.name,
                kind=event.kind,
                host_id=event.host_id,
                actor=envelope.actor,
                requested_at=envelope.time,
                asked=event.follows is None,
                actions=_actions(event.steps),
            )
            self._lives[envelope.stream, event.number] = life
        elif isinstance(event, _OfLife):
            return self._of_life(event, envelope)
        elif isinstance(event, e.DriftDetected):
            return event
        return None

    def _of_life(self, event: _OfLife, envelope: Envelope) -> OperationEnded | StepEnded | None:
        key = envelope.stream, event.number
        life = self._lives.get(key)
        if life is None:
            return None
        if isinstance(event, _StepBegin):
            life.begun.setdefault(event.step, envelope.time)
        elif isinstance(event, _MorePlanned):
            life.actions |= _actions(event.steps)
        elif isinstance(event, _StepEnd):
            failure = None if isinstance(event, e.StepDone) else event.failure
            return StepEnded(
                life=life,
                step=event.step,
                action=life.actions[event.step],
                outcome=event.to_state,
                reason=failure.reason if failure else "",
                begun_at=life.begun.get(event.step),
                ended_at=envelope.time,
            )
        else:
            del self._lives[key]
            reason = event.failure.reason if isinstance(event, e.OperationFailed) else ""
            return OperationEnded(life=life, outcome=event.to_state, reason=reason, ended_at=envelope.time)
        return None


def _life_of(operation: Operation) -> Life:
    return Life(
        name=operation.name,
        kind=operation.kind,
        host_id=operation.host_id,
        actor=operation.actor,
        requested_at=operation.requested_at,
        asked=operation.follows is None,
        actions=_actions(step.plan for step in operation.steps),
        begun={step.plan.number: step.started_at for step in operation.steps if step.started_at is not None},
    )


def _actions(steps: Iterable[PlannedStep]) -> dict[int, ActionName]:
    return {step.number: step.action for step in steps}


def _seconds(since: datetime, until: datetime) -> float:
    """Return how long something took. A clock that was set back meanwhile makes it 0."""
    return max(0.0, (until - since).total_seconds())
