"""What kinds have in common that first delete snapshots, and then go on with something else (operations/deletion.py).

    [what comes first] → remove(a) → merge(a) → remove(b) → merge(b) → … → what the operation is for

What is deleted stays deleted, whatever becomes of the rest: the plan said so beforehand. Until what the operation is
for is issued, it can be cancelled between two steps.
"""

from __future__ import annotations

from collections.abc import Iterable

from snapshotd.domain import events as e
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.deletion import Deletion, about, check_state, named, removals
from snapshotd.operations.kind import Result, TheVm, memory_lost_by_undone
from snapshotd.operations.snapshots import held


class Discarding(Deletion):
    """Delete snapshots, and go on with something else."""

    goes_on = False

    def discards(self, targets: Iterable[Snapshot]) -> tuple[PlannedStep, ...]:
        """Return the steps that delete snapshots, whatever follows."""
        return removals(targets, StepNature.FORWARD_ONLY, StepNature.FORWARD_ONLY)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the step is about a snapshot that somebody holds since the request was accepted."""
        return super().refusal(vm, operation, step) if step.plan.snapshot_id else None

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what a step about a snapshot means for it when it begins."""
        return super().continues(vm, operation, step) if step.plan.snapshot_id else ()

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what a step about a snapshot means for it when it is done."""
        return super().step_done(vm, operation, step) if step.plan.snapshot_id else ()

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the event that brings a snapshot to rest at which the operation ended, and that memory was lost."""
        return *super().ends(vm, operation, outcome, failure), *memory_lost_by_undone(operation)

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return the failure with which snapshots are gone, and which are left that were to be deleted."""
        gone = self.removed(operation)
        if not gone:
            return failure
        left = [s for s in about(operation.steps) if s not in gone]
        text = f"{failure.message} Deleted: {named(vm, gone)}. Not deleted: {named(vm, left)}."
        return replace(failure, message=text)

    def result(self, operation: Operation) -> Result:
        """Return the VM."""
        return TheVm()


def check_discarded(vm: VirtualMachine, targets: Iterable[Snapshot]) -> None:
    """Raise a SnapshotdError if one of the snapshots must not be deleted in its state, or somebody holds it."""
    for target in targets:
        check_state(target)
        if refused := held(vm, target, "delete"):
            raise refused
