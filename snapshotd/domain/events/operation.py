"""What happens to an operation, from its request to its end."""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.ids import HostId, KindName, OperationName, SnapshotId
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.operation import Failure, PlannedStep, SettledAs
from snapshotd.domain.recorded import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationTransition:
    """An operation's state changed."""

    number: int
    from_state: OperationState
    to_state: OperationState


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRequested(OperationTransition):
    """An operation was accepted, with its plan."""

    name: OperationName
    kind: KindName
    params: Recorded
    host_id: HostId
    snapshot_id: SnapshotId | None
    steps: tuple[PlannedStep, ...]
    request_digest: str
    follows: OperationName | None = None
    """The operation with whose end it was requested, on behalf of whoever asked for that; None: a caller asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStarted(OperationTransition):
    """Its first step is issued in the same append, or none was needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSucceeded(OperationTransition):
    """It ended as asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFailed(OperationTransition):
    """It ended without doing what was asked for."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCancelled(OperationTransition):
    """It ended because somebody cancelled it, and its undo is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """Somebody asked to cancel the operation."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoPlanned:
    """What was done will be undone, by steps that are appended to the plan."""

    number: int
    steps: tuple[PlannedStep, ...]
    failure: Failure | None
    """None: cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRepeated:
    """A step failed, and the operation goes on all the same: with these steps, in place of those that were left."""

    number: int
    steps: tuple[PlannedStep, ...]
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpRefused:
    """An operation that was to follow this one was not accepted."""

    number: int
    kind: KindName
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSettled:
    """A person said what became of the operation's step, which nothing else could bring to an end."""

    number: int
    step: int
    outcome: SettledAs
    reason: str
    """In the person's words."""
    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLost:
    """Memory was lost that the operation was to keep: no undo, and no further step, brings it back."""

    number: int
    snapshot_id: SnapshotId | None
    """Of this snapshot, which a revert could not go on from. None: what the guest held."""


OperationEnd = OperationSucceeded | OperationFailed | OperationCancelled
"""How an operation ends."""
OperationProgress = (
    OperationStarted
    | OperationEnd
    | CancelRequested
    | UndoPlanned
    | PlanRepeated
    | FollowUpRefused
    | MemoryLost
    | OperationSettled
)
"""Everything that may happen to an operation that was requested."""
