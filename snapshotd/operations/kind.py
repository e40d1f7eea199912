"""The two shapes that every file here fills in: an operation's kind, and a step's action. Holds no rule of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from snapshotd.domain import events as e
from snapshotd.domain.commands import OperationRequest
from snapshotd.domain.errors import WrongPower
from snapshotd.domain.host_report import Before, Journal, JournalState, VmReport
from snapshotd.domain.ids import CheckpointId, SnapshotId
from snapshotd.domain.lifecycle import NEEDS_POWER, SNAPSHOT, VM, OperationState, Power
from snapshotd.domain.operation import Failure, Operation, OperationKind, PlannedStep, Step, StepAction
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine

UNDETERMINED = "OUTCOME_UNDETERMINED"
"""Reason of an operation that ended without its outcome being known."""
CANCELLED = Failure(reason="CANCELLED", message="The operation was cancelled.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The host is as the step wanted it."""

    checkpoint_id: CheckpointId | None = None
    has_memory: bool = False
    marked: bool = True
    """CREATE: the checkpoint bears our marker; else it was adopted."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The step had no effect, and cannot have one any more."""


@dataclass(frozen=True, slots=True)
class InProgress:
    """The hypervisor is at work: nothing can be concluded yet."""


@dataclass(frozen=True, slots=True)
class Undetermined:
    """The evidence does not tell, and will not."""

    detail: str


Judgement = Done | Absent | InProgress | Undetermined


class Trace(Enum):
    """What the VM's journal on the host proves of a step."""

    UNTOUCHED = "UNTOUCHED"
    """No script has ever begun it."""
    BEGUN_BEFORE = "BEGUN_BEFORE"
    """An earlier attempt was begun. It was observed to have had no effect before the newest one was issued."""
    BEGUN = "BEGUN"
    """The newest attempt was begun."""
    DONE = "DONE"
    NO_EVIDENCE = "NO_EVIDENCE"
    """The journal is gone, unreadable, or not the one on record."""


def trace(vm: VirtualMachine, operation: Operation, step: Step, journal: Journal) -> Trace:
    """Read what a journal proves of a step. An observed journal stays as it is: the fence keeps later scripts out."""
    if journal.state is not JournalState.PRESENT or journal.journal_id != vm.journal_id:
        return Trace.NO_EVIDENCE
    if (journal.operation, journal.step) != (operation.name, step.plan.number):
        return Trace.UNTOUCHED
    if journal.done or not journal.begun:
        return Trace.DONE if journal.done else Trace.UNTOUCHED
    return Trace.BEGUN if journal.begun_token == step.issued_token else Trace.BEGUN_BEFORE


class StepBehaviour(ABC):
    """What a step asks of the host, and how what is seen there is judged."""

    action: StepAction

    @abstractmethod
    def before(self, vm: VirtualMachine, step: Step) -> Before:
        """Return the facts that the step depends on, as they are on record."""

    @abstractmethod
    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Conclude from the logged `before` and a report what became of the step. Pure."""

    def needless(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the host is already as the step wants it, so that it is skipped. Never, unless said."""
        return False

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return why the step may not be issued as things are now; None, unless said: it may."""
        return None

    @abstractmethod
    def wait_s(self, policy: Policy) -> float:
        """Return how long after its first StepIssued the step may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """How what an operation has done is undone: events that go with the decision, and the steps."""

    events: tuple[e.VmEvent, ...] = ()
    steps: tuple[PlannedStep, ...] = ()


class Kind(ABC):
    """One kind of operation: when it is accepted, its plan, and what its progress means for VM and snapshots.

    Where a method has a body, that is what holds for a kind that says nothing else.
    """

    kind: OperationKind

    @abstractmethod
    def check(self, vm: VirtualMachine, request: OperationRequest, policy: Policy, now: datetime) -> None:
        """Check state, then limits. Raises a SnapshotdError."""

    def refusal(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Return why one that was accepted must not begin as things are now; None: its first step says that."""
        return None

    @abstractmethod
    def plan(self, vm: VirtualMachine, request: OperationRequest) -> tuple[PlannedStep, ...]:
        """Return the steps, as they will be recorded."""

    def accepted(self, vm: VirtualMachine, request: OperationRequest, now: datetime) -> tuple[e.VmEvent, ...]:
        """Return what is recorded besides OperationRequested."""
        return ()

    @abstractmethod
    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what happens to VM and snapshot with the first step."""

    def follows(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what happens to them with a later step. Those of an undo begin with its decision."""
        return ()

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what happens to them when a step is done, or turns out to be needless."""
        return ()

    def verify(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Return why the result is not what was asked for, though every step is done; None if it is."""
        return None

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return how what was done is undone. `failure` is None for a cancellation."""
        return Undo()

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return what happens to the snapshot when the operation ends."""
        return ()


def move_vm(vm: VirtualMachine, trigger: str) -> e.VmActivityChanged:
    """Take the VM along an arrow of its table. Raises IllegalTransition."""
    return e.VmActivityChanged(trigger=trigger, from_state=vm.activity, to_state=VM.dest(trigger, vm.activity))


def snapshot_of(vm: VirtualMachine, operation: Operation) -> Snapshot:
    """Return the snapshot that an operation is about."""
    assert operation.snapshot_id is not None, operation
    return vm.snapshots[operation.snapshot_id]


def expunge_failed(vm: VirtualMachine, snapshot: Snapshot, failure: Failure) -> e.SnapshotExpungeFailed:
    """End an expunge that failed: READY if the checkpoint is intact and the snapshot was READY before, else ERROR."""
    there = vm.description is not None and vm.description.checkpoint(snapshot.checkpoint_id) is not None
    trigger = "expunge_failed_intact" if there and snapshot.was_ready else "expunge_failed"
    return e.SnapshotExpungeFailed(
        snapshot_id=snapshot.snapshot_id,
        from_state=snapshot.state,
        to_state=SNAPSHOT.dest(trigger, snapshot.state),
        failure=failure,
    )


def given_up(snapshot: Snapshot, failure: Failure) -> e.SnapshotGivenUp:
    """End a transient state whose outcome is not known."""
    to_state = SNAPSHOT.dest("given_up", snapshot.state)
    return e.SnapshotGivenUp(
        snapshot_id=snapshot.snapshot_id, from_state=snapshot.state, to_state=to_state, failure=failure
    )


def removed(snapshot: Snapshot) -> e.SnapshotRemoved:
    """End an expunge that succeeded."""
    to_state = SNAPSHOT.dest("removed", snapshot.state)
    return e.SnapshotRemoved(snapshot_id=snapshot.snapshot_id, from_state=snapshot.state, to_state=to_state)


def move_current(vm: VirtualMachine, to: SnapshotId | None, cause: str = "step") -> tuple[e.VmEvent, ...]:
    """Make `to` the current snapshot, if it is not."""
    if vm.current_id == to:
        return ()
    return (e.CurrentMoved(from_snapshot_id=vm.current_id, to_snapshot_id=to, cause=cause),)


def power_refusal(vm: VirtualMachine, trigger: str, action: str) -> Failure | None:
    """Return why the VM's power does not allow an activity to begin; None if it does."""
    if vm.power in NEEDS_POWER[trigger]:
        return None
    return Failure.of(WrongPower(vm.name, vm.power.name, needed(trigger), action))


def needed(trigger: str) -> str:
    """Name the power in which an activity may begin, for people."""
    return " or ".join(p.name for p in Power if p in NEEDS_POWER[trigger])
