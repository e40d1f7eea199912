"""An operation and its steps, as values: what was planned, and how far it has come. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.host_report import Before
from snapshotd.domain.ids import CheckpointId, OperationName, SnapshotId
from snapshotd.domain.lifecycle import OperationState, StepState


class OperationKind(Enum):
    """What an operation is for."""

    START_VM = "START_VM"
    STOP_VM = "STOP_VM"
    CREATE_SNAPSHOT = "CREATE_SNAPSHOT"
    REVERT_TO_SNAPSHOT = "REVERT_TO_SNAPSHOT"
    DELETE_SNAPSHOT = "DELETE_SNAPSHOT"


class StepAction(Enum):
    """What a step asks of the host."""

    START = "START"
    STOP = "STOP"
    CREATE = "CREATE"
    RESTORE = "RESTORE"
    REMOVE = "REMOVE"
    RENAME = "RENAME"
    MERGE = "MERGE"
    """Asks for nothing: waits until the host has merged the disks."""


class StepNature(Enum):
    """What becomes of the operation when a step fails."""

    UNDOABLE = "UNDOABLE"
    """Fails: what was done before is undone. Done, and a later one fails before the pivot: is undone."""
    PIVOT = "PIVOT"
    """Fails: as UNDOABLE. From the moment it is issued there is no way back."""
    FORWARD_ONLY = "FORWARD_ONLY"
    """After the pivot: repeated until done, or the operation stops with the finished effects on record."""
    BEST_EFFORT = "BEST_EFFORT"
    """Its failure is recorded, and the plan goes on."""
    WAIT = "WAIT"
    """Polls for what the host does by itself."""


class StopMode(Enum):
    """How a VM is stopped."""

    SHUTDOWN = "SHUTDOWN"
    TURN_OFF = "TURN_OFF"
    SAVE = "SAVE"
    PAUSE = "PAUSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step of a plan, as recorded when the operation was accepted, or when an undo became due."""

    number: int
    """From 1; undo steps get the next numbers."""
    action: StepAction
    nature: StepNature
    snapshot_id: SnapshotId | None = None
    stop_mode: StopMode | None = None
    """STOP only."""
    undoes: int | None = None
    """The number of the step that this one undoes; 0: it brings the power back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed: a stable reason, the host's error id if it gave one, and words for people."""

    reason: str
    message: str
    error_id: str = ""

    @classmethod
    def of(cls, error: SnapshotdError) -> Failure:
        """Return an error that a caller could be told, as what has stopped an operation."""
        return cls(reason=error.reason, message=error.message())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A planned step, and how far it has come."""

    plan: PlannedStep
    state: StepState
    attempts: int = 0
    token: int = 0
    """The newest token issued for it, by StepIssued or ObservationIssued; 0: none."""
    issued_token: int = 0
    """The newest token of an effect, by StepIssued; 0: none."""
    before: Before | None = None
    """What was there when it was first issued, or issued again after it was seen absent."""
    first_issued_at: datetime | None = None
    changed_at: datetime | None = None
    """When it came to its state, for back-off and display."""
    deadline: datetime | None = None
    observing: bool = False
    """An observation with `token` is on record, and has not been answered."""
    watched_files: tuple[str, ...] = ()
    """MERGE: files none of which may be left outside of the chains."""
    checkpoint_id: CheckpointId | None = None
    has_memory: bool = False
    marked: bool = True
    """CREATE, DONE: the checkpoint bears our marker."""
    failure: Failure | None = None
    """Why it failed, or why its outcome is unknown, or why it is due again."""

    @property
    def open(self) -> bool:
        """Whether its command may be at work on the host."""
        return self.state in (StepState.ISSUED, StepState.OUTCOME_UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One accepted request for long work on a VM."""

    name: OperationName
    number: int
    kind: OperationKind
    state: OperationState
    snapshot_id: SnapshotId | None
    steps: tuple[Step, ...]
    actor: str
    request_id: str
    requested_at: datetime
    allow_fallback: bool = False
    refuse_power_change: bool = False
    stop_mode: StopMode | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested: bool = False
    undoing: bool = False
    """Its undo steps have been planned (there may be none)."""
    failure: Failure | None = None
    """Why it is going to fail, or has failed."""

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state.active

    def step(self, number: int) -> Step:
        """Return the step of that number. Raises IndexError if the plan has none."""
        return self.steps[number - 1]

    @property
    def open_step(self) -> Step | None:
        """The step whose command may be at work, or that waits; None between two steps."""
        return next((s for s in self.steps if s.open or s.state is StepState.WAITING), None)

    @property
    def next_due(self) -> Step | None:
        """The first step that has not begun."""
        return next((s for s in self.steps if s.state is StepState.DUE), None)

    @property
    def holds_vm(self) -> bool:
        """Whether it has begun, and still has to do more than wait."""
        return self.state is OperationState.RUNNING and not self.only_waits

    @property
    def only_waits(self) -> bool:
        """Whether all it still has to do is to wait for the host."""
        rest = [s for s in self.steps if s.open or s.state in (StepState.DUE, StepState.WAITING)]
        return bool(rest) and all(s.plan.nature is StepNature.WAIT for s in rest)
