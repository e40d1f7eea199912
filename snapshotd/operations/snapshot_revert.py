"""RevertToSnapshot: [bring the power to what it will be] → restore (the pivot) → final power.

A revert deserves care: run again after the guest has been working, it destroys data. So it is run again only if the
disks show that it was not applied. A preparatory start may fail, and the revert goes on (a guest that cannot boot is
why people revert); a preparatory stop is a turn-off, since what it loses is being thrown away.
"""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import OperationRequest, RevertToSnapshot
from snapshotd.domain.errors import PowerChangeRefused, SnapshotNotUsable, WrongPower
from snapshotd.domain.host_report import Before, VmReport, file_keys
from snapshotd.domain.lifecycle import NEEDS_POWER, SNAPSHOT, VM, OperationState, Power, SnapshotState
from snapshotd.domain.operation import (
    Failure,
    Operation,
    OperationKind,
    PlannedStep,
    Step,
    StepAction,
    StepNature,
    StopMode,
)
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import (
    UNDETERMINED,
    Absent,
    Done,
    InProgress,
    Judgement,
    Kind,
    StepBehaviour,
    Trace,
    Undetermined,
    Undo,
    given_up,
    move_current,
    move_vm,
    needed,
    power_refusal,
    snapshot_of,
    trace,
)
from snapshotd.operations.power import bring_power_back

_BEGINS = {
    StepAction.START: "revert_begins_with_start",
    StepAction.STOP: "revert_begins_with_stop",
    StepAction.RESTORE: "revert_begins",
}


def power_after(snapshot: Snapshot) -> Power:
    """Return the power in which a VM ends after a revert to a snapshot."""
    return Power.RUNNING if snapshot.with_memory else Power.STOPPED


def _forbids(vm: VirtualMachine, operation: Operation) -> Failure | None:
    """Return why the snapshot cannot be reverted to as things are now; None if it can."""
    refused = power_refusal(vm, "revert_begins", "revert")
    if refused is not None:
        return refused
    snapshot = snapshot_of(vm, operation)
    if vm.description is None or vm.description.checkpoint(snapshot.checkpoint_id) is None:
        return Failure(reason="CHECKPOINT_MISSING", message="The snapshot's checkpoint is not on the host any more.")
    if operation.refuse_power_change and vm.power is not power_after(snapshot):
        return Failure.of(PowerChangeRefused(vm.name, vm.power.name, power_after(snapshot).name))
    return None


class RestoreCheckpoint(StepBehaviour):
    """RESTORE: apply a checkpoint.

    Never needless: reverting to the current snapshot throws away what was written since.
    """

    action = StepAction.RESTORE

    def before(self, vm: VirtualMachine, step: Step) -> Before:
        """Depend on the checkpoints, the current one, the power and the files that are written to."""
        assert vm.description is not None
        return Before(
            power=vm.power,
            checkpoint_ids=vm.description.checkpoint_ids(),
            current_checkpoint_id=vm.description.current_checkpoint_id,
            leaf_paths=vm.description.leaf_paths(),
        )

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Believe the journal where it is sure; else compare the leaves.

        The old ones still in use: not applied. New ones right above the target's disks: applied.
        """
        if report.activities:
            return InProgress()
        found = trace(vm, operation, step, report.journal)
        if found in (Trace.UNTOUCHED, Trace.DONE):
            return Absent() if found is Trace.UNTOUCHED else Done()
        if report.description is None:
            return Undetermined("the host does not have the VM any more")
        assert step.before is not None
        assert step.before.leaf_paths is not None
        old, new = file_keys(step.before.leaf_paths), file_keys(report.description.leaf_paths())
        if old and old == new:
            return Absent()
        target = report.description.checkpoint(snapshot_of(vm, operation).checkpoint_id)
        if target is None:
            return Undetermined("the disks have changed, and the snapshot's checkpoint is gone")
        below = file_keys(d.chain[1] if len(d.chain) > 1 else "" for d in report.description.disks if d.chain)
        targets = file_keys(d.chain[0] for d in target.disks if d.chain)
        applied = new and not old & new and below <= targets
        if applied and report.description.current_checkpoint_id == target.checkpoint_id:
            return Done()
        return Undetermined("the disks are neither as they were nor as the snapshot has them")

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Refuse by the rules of acceptance, as things are now."""
        return _forbids(vm, operation)

    def wait_s(self, policy: Policy) -> float:
        """Allow what the policy says for reverts."""
        return policy.revert_wait_s


class RevertToSnapshotKind(Kind):
    """Bring a VM back to a snapshot."""

    kind = OperationKind.REVERT_TO_SNAPSHOT

    def check(self, vm: VirtualMachine, request: OperationRequest, policy: Policy, now: datetime) -> None:
        """Need a READY snapshot and a VM whose power is known; refuse a power change if asked to."""
        assert isinstance(request, RevertToSnapshot)
        snapshot = vm.snapshots[request.snapshot_id]
        if snapshot.state is not SnapshotState.READY:
            why = snapshot.failure.message if snapshot.failure else ""
            raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "revert to", "READY", why)
        if vm.power not in NEEDS_POWER["revert_begins"]:
            raise WrongPower(vm.name, vm.power.name, needed("revert_begins"), "revert")
        if request.refuse_power_change and vm.power is not power_after(snapshot):
            raise PowerChangeRefused(vm.name, vm.power.name, power_after(snapshot).name)

    def refusal(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Refuse before the power is changed for nothing: the restore could not follow."""
        return _forbids(vm, operation)

    def plan(self, vm: VirtualMachine, request: OperationRequest) -> tuple[PlannedStep, ...]:
        """Plan the power first where it changes, the restore, and the power that it must end in."""
        assert isinstance(request, RevertToSnapshot)
        snapshot = vm.snapshots[request.snapshot_id]
        start = power_after(snapshot) is Power.RUNNING
        power = (StepAction.START, None) if start else (StepAction.STOP, StopMode.TURN_OFF)
        steps = [(StepAction.RESTORE, StepNature.PIVOT, None), (power[0], StepNature.FORWARD_ONLY, power[1])]
        if vm.power is not power_after(snapshot):
            steps.insert(0, (power[0], StepNature.BEST_EFFORT if start else StepNature.UNDOABLE, power[1]))
        return tuple(
            PlannedStep(number=number, action=action, nature=nature, snapshot_id=snapshot.snapshot_id, stop_mode=mode)
            for number, (action, nature, mode) in enumerate(steps, 1)
        )

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Take the VM to STARTING, STOPPING or REVERTING, and the snapshot to REVERTING."""
        snapshot = snapshot_of(vm, operation)
        started = e.SnapshotRevertStarted(
            snapshot_id=snapshot.snapshot_id,
            from_state=snapshot.state,
            to_state=SNAPSHOT.dest("revert_starts", snapshot.state),
        )
        return move_vm(vm, _BEGINS[step.plan.action]), started

    def follows(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Take the VM from its preparation to REVERTING."""
        prepared = step.plan.action is StepAction.RESTORE and VM.allows("preparation_ended", vm.activity)
        return (move_vm(vm, "preparation_ended"),) if prepared else ()

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Make the target current."""
        return move_current(vm, operation.snapshot_id) if step.plan.action is StepAction.RESTORE else ()

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Bring the power back."""
        return Undo(steps=bring_power_back(vm, operation))

    def ends(
        self,
        vm: VirtualMachine,
        operation: Operation,
        outcome: OperationState,
        failure: Failure | None,
    ) -> tuple[e.VmEvent, ...]:
        """Bring the snapshot to rest, if the revert had begun."""
        snapshot = snapshot_of(vm, operation)
        if snapshot.state is not SnapshotState.REVERTING:
            return ()
        if failure is not None and failure.reason == UNDETERMINED:
            return (given_up(snapshot, failure),)
        to_state = SNAPSHOT.dest("revert_ended", snapshot.state)
        return (
            e.SnapshotRevertEnded(
                snapshot_id=snapshot.snapshot_id, from_state=snapshot.state, to_state=to_state, failure=failure
            ),
        )
