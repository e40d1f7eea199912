"""RevertToSnapshot: [safety snapshot] → [bring the power to what it will be] → restore (the pivot) → final power.

A revert that is run again after the guest has worked destroys data. So it is run again only if the disks show that it
was not applied. A preparatory start may fail, and the revert goes on: a guest that cannot boot is why people revert. A
preparatory stop is a turn-off, since the revert discards what it loses. A snapshot of disks is restored to a VM that
is off, whatever the power afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import (
    InvalidArgument,
    PowerChangeRefused,
)
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import VM, OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.snapshot_errors import (
    SnapshotNotUsable,
)
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations import revert_words, safety_snapshot
from snapshotd.operations.kind import (
    UNDETERMINED,
    Kind,
    Preview,
    Result,
    Undo,
    memory_lost_by_undone,
    move_current,
    move_vm,
    undo_steps,
)
from snapshotd.operations.safety_snapshot import Safety
from snapshotd.operations.snapshot_making import created, creation_starts, making_ended
from snapshotd.operations.snapshots import snapshot_id_of, snapshot_of
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_restore, vm_stop
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME
from snapshotd.steps.checkpoint_restore import CHECKPOINT_RESTORE
from snapshotd.steps.power import IN_MEMORY
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import VM_STOP, StopMode

_BEGINS = {
    CHECKPOINT_CREATE.name: "revert_begins_with_safety_snapshot",
    VM_START.name: "revert_begins_with_start",
    VM_STOP.name: "revert_begins_with_stop",
    CHECKPOINT_RESTORE.name: "revert_begins",
}
_AFTER_SAFETY = {
    VM_START.name: "safety_snapshot_taken_start_next",
    VM_STOP.name: "safety_snapshot_taken_stop_next",
    CHECKPOINT_RESTORE.name: "safety_snapshot_taken",
}
_SAFETY = frozenset({CHECKPOINT_CREATE.name, CHECKPOINT_RENAME.name})


class PowerAfter(Enum):
    """The power that the VM has after a revert."""

    AS_SNAPSHOT = "AS_SNAPSHOT"
    """RUNNING for a snapshot with memory, STOPPED for one of disks."""
    RUNNING = "RUNNING"
    AS_BEFORE = "AS_BEFORE"
    """RUNNING if it was RUNNING when the revert was accepted, else STOPPED."""


@dataclass(frozen=True, slots=True)
class Params:
    """What to revert to, and how."""

    snapshot_id: SnapshotId
    refuse_power_change: bool
    """Refuse if the revert would change the VM's power."""
    power_after: PowerAfter = PowerAfter.AS_SNAPSHOT
    safety: Safety | None = None
    """The snapshot to take first; None: none."""
    require_memory: bool = False
    """Fail, rather than start the VM without the snapshot's memory, if that was lost on the way."""


def _with_options(old: JsonObject) -> JsonObject:
    return {**old, "power_after": PowerAfter.AS_SNAPSHOT.value, "safety": None, "require_memory": False}


@dataclass(frozen=True, slots=True)
class Reverted(Result):
    """What came of a revert."""

    snapshot_id: SnapshotId
    """The snapshot that the VM was reverted to."""
    safety_id: SnapshotId | None
    memory_lost: bool
    """The VM was started without the snapshot's memory."""


def power_after(vm: VirtualMachine, target: Snapshot, wanted: PowerAfter) -> Power:
    """Return the power in which a VM, as it is now, ends after a revert."""
    as_wanted = {
        PowerAfter.AS_SNAPSHOT: target.with_memory,
        PowerAfter.RUNNING: True,
        PowerAfter.AS_BEFORE: vm.power is Power.RUNNING,
    }
    return Power.RUNNING if as_wanted[wanted] else Power.STOPPED


def _planned_power(operation: Operation) -> Power:
    """Return the power that a revert was planned to end in: its last step brings that about."""
    last = operation.step(max(_planned(operation))).plan
    power = ACTIONS[last.action].goal(last)
    assert power is not None, last
    return power


def _planned(operation: Operation) -> list[int]:
    """Return the numbers of the steps that were planned from the first."""
    return [step.plan.number for step in operation.steps if step.plan.undoes is None]


def _refused_change(vm: VirtualMachine, after: Power, params: Params) -> PowerChangeRefused | None:
    """Return the refusal of a power change that the caller does not want; None if there is none."""
    if not params.refuse_power_change or vm.power is after:
        return None
    return PowerChangeRefused(vm.name, vm.power.name, after.name)


class RevertToSnapshot(Kind):
    """Revert a VM's disks, and its memory if the snapshot holds it, to a snapshot."""

    name = KindName("REVERT_TO_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params, 2, {1: _with_options})
    joins = True

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the snapshot to revert to."""
        return self.params.read(request.params).snapshot_id

    def does(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an active revert is the one that is asked for. The id of a safety snapshot is always new."""
        if request.kind != active.kind:
            return False
        asked, there = self.params.read(request.params), self.params.read(active.params)
        if asked.safety is not None and there.safety is not None:
            asked = replace(asked, safety=replace(asked.safety, snapshot_id=there.safety.snapshot_id))
        return asked == there

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless the snapshot is READY, nothing blocks the VM, and its power may change so.

        What forbids the safety snapshot forbids the revert.
        """
        params = self.params.read(request.params)
        snapshot = vm.snapshots[params.snapshot_id]
        if snapshot.state is not SnapshotState.READY:
            why = snapshot.failure.message if snapshot.failure else ""
            raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "revert to", "READY", why)
        if forbidden := checkpoint_restore.forbids(vm):
            raise forbidden
        after = power_after(vm, snapshot, params.power_after)
        if params.require_memory:
            _check_memory(snapshot, after)
        if refused := _refused_change(vm, after, params):
            raise refused
        if params.safety is not None:
            safety_snapshot.check(vm, params.safety, snapshot, policy)

    def accepted(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> tuple[e.VmEvent, ...]:
        """Return the event that allocates the safety snapshot, if there is to be one."""
        params = self.params.read(request.params)
        if params.safety is None:
            return ()
        return (safety_snapshot.allocated(vm, params.safety, vm.snapshots[params.snapshot_id]),)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the safety snapshot and the power change, if any, the restore, and the power to end in."""
        params = self.params.read(request.params)
        target = vm.snapshots[params.snapshot_id]
        assert target.checkpoint_id is not None, target
        after = power_after(vm, target, params.power_after)
        first = after if target.with_memory else Power.STOPPED

        def power(wanted: Power, nature: StepNature) -> PlannedStep:
            if wanted is Power.RUNNING:
                return VM_START.planned(nature=nature, snapshot_id=target.snapshot_id)
            return VM_STOP.planned(vm_stop.Input(StopMode.TURN_OFF), nature=nature, snapshot_id=target.snapshot_id)

        which = checkpoint_restore.Input(target.checkpoint_id)
        steps = list(safety_snapshot.steps(vm.snapshots[params.safety.snapshot_id])) if params.safety else []
        if vm.power is not first:
            steps.append(power(first, StepNature.BEST_EFFORT if first is Power.RUNNING else StepNature.UNDOABLE))
        steps.append(CHECKPOINT_RESTORE.planned(which, nature=StepNature.PIVOT, snapshot_id=target.snapshot_id))
        steps.append(power(after, StepNature.FORWARD_ONLY))
        return tuple(steps)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal before anything is done for nothing, before the power is changed, and before the restore.

        At last one of a start from disks, if the caller requires the snapshot's memory.
        """
        if _is_last(operation, step):
            required = self.params.read(operation.params).require_memory and vm.power is Power.STOPPED
            return revert_words.memory_required(vm) if required else None
        begins = operation.state is OperationState.PENDING or vm.activity is VmActivity.SNAPSHOTTING
        if not begins and step.plan.action != CHECKPOINT_RESTORE.name:
            return None
        snapshot = snapshot_of(vm, operation)
        assert snapshot.checkpoint_id is not None, snapshot
        if refused := checkpoint_restore.refusal(vm, snapshot.checkpoint_id):
            return refused
        prepared = any(ACTIONS[s.plan.action].goal(s.plan) and s.state is StepState.DONE for s in operation.steps)
        change = _refused_change(vm, _planned_power(operation), self.params.read(operation.params))
        return Failure.of(change) if change and not prepared else None

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the moves of the VM to what comes first, and of the snapshots to REVERTING and CREATING."""
        target, safety = snapshot_of(vm, operation), self._safety(vm, operation)
        starts = (creation_starts(vm, safety),) if safety is not None else ()
        reverts = e.SnapshotRevertStarted(**moved(target, "revert_starts"))
        return move_vm(vm, _BEGINS[step.plan.action]), *starts, reverts

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move from the safety snapshot to what comes next, or from its preparation to REVERTING."""
        if vm.activity is VmActivity.SNAPSHOTTING:
            taken = _AFTER_SAFETY.get(step.plan.action)
            return (move_vm(vm, taken),) if taken else ()
        prepared = step.plan.action == CHECKPOINT_RESTORE.name and VM.allows("preparation_ended", vm.activity)
        return (move_vm(vm, "preparation_ended"),) if prepared else ()

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the event that makes the snapshot current; before that, those of a safety snapshot that was taken."""
        if step.plan.action == CHECKPOINT_RESTORE.name:
            return move_current(vm, operation.snapshot_id)
        safety = self._safety(vm, operation)
        if step.plan.action != CHECKPOINT_CREATE.name or safety is None:
            return ()
        return created(vm, operation, safety)

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return how to restore the power: the first step that changed it knows what it was before."""
        of_power = (s for s in operation.steps if s.plan.action not in _SAFETY)
        touched = [s for s in of_power if ACTIONS[s.plan.action].touched(vm, s)]
        return Undo(steps=undo_steps(vm, operation, touched[:1]))

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return also how the VM stands, for a revert that has moved the disks or that has not even begun to."""
        safety = self._safety(vm, operation)
        if safety is not None and safety.state is SnapshotState.CREATING:
            return revert_words.not_taken(failure)
        restore = operation.last(CHECKPOINT_RESTORE.name)
        if restore is None or restore.state is not StepState.DONE:
            return failure
        return revert_words.how_it_stands(vm, snapshot_of(vm, operation), _planned_power(operation), failure)

    def ends(
        self,
        vm: VirtualMachine,
        operation: Operation,
        outcome: OperationState,
        failure: Failure | None,
    ) -> tuple[e.VmEvent, ...]:
        """Return what was lost, and the events that bring the snapshot and a safety snapshot to rest."""
        safety, snapshot = self._safety(vm, operation), snapshot_of(vm, operation)
        lost = _memory_lost(vm, operation, snapshot)
        not_taken = making_ended(safety, outcome, failure) if safety is not None else ()
        if snapshot.state is not SnapshotState.REVERTING:
            return (*lost, *not_taken)
        if failure is not None and failure.reason == UNDETERMINED and not not_taken:
            return (*lost, e.SnapshotGivenUp(**moved(snapshot, "given_up"), failure=failure))
        return *lost, *not_taken, e.SnapshotRevertEnded(**moved(snapshot, "revert_ended"), failure=failure)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the VM's power and current snapshot after the revert, and what is lost."""
        params = self.params.read(request.params)
        target = vm.snapshots[params.snapshot_id]
        after = power_after(vm, target, params.power_after)
        return Preview(
            current=target.snapshot_id,
            power=after,
            memory_lost=vm.power in IN_MEMORY and params.safety is None,
            warnings=revert_words.losses(target, after, safety=params.safety is not None),
        )

    def warns(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> tuple[str, ...]:
        """Return what an old snapshot brings back out of date, and what a safety snapshot costs."""
        params = self.params.read(request.params)
        old = revert_words.out_of_date(vm.snapshots[params.snapshot_id], policy, now)
        return (*old, safety_snapshot.warning(vm, policy)) if params.safety else old

    def safety_snapshot(self, operation: Operation) -> SnapshotId | None:
        """Return the safety snapshot's id, if there is one."""
        safety = self.params.read(operation.params).safety
        return safety.snapshot_id if safety else None

    def _safety(self, vm: VirtualMachine, operation: Operation) -> Snapshot | None:
        safety_id = self.safety_snapshot(operation)
        return vm.snapshots[safety_id] if safety_id else None

    def remark(self, operation: Operation) -> str:
        """Return that the snapshot's memory was lost."""
        return revert_words.memory_lost(operation) if operation.memory_lost and not operation.undoing else ""

    def result(self, operation: Operation) -> Result:
        """Return the snapshot that the VM was reverted to, the safety snapshot, and whether the memory was lost."""
        return Reverted(snapshot_id_of(operation), self.safety_snapshot(operation), operation.memory_lost)


def _is_last(operation: Operation, step: Step) -> bool:
    """Return whether a step is the last one of the plan: it brings the power to what it must be."""
    return step.plan.undoes is None and step.plan.number == max(_planned(operation))


def _memory_lost(vm: VirtualMachine, operation: Operation, target: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the event that memory was lost: the guest's by an undone revert, the snapshot's by one that went on.

    A restore leaves a VM with the snapshot's memory RUNNING or SAVED. So if it was STOPPED when it was started at last,
    or is STOPPED now, somebody has turned it off in between.
    """
    restore = operation.last(CHECKPOINT_RESTORE.name)
    if restore is None or restore.state is not StepState.DONE:
        return memory_lost_by_undone(operation)
    if not target.with_memory or _planned_power(operation) is not Power.RUNNING:
        return ()
    last = operation.step(max(_planned(operation)))
    started = last.state is StepState.DONE and last.before is not None
    power = VM_START.facts.read(last.before).power if started and last.before else vm.power
    lost = power is Power.STOPPED
    return (e.MemoryLost(number=operation.number, snapshot_id=target.snapshot_id),) if lost else ()


def _check_memory(snapshot: Snapshot, after: Power) -> None:
    """Raise InvalidArgument if a revert cannot end with the snapshot's memory, which the caller requires."""
    if not snapshot.with_memory:
        text = f"needs a snapshot with memory; {snapshot.name} holds disks only."
    elif after is Power.STOPPED:
        text = "needs a VM that is RUNNING afterwards; power_after would leave it STOPPED."
    else:
        return
    raise InvalidArgument("require_memory", "true", text)


REVERT_TO_SNAPSHOT = RevertToSnapshot()
