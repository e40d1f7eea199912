"""DeleteVolumeSnapshot: its file, and whatever a copy that failed has left on the host.

The file goes only if it is the one that was made: its path is on record, and so is the identity of the disk in it,
which the host compares. So this works also when the VM is not registered any more, destroyed, or released to an export;
only a checkpoint that was left needs the VM. The host sees only its own VMs: for the others, the path is claimed before
the request is recorded (server/claiming.py), and is refused to them until the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain import host_path
from snapshotd.domain.attached import has_file
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import NotFound
from snapshotd.domain.ids import CheckpointId, KindName, VolumeSnapshotId
from snapshotd.domain.lifecycle import VOLUME_SNAPSHOT, OperationState, Power, StepState, VolumeSnapshotState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import VolumeInUse
from snapshotd.domain.volume_snapshot import VolumeSnapshot, moved
from snapshotd.domain.volume_snapshot_errors import VolumeSnapshotElsewhere, VolumeSnapshotNotUsable
from snapshotd.operations.kind import CANCELLED, UNDETERMINED, Kind, Preview, Result, move_vm
from snapshotd.operations.volume_snapshots import Gone, removal, temporary_gone
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import files_delete
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.files_delete import FILES_DELETE
from snapshotd.steps.host_job import ended_by


@dataclass(frozen=True, slots=True)
class Params:
    """Which one to delete."""

    volume_snapshot_id: VolumeSnapshotId


class DeleteVolumeSnapshot(Kind):
    """Delete a volume snapshot."""

    name = KindName("DELETE_VOLUME_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params)
    joins = True
    accepts_gone_vms = True
    accepts_released_vms = True

    def check_existence(self, vm: VirtualMachine, request: RequestOperation) -> None:
        """Raise NotFound if there is no such volume snapshot."""
        which = self.params.read(request.params).volume_snapshot_id
        if which not in vm.volume_snapshots:
            raise NotFound("volume snapshot", which, "See `snapshotctl volume-snapshot list`.")

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless it is READY or in ERROR, and the VM itself does not use its file."""
        copy = vm.volume_snapshots[self.params.read(request.params).volume_snapshot_id]
        if not VOLUME_SNAPSHOT.allows("deletion_starts", copy.state):
            raise VolumeSnapshotNotUsable(copy.volume_snapshot_id, copy.state.name, "delete", "READY or ERROR")
        if elsewhere := _elsewhere(vm, copy):
            raise elsewhere
        there = vm.description if vm.registered and not vm.released else None
        if copy.path and there is not None and has_file(there, copy.path):
            raise VolumeInUse(copy.path, vm.name, vm.vm_id, vm.host_id, "delete", "it is a file of")

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM has left the host that has the file: that another one has none proves nothing."""
        elsewhere = _elsewhere(vm, _copy_of(vm, operation)) if step.plan.action == FILES_DELETE.name else None
        return Failure.of(elsewhere) if elsewhere else None

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the deletion of its file, and of what else it has left on the host; no step if that is nothing."""
        copy = vm.volume_snapshots[self.params.read(request.params).volume_snapshot_id]
        after = StepNature.FORWARD_ONLY
        steps = list[PlannedStep]()
        if copy.path:
            which = files_delete.Input(paths=(copy.path,), only_identifier=copy.identifier)
            steps.append(FILES_DELETE.planned(which, nature=after))
        for folder in copy.left:
            steps.append(ended_by(None, folder, after))
        if (checkpoint_id := _left_checkpoint(vm, copy)) is not None:
            steps += removal(checkpoint_id, after)
        return (replace(steps[0], nature=StepNature.PIVOT), *steps[1:]) if steps else ()

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the move of the volume snapshot to DELETING, and of the VM too, if a checkpoint of it goes."""
        removes = any(s.plan.action == CHECKPOINT_REMOVE.name for s in operation.steps)
        started = e.VolumeSnapshotDeletionStarted(**moved(_copy_of(vm, operation), "deletion_starts"))
        return (*((move_vm(vm, "delete_begins"),) if removes else ()), started)

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return that a temporary checkpoint is gone, if that was the step."""
        return temporary_gone(vm, operation, step)

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the events that bring the volume snapshot to rest. Without a step, it ends as soon as it begins."""
        copy = _copy_of(vm, operation)
        if outcome is OperationState.SUCCEEDED:
            return (*_started(copy), _removed(copy))
        if copy.state is not VolumeSnapshotState.DELETING:
            return ()
        why = failure or CANCELLED
        if why.reason == UNDETERMINED:
            return (e.VolumeSnapshotGivenUp(**moved(copy, "given_up"), failure=why),)
        deleted = any(s.plan.action == FILES_DELETE.name and s.state is StepState.DONE for s in operation.steps)
        trigger = "deletion_failed_intact" if copy.path and not deleted else "deletion_failed"
        return (e.VolumeSnapshotDeletionFailed(**moved(copy, trigger), failure=why),)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that nothing of the VM changes, and a warning of a file that is left since nobody knows it."""
        copy = vm.volume_snapshots[self.params.read(request.params).volume_snapshot_id]
        unknown = f"If {copy.target} is there, it stays: what it is was never put on record."
        warnings = (unknown,) if not copy.path and copy.failure and copy.failure.reason == UNDETERMINED else ()
        return Preview(current=vm.current_id, power=vm.power, warnings=warnings)

    def volume_snapshot(self, operation: Operation) -> VolumeSnapshotId:
        """Return the volume snapshot."""
        return self.params.read(operation.params).volume_snapshot_id

    def deletes(self, operation: Operation) -> tuple[str, ...]:
        """Return its file."""
        steps = (step for step in operation.steps if step.plan.action == FILES_DELETE.name)
        return tuple(path for step in steps for path in FILES_DELETE.paths(step))

    def result(self, operation: Operation) -> Result:
        """Return nothing."""
        return Gone()


def _copy_of(vm: VirtualMachine, operation: Operation) -> VolumeSnapshot:
    """Return the volume snapshot that an operation deletes."""
    return vm.volume_snapshots[DELETE_VOLUME_SNAPSHOT.volume_snapshot(operation)]


def _elsewhere(vm: VirtualMachine, copy: VolumeSnapshot) -> VolumeSnapshotElsewhere | None:
    """Return why the file of a copy cannot be reached by the VM's host; None if it can, or there is none."""
    if copy.host_id in (None, vm.host_id) or host_path.shared(copy.path):
        return None
    return VolumeSnapshotElsewhere(copy.volume_snapshot_id, copy.path, str(copy.host_id), vm.name, vm.host_id)


def _left_checkpoint(vm: VirtualMachine, copy: VolumeSnapshot) -> CheckpointId | None:
    """Return the temporary checkpoint that a copy has left, if it can be removed."""
    if not vm.registered or vm.released or vm.power in (Power.ABSENT, Power.UNKNOWN):
        return None
    left = vm.temporary_checkpoints()
    return next((c for c, which in left.items() if which == copy.volume_snapshot_id), None)


def _started(copy: VolumeSnapshot) -> tuple[e.VmEvent, ...]:
    """Return the move to DELETING, if it is not there yet."""
    if copy.state is VolumeSnapshotState.DELETING:
        return ()
    return (e.VolumeSnapshotDeletionStarted(**moved(copy, "deletion_starts")),)


def _removed(copy: VolumeSnapshot) -> e.VolumeSnapshotRemoved:
    return e.VolumeSnapshotRemoved(
        volume_snapshot_id=copy.volume_snapshot_id,
        from_state=VolumeSnapshotState.DELETING,
        to_state=VOLUME_SNAPSHOT.dest("removed", VolumeSnapshotState.DELETING),
    )


DELETE_VOLUME_SNAPSHOT = DeleteVolumeSnapshot()
