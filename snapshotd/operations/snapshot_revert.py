"""RevertToSnapshot: [bring the power to what it will be] → restore (the pivot) → final power.

A revert that is run again after the guest has worked destroys data. So it is run again only if the disks show that it
was not applied. A preparatory start may fail, and the revert goes on: a guest that cannot boot is why people revert. A
preparatory stop is a turn-off, since the revert discards what it loses.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import PowerChangeRefused, SnapshotNotUsable, VmAbsent
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import VM, OperationState, Power, SnapshotState, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import UNDETERMINED, Kind, Preview, Result, Undo, move_current, move_vm, undo_steps
from snapshotd.operations.snapshots import snapshot_id_of, snapshot_of
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_restore, vm_stop
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.checkpoint_restore import CHECKPOINT_RESTORE
from snapshotd.steps.power import IN_MEMORY
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import VM_STOP, StopMode

_BEGINS = {
    VM_START.name: "revert_begins_with_start",
    VM_STOP.name: "revert_begins_with_stop",
    CHECKPOINT_RESTORE.name: "revert_begins",
}


@dataclass(frozen=True, slots=True)
class Params:
    """What to revert to."""

    snapshot_id: SnapshotId
    refuse_power_change: bool
    """Refuse if the revert would change the VM's power."""


@dataclass(frozen=True, slots=True)
class Reverted(Result):
    """The snapshot that the VM was reverted to."""

    snapshot_id: SnapshotId


def power_after(snapshot: Snapshot) -> Power:
    """Return the power in which a VM ends after a revert to a snapshot."""
    return Power.RUNNING if snapshot.with_memory else Power.STOPPED


def _refused_change(vm: VirtualMachine, snapshot: Snapshot, params: Params) -> PowerChangeRefused | None:
    """Return the refusal of a power change that the caller does not want; None if there is none."""
    if not params.refuse_power_change or vm.power is power_after(snapshot):
        return None
    return PowerChangeRefused(vm.name, vm.power.name, power_after(snapshot).name)


class RevertToSnapshot(Kind):
    """Revert a VM's disks, and its memory if the snapshot holds it, to a snapshot."""

    name = KindName("REVERT_TO_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params)
    joins = True

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the snapshot to revert to."""
        return self.params.read(request.params).snapshot_id

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless the snapshot is READY, nothing blocks the VM, and its power may change so."""
        params = self.params.read(request.params)
        snapshot = vm.snapshots[params.snapshot_id]
        if snapshot.state is not SnapshotState.READY:
            why = snapshot.failure.message if snapshot.failure else ""
            raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "revert to", "READY", why)
        if forbidden := checkpoint_restore.forbids(vm):
            raise forbidden
        if refused := _refused_change(vm, snapshot, params):
            raise refused

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the power change if there is one, the restore, and the power that the VM must end in."""
        target = vm.snapshots[self.subject(request)]
        assert target.checkpoint_id is not None, target
        start = power_after(target) is Power.RUNNING

        def power(nature: StepNature) -> PlannedStep:
            if start:
                return VM_START.planned(nature=nature, snapshot_id=target.snapshot_id)
            return VM_STOP.planned(vm_stop.Input(StopMode.TURN_OFF), nature=nature, snapshot_id=target.snapshot_id)

        which = checkpoint_restore.Input(target.checkpoint_id)
        restore = CHECKPOINT_RESTORE.planned(which, nature=StepNature.PIVOT, snapshot_id=target.snapshot_id)
        steps = [restore, power(StepNature.FORWARD_ONLY)]
        if vm.power is not power_after(target):
            steps.insert(0, power(StepNature.BEST_EFFORT if start else StepNature.UNDOABLE))
        return tuple(steps)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal before the power is changed for nothing, and before the restore."""
        if operation.state is not OperationState.PENDING and step.plan.action != CHECKPOINT_RESTORE.name:
            return None
        snapshot = snapshot_of(vm, operation)
        assert snapshot.checkpoint_id is not None, snapshot
        if refused := checkpoint_restore.refusal(vm, snapshot.checkpoint_id):
            return refused
        change = _refused_change(vm, snapshot, self.params.read(operation.params))
        return Failure.of(change) if change else None

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the moves of the VM to STARTING, STOPPING or REVERTING, and of the snapshot to REVERTING."""
        snapshot = snapshot_of(vm, operation)
        return move_vm(vm, _BEGINS[step.plan.action]), e.SnapshotRevertStarted(**moved(snapshot, "revert_starts"))

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move from its preparation to REVERTING."""
        prepared = step.plan.action == CHECKPOINT_RESTORE.name and VM.allows("preparation_ended", vm.activity)
        return (move_vm(vm, "preparation_ended"),) if prepared else ()

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the event that makes the snapshot current."""
        return move_current(vm, operation.snapshot_id) if step.plan.action == CHECKPOINT_RESTORE.name else ()

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return how to restore the power: the first step that changed it knows what it was before."""
        touched = [s for s in operation.steps if ACTIONS[s.plan.action].touched(vm, s)]
        return Undo(steps=undo_steps(vm, operation, touched[:1]))

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return, for a revert that has moved the disks, also how the VM stands and how to bring it on."""
        restore = operation.last(CHECKPOINT_RESTORE.name)
        if restore is None or restore.state is not StepState.DONE:
            return failure
        snapshot, name = snapshot_of(vm, operation), shlex.quote(vm.name)
        if vm.power is Power.ABSENT:
            gone = VmAbsent(vm.name, "start" if power_after(snapshot) is Power.RUNNING else "turn off", vm.host_id)
            said = failure.message if failure.reason == gone.reason else f"{failure.message} {gone}"
            return replace(failure, message=f"The disks are back at snapshot {snapshot.name}. {said}")
        start, turn_off = f"`snapshotctl vm start {name}`", f"`snapshotctl vm stop {name} --turn-off`"
        if power_after(snapshot) is Power.STOPPED:
            wanted, leads_on = "off", f"Run {turn_off}."
        elif vm.power is Power.SAVED:
            wanted, leads_on = "running", f"Run {start} to resume its memory, or {turn_off} to give its memory up."
        else:
            wanted, leads_on = "running", f"Run {start}."
        now = f"but VM {vm.name} is not {wanted}: it is {vm.power.name}"
        text = f"The disks are back at snapshot {snapshot.name}, {now}. {failure.message} {leads_on}"
        return replace(failure, message=text)

    def ends(
        self,
        vm: VirtualMachine,
        operation: Operation,
        outcome: OperationState,
        failure: Failure | None,
    ) -> tuple[e.VmEvent, ...]:
        """Return the event that brings the snapshot to rest, if the revert had begun."""
        snapshot = snapshot_of(vm, operation)
        if snapshot.state is not SnapshotState.REVERTING:
            return ()
        if failure is not None and failure.reason == UNDETERMINED:
            return (e.SnapshotGivenUp(**moved(snapshot, "given_up"), failure=failure),)
        return (e.SnapshotRevertEnded(**moved(snapshot, "revert_ended"), failure=failure),)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the VM's power and current snapshot after the revert, and what is lost."""
        target = vm.snapshots[self.subject(request)]
        return Preview(
            current=target.snapshot_id,
            power=power_after(target),
            memory_lost=vm.power in IN_MEMORY,
            warnings=("What was written to the disks since the current snapshot will be lost.",),
        )

    def result(self, operation: Operation) -> Result:
        """Return the snapshot that the VM was reverted to."""
        return Reverted(snapshot_id_of(operation))


REVERT_TO_SNAPSHOT = RevertToSnapshot()
