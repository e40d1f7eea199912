"""What happens to an operation, from its request to its end."""

from __future__ import annotations

from snapshotd.domain.ids import HostId, KindName, OperationName, SnapshotId
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.operation import Failure, PlannedStep, SettledAs
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.state import State


class OperationTransition(State, frozen=True, kw_only=True):
    """An operation's state changed."""

    number: int
    from_state: OperationState
    to_state: OperationState


class OperationRequested(OperationTransition, frozen=True, kw_only=True):
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


class OperationStarted(OperationTransition, frozen=True, kw_only=True):
    """Its first step is issued in the same append, or none was needed."""


class OperationSucceeded(OperationTransition, frozen=True, kw_only=True):
    """It ended as asked for."""


class OperationFailed(OperationTransition, frozen=True, kw_only=True):
    """It ended without doing what was asked for."""

    failure: Failure


class OperationCancelled(OperationTransition, frozen=True, kw_only=True):
    """It ended because somebody cancelled it, and its undo is done."""


class CancelRequested(State, frozen=True, kw_only=True):
    """Somebody asked to cancel the operation."""

    number: int


class UndoPlanned(State, frozen=True, kw_only=True):
    """What was done will be undone, by steps that are appended to the plan."""

    number: int
    steps: tuple[PlannedStep, ...]
    failure: Failure | None
    """None: cancelled."""


class PlanRepeated(State, frozen=True, kw_only=True):
    """A step failed, and the operation goes on all the same: with these steps, in place of those that were left."""

    number: int
    steps: tuple[PlannedStep, ...]
    failure: Failure


class FollowUpRefused(State, frozen=True, kw_only=True):
    """An operation that was to follow this one was not accepted."""

    number: int
    kind: KindName
    failure: Failure


class OperationSettled(State, frozen=True, kw_only=True):
    """A person said what became of the operation's step, which nothing else could bring to an end."""

    number: int
    step: int
    outcome: SettledAs
    reason: str
    """In the person's words."""
    request_digest: str


class MemoryLost(State, frozen=True, kw_only=True):
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
