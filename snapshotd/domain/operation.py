"""An operation and its steps, as values: what was planned, and how far it has come. Decides nothing."""

from __future__ import annotations

from enum import Enum

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.ids import ActionName, HostId, KindName, OperationName, SnapshotId, VmId
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.recorded import Recorded, Time
from snapshotd.domain.state import State


class StepNature(Enum):
    """What becomes of the operation when a step fails."""

    UNDOABLE = "UNDOABLE"
    """If it fails, what was done before is undone. Once done, it is undone if a later one fails before the pivot."""
    PIVOT = "PIVOT"
    """If it fails without effect, as UNDOABLE. Once it is issued, it cannot be undone or cancelled."""
    FORWARD_ONLY = "FORWARD_ONLY"
    """Repeated until done, or the operation fails with the finished effects on record. Never undone: it comes after the
    pivot, or is kept whatever follows."""
    BEST_EFFORT = "BEST_EFFORT"
    """Its failure is recorded, and the plan goes on."""


class PlannedStep(State, frozen=True, kw_only=True):
    """One step of a plan, as recorded when the operation was accepted, or when an undo became due."""

    number: int
    """From 1; undo steps get the next numbers."""
    action: ActionName
    input: Recorded
    """What it is to do; the action's file reads it."""
    nature: StepNature
    polls: bool = False
    """It sends no command: the host is polled for what it does by itself."""
    holds_vm: bool = True
    """Nothing else may be done to the VM meanwhile."""
    snapshot_id: SnapshotId | None = None
    """The snapshot that it is about, if there is one."""
    undoes: int | None = None
    """The number of the step that this one undoes."""


class Failure(State, frozen=True, kw_only=True):
    """Why something failed: a stable reason, the host's error id if it gave one, and words for people."""

    reason: str
    message: str
    error_id: str = ""

    @property
    def text(self) -> str:
        """The words with the host's error id, by which documentation and search engines know the error."""
        named = not self.error_id or self.error_id in self.message
        return self.message if named else f"{self.message} ({self.error_id})"

    @classmethod
    def of(cls, error: SnapshotdError) -> Failure:
        """Build the failure of an operation from an error."""
        return cls(reason=error.reason, message=error.message())


class SettledAs(Enum):
    """What a person says became of a step."""

    TOOK_EFFECT = "TOOK_EFFECT"
    """The operation goes on from there."""
    NO_EFFECT = "NO_EFFECT"
    """It had none, and cannot have one any more: it failed."""
    GIVEN_UP = "GIVEN_UP"
    """Nobody knows, or nobody can carry it out: the operation ends."""


class Settlement(State, frozen=True, kw_only=True):
    """What a person said about a step that nothing else could bring to an end."""

    step: int
    outcome: SettledAs
    reason: str
    """In the person's words."""
    actor: str

    @property
    def text(self) -> str:
        """Who said what, for people."""
        return f"{self.actor} settled step {self.step} as {self.outcome.name}: {self.reason.rstrip('.')}."


class Step(State, frozen=True, kw_only=True):
    """A planned step, and how far it has come."""

    plan: PlannedStep
    state: StepState
    attempts: int = 0
    """How often it was issued, those left out whose command was never sent."""
    token: int = 0
    """The newest token issued for it, by StepIssued or ObservationIssued; 0: none."""
    issued_token: int = 0
    """The newest token of an effect, by StepIssued; 0: none."""
    before: Recorded | None = None
    """The facts recorded when it was last issued, or its wait began. Kept until the operation ends, or
    goes on to another snapshot."""
    output: Recorded | None = None
    """What came of it; None: it is not done."""
    started_at: Time | None = None
    """When it was first issued, or the host first polled."""
    changed_at: Time | None = None
    """When it entered its state, for back-off and display."""
    deadline: Time | None = None
    """Of the last attempt."""
    observing: bool = False
    """An observation with `token` is on record, and has not been answered."""
    look_due: bool = False
    """Its last attempt was not begun since the host could not look at the VM, and it has not been looked at since."""
    looked_since: Time | None = None
    """When the host was first observed for it since it entered its state; None: it was not."""
    failure: Failure | None = None
    """Why it failed, or why its outcome is unknown, or why it is due again."""

    @property
    def open(self) -> bool:
        """Whether its command may be at work on the host."""
        return self.state in (StepState.ISSUED, StepState.OUTCOME_UNKNOWN)

    @property
    def at_work(self) -> bool:
        """Whether the host may be changing the VM for it: it is open, or polls and holds the VM."""
        return self.open or (self.state is StepState.WAITING and self.plan.holds_vm)


class Operation(State, frozen=True, kw_only=True):
    """One accepted request for long work on a VM."""

    name: OperationName
    vm_id: VmId
    host_id: HostId
    """The VM's host when it was requested."""
    number: int
    kind: KindName
    params: Recorded
    """What was asked; the kind's file reads it."""
    state: OperationState
    snapshot_id: SnapshotId | None
    """The snapshot that it is about, if there is one."""
    steps: tuple[Step, ...]
    actor: str
    request_id: str
    requested_at: Time
    updated_at: Time
    """When its last event was recorded."""
    started_at: Time | None = None
    ended_at: Time | None = None
    cancel_requested: bool = False
    undoing: bool = False
    """Its undo steps have been planned (there may be none)."""
    round_from: int = 1
    """The number of the first step of its plan as it stands: what failed before was planned anew."""
    rounds: int = 1
    """How often its steps were planned, the first time included."""
    follows: OperationName | None = None
    """The operation with whose end it was requested; None: a caller asked."""
    failure: Failure | None = None
    """Why it is going to fail, or has failed."""
    memory_lost: bool = False
    """Memory was lost that it was to keep."""
    settled: tuple[Settlement, ...] = ()
    """What people said became of its steps, the oldest first."""

    @property
    def given_up(self) -> Settlement | None:
        """Who gave it up; None: nobody did."""
        return next((s for s in self.settled if s.outcome is SettledAs.GIVEN_UP), None)

    @property
    def current_step(self) -> Step | None:
        """The step that is at work or comes next; None: none is left."""
        return self.open_step or self.next_due

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state.active

    def step(self, number: int) -> Step:
        """Return the step of that number. Raises IndexError if the plan has none."""
        return self.steps[number - 1]

    def last(self, action: ActionName, about: SnapshotId | None = None) -> Step | None:
        """Return the last step of an action that was issued, for a snapshot if one is given; None if there is none."""
        issued = (s for s in reversed(self.steps) if s.plan.action == action and s.before is not None)
        return next((s for s in issued if about is None or s.plan.snapshot_id == about), None)

    def output_of(self, action: ActionName) -> Recorded | None:
        """Return the output of an action's last step that is done; None if there is none."""
        return next((s.output for s in reversed(self.steps) if s.plan.action == action and s.output is not None), None)

    def too_late_to_cancel(self) -> str:
        """Return why it can no longer be cancelled, for people; empty: it can."""
        if not self.active:
            return "it has ended"
        settle = f"`snapshotctl operation settle {self.name} given-up --reason TEXT`"
        or_settle = f"Wait for it to end; if its host will never answer, settle it ({settle})"
        if self.undoing:
            return f"it is already being undone. {or_settle}"
        if self.past_pivot or (self.state is OperationState.RUNNING and self.only_waits):
            return f"there may be no way back on the host. {or_settle}"
        return ""

    @property
    def past_pivot(self) -> bool:
        """Whether there may be no way back on the host: from here on it only goes forward."""
        pivots = [s for s in self.steps[self.round_from - 1 :] if s.plan.nature is StepNature.PIVOT]
        return any(s.state not in (StepState.DUE, StepState.SKIPPED) for s in pivots)

    @property
    def open_step(self) -> Step | None:
        """The step whose command may be at work, or that polls; None between two steps."""
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
        """Whether all that is left to do leaves the VM free: a merge, which the host does by itself."""
        rest = [s for s in self.steps if not s.state.at_rest]
        return bool(rest) and not any(s.plan.holds_vm for s in rest)
