"""What the kinds about volume snapshots have in common: temporary checkpoints, and the VM's release."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from snapshotd.domain import events as e
from snapshotd.domain.ids import CheckpointId, VolumeSnapshotId
from snapshotd.domain.lifecycle import VM, StepState
from snapshotd.domain.operation import Operation, PlannedStep, Step, StepNature
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Result, move_vm
from snapshotd.steps import checkpoint_remove, disks_merge
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.disks_merge import DISKS_MERGE


@dataclass(frozen=True, slots=True)
class TheVolumeSnapshot(Result):
    """The response of an operation is the volume snapshot that it is about."""


@dataclass(frozen=True, slots=True)
class Gone(Result):
    """The response of an operation is empty: what it was about is gone."""


def removal(which: CheckpointId | None, nature: StepNature) -> tuple[PlannedStep, ...]:
    """Return the removal of a temporary checkpoint, and the wait for its merge. None: the one that is to be made."""
    return (
        CHECKPOINT_REMOVE.planned(checkpoint_remove.Input(which), nature=nature),
        DISKS_MERGE.planned(disks_merge.Input(which), nature=nature),
    )


def temporary_gone(vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
    """Return the events of a step that has removed a temporary checkpoint, or found it gone; none of any other step."""
    skipped = step.state is StepState.SKIPPED and step.failure is None
    if step.plan.action != CHECKPOINT_REMOVE.name or not (step.state is StepState.DONE or skipped):
        return ()
    target = CHECKPOINT_REMOVE.target(operation, step)
    gone = tuple(
        e.TemporaryCheckpointGone(volume_snapshot_id=which, checkpoint_id=target, cause="step")
        for which, temporary in vm.temporaries.items()
        if temporary.checkpoint_id == target
    )
    return gone + released(vm, operation)


def released(vm: VirtualMachine, operation: Operation) -> tuple[e.VmEvent, ...]:
    """Return the release of the VM, if only a merge is left to wait for."""
    rest = [s for s in operation.steps if not s.state.at_rest]
    merges = bool(rest) and not any(s.plan.holds_vm for s in rest)
    return (move_vm(vm, "only_merge_left"),) if merges and VM.allows("only_merge_left", vm.activity) else ()


def never_made(vm: VirtualMachine, which: VolumeSnapshotId) -> Iterator[e.TemporaryCheckpointGone]:
    """Yield the event that a temporary checkpoint was never made, if it was expected and not seen."""
    temporary = vm.temporaries.get(which)
    if temporary is not None and temporary.checkpoint_id is None:
        yield e.TemporaryCheckpointGone(volume_snapshot_id=which, checkpoint_id=None, cause="step")
