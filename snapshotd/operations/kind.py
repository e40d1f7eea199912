"""The base class of all kinds, and what a kind reports to a caller. Holds no rule of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.foreign_checkpoints import no_such_snapshot
from snapshotd.domain.ids import KindName, SnapshotId, VolumeSnapshotId
from snapshotd.domain.lifecycle import VM, OperationState, Power, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Nothing, Versioned
from snapshotd.steps.action import numbered
from snapshotd.steps.catalogue import ACTIONS

UNDETERMINED = "OUTCOME_UNDETERMINED"
"""The reason of an operation that ended with an unknown outcome."""
CANCELLED = Failure(reason="CANCELLED", message="The operation was cancelled.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """How an operation is undone: the events recorded with that decision, and the steps."""

    events: tuple[e.VmEvent, ...] = ()
    steps: tuple[PlannedStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a request would lead to, besides its steps, for people to judge beforehand."""

    moved: tuple[tuple[SnapshotId, SnapshotId | None], ...] = ()
    """Snapshots that get another parent, with the new one."""
    current: SnapshotId | None
    power: Power
    discarded: tuple[SnapshotId, ...] = ()
    """Snapshots that would be gone."""
    memory_lost: bool = False
    """What the guest holds in memory would be lost."""
    warnings: tuple[str, ...] = ()


class Result:
    """What the response of an operation holds. A kind has its own; the servicer that takes the kind writes it."""


class TheVm(Result):
    """The response of an operation is the VM."""


class Kind(ABC):
    """One kind of operation: when it is accepted, its plan, and what its progress means for VM and snapshots.

    A method with a body is the default. A kind overrides what it needs.
    """

    name: ClassVar[KindName]
    params: Versioned[object] = Versioned(Nothing)
    """What is asked: recorded with the operation."""
    joins: ClassVar[bool] = False
    """A second request for the same thing is answered with the operation that is active."""
    passes: ClassVar[bool] = False
    """It may begin while another operation merely waits and does not hold the VM."""
    preempts: ClassVar[frozenset[KindName]] = frozenset()
    """Kinds of which an active operation is cancelled for one of this kind, if it is not too late for that."""

    def request(self, params: object = Nothing()) -> RequestOperation:
        """Return the command that asks for an operation of this kind, with its Params."""
        return RequestOperation(kind=self.name, params=self.params.write(params))

    accepts_released_vms: ClassVar[bool] = False
    """It is also accepted of a VM that is on no host, since it was released after an export."""
    accepts_gone_vms: ClassVar[bool] = False
    """It is also accepted of a VM that is not registered any more."""

    def goes_beside(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether a request goes on beside an active operation, which it leaves alone. By default none does."""
        return False

    def goes_past(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an active operation is cancelled for a request, if it is not too late for that."""
        return active.kind in self.preempts

    def outwaits(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether a request that goes past an operation waits for its end, if it is too late to cancel that."""
        return False

    def subject(self, request: RequestOperation) -> SnapshotId | None:
        """Return the snapshot that a request is about, if it is about one."""
        return None

    def check_existence(self, vm: VirtualMachine, request: RequestOperation) -> None:
        """Raise NotFound if what a request is about is not there."""
        subject = self.subject(request)
        if subject is not None and subject not in vm.snapshots:
            raise no_such_snapshot(vm, subject)

    def does(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an active operation does just what a request asks for, so that it answers that."""
        alike = self.joins and request.kind == active.kind
        return alike and self.params.read(request.params) == self.params.read(active.params)

    @abstractmethod
    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if the state, or then a limit, forbids it."""

    def resolved(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> RequestOperation:
        """Return an acceptable request as it is recorded: with what it leaves open filled in."""
        return request

    def accepted(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> tuple[e.VmEvent, ...]:
        """Return the events recorded before OperationRequested."""
        return ()

    @abstractmethod
    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the steps, still without their numbers; without any, the operation ends in the append of its request.

        The VM is as `accepted` leaves it.
        """

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return why the operation must not go on with a step now; None leaves that to the step's action."""
        return None

    def spares(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return why a step is left out though the host is not as it wants it; None if it is not. The plan goes on."""
        return None

    def skips(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether a step is skipped if the host already is as the step wants it."""
        return True

    def time_limit_s(self, operation: Operation, step: Step, policy: Policy) -> float:
        """Return how long one attempt of a step may take; if it polls, how long without progress."""
        return ACTIONS[step.plan.action].time_limit_s(policy)

    def deadline(self, operation: Operation, step: Step, now: datetime, policy: Policy) -> datetime:
        """Return until when an attempt of a step that is issued now may take."""
        return now + timedelta(seconds=self.time_limit_s(operation, step, policy))

    @abstractmethod
    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the events of VM and snapshot when the first step begins."""

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return their events when a later step begins. For an undo, they come with its decision (`undo`)."""
        return ()

    def recognises(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what of the host's next description is a step's own, which is done: recorded before that description.

        So nobody who reads the record at whatever version takes it for others' doing.
        """
        return ()

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return their events when a step is done or skipped."""
        return ()

    def step_failed(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return their events when a step has ended without its effect, or undetermined, and the plan may go on."""
        return ()

    def verify(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Return why the result differs from what was asked for, though every step is done; None if it does not."""
        return None

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return how to undo what was done: step by step, the last first. `failure` is None for a cancellation."""
        touched = [s for s in reversed(operation.steps) if ACTIONS[s.plan.action].touched(vm, s)]
        return Undo(steps=undo_steps(vm, operation, touched))

    def again(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[PlannedStep, ...]:
        """Return the steps by which the operation goes on after one failed, in place of those that are left.

        By default there are none, and what was done is undone. `operation.rounds` says how often its steps were
        planned; each round begins later than the one before.
        """
        return ()

    def follows(self, vm: VirtualMachine, operation: Operation, policy: Policy) -> RequestOperation | None:
        """Return what is requested as soon as the operation has succeeded, on its caller's behalf; None: nothing."""
        return None

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return why the operation fails, with what is so now and what to do, if the failure alone does not say it."""
        return failure

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the snapshot's events when the operation ends, and that memory was lost that it was to keep."""
        return memory_lost_by_undone(operation)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return what an acceptable request would lead to."""
        return Preview(current=vm.current_id, power=vm.power)

    def warns(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> tuple[str, ...]:
        """Return what people should know beforehand by limits and ages, besides the preview."""
        return ()

    def volume_snapshot(self, operation: Operation) -> VolumeSnapshotId | None:
        """Return the volume snapshot that the operation is about, if it is about one."""
        return None

    def safety_snapshot(self, operation: Operation) -> SnapshotId | None:
        """Return the snapshot that the operation takes of the state before it; None: it takes none."""
        return None

    def kept(self, operation: Operation) -> str:
        """Return what an operation that was undone has left as it had made it, for people; empty: nothing."""
        return ""

    def remark(self, operation: Operation) -> str:
        """Return what came of an operation that has ended, for people, if its state and its steps do not tell."""
        return ""

    def result(self, operation: Operation) -> Result:
        """Return what the response of an operation that succeeded holds."""
        return TheVm()

    def achieved(self, operation: Operation) -> Result | None:
        """Return what the error of an operation that failed holds besides: what it has done all the same, if much."""
        return None

    def brings(self, operation: Operation) -> tuple[str, ...]:
        """Return the paths of the volumes that an operation attaches to its VM."""
        return ()

    def deletes(self, operation: Operation) -> tuple[str, ...]:
        """Return the paths of the files that an operation deletes, and that no VM may get as long as it is at work."""
        return ()

    def removed(self, operation: Operation) -> tuple[SnapshotId, ...]:
        """Return the snapshots that an operation was asked to delete, and that are gone by now."""
        return ()


def memory_lost_by_undone(operation: Operation) -> tuple[e.VmEvent, ...]:
    """Return the event that an operation that was undone has lost what the guest held in memory, if it has."""
    done = (s for s in operation.steps if s.state is StepState.DONE and s.plan.undoes is None)
    lost = operation.undoing and any(ACTIONS[step.plan.action].lost_memory(step) for step in done)
    return (e.MemoryLost(number=operation.number, snapshot_id=None),) if lost else ()


def undo_steps(vm: VirtualMachine, operation: Operation, touched: list[Step]) -> tuple[PlannedStep, ...]:
    """Return the steps that undo others, in the same order, numbered after the plan."""
    undone = (
        replace(undo, undoes=step.plan.number) for step in touched for undo in ACTIONS[step.plan.action].undo(vm, step)
    )
    return numbered(undone, len(operation.steps) + 1)


def move_vm(vm: VirtualMachine, trigger: str) -> e.VmActivityChanged:
    """Return the event that moves the VM along an arrow of its table. Raises IllegalTransition."""
    return e.VmActivityChanged(trigger=trigger, from_state=vm.activity, to_state=VM.dest(trigger, vm.activity))


def move_current(vm: VirtualMachine, to: SnapshotId | None, cause: str = "step") -> tuple[e.VmEvent, ...]:
    """Return the event that makes `to` the current snapshot; none if it is current already."""
    if vm.current_id == to:
        return ()
    return (e.CurrentMoved(from_snapshot_id=vm.current_id, to_snapshot_id=to, cause=cause),)
