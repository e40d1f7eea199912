"""What the kinds that delete snapshots have in common: one after another, leaves first, never a subtree at once.

    remove(a) → merge(a) → remove(b) → merge(b) → ...

A snapshot is EXPUNGING from its own remove on, and REMOVED when its own merge is done, whatever becomes of the others.
Its children, in whatever state, become its parent's in the append in which its checkpoint is gone. The operation holds
the VM until the last remove has ended; then only a merge is left. A host accepts a removal long before it has merged
the disks (docs/hyperv.md, section 2, observed).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.foreign_checkpoints import foreign_checkpoints
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import SNAPSHOT, OperationState, SnapshotState, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.snapshot_errors import (
    SnapshotNotUsable,
)
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import CANCELLED, Kind, Preview, Result, move_vm
from snapshotd.operations.snapshots import after_remove, alive, expunge_ended, held, listed, nearest_left
from snapshotd.steps import checkpoint_remove
from snapshotd.steps.action import wrong_power
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.disks_merge import DISKS_MERGE


@dataclass(frozen=True, slots=True)
class Removed(Result):
    """The snapshots that are gone."""

    snapshot_ids: tuple[SnapshotId, ...]


class Deletion(Kind):
    """Delete snapshots, one after another."""

    joins = True
    goes_on: ClassVar[bool]
    """Whether the others are deleted all the same when one cannot be."""

    @abstractmethod
    def targets(self, vm: VirtualMachine, request: RequestOperation) -> tuple[Snapshot, ...]:
        """Return the snapshots to delete, each before its parent."""

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return a removal and a wait for each snapshot; only the wait for one that never had a checkpoint."""
        first = StepNature.BEST_EFFORT if self.goes_on else StepNature.PIVOT
        later = StepNature.BEST_EFFORT if self.goes_on else StepNature.FORWARD_ONLY
        return removals(self.targets(vm, request), first, later)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if somebody holds the snapshot since the delete was accepted."""
        return None if self.goes_on else _held(vm, step)

    def spares(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return that somebody holds the snapshot, if the others are deleted all the same."""
        return _held(vm, step) if self.goes_on else None

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the moves of the first snapshot to EXPUNGING, and of the VM too unless there are only waits."""
        removes = any(s.plan.holds_vm for s in operation.steps if not s.state.at_rest)
        held = (move_vm(vm, "delete_begins"),) if removes else ()
        return held + self.continues(vm, operation, step)

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the move of a snapshot to EXPUNGING; without a removal, also what its checkpoint's end means."""
        snapshot = _snapshot_of(vm, step)
        if not SNAPSHOT.allows("expunge_starts", snapshot.state):
            return ()
        started = e.SnapshotExpungeStarted(**moved(snapshot, "expunge_starts"))
        return (started, *after_remove(vm, operation, snapshot)) if step.plan.polls else (started,)

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what a removal means for others in the tree, and the snapshot's end when its disks are merged."""
        if step.state is not StepState.DONE:
            return self.step_failed(vm, operation, step) if step.failure is not None else ()
        snapshot = _snapshot_of(vm, step)
        if step.plan.polls:
            return (e.SnapshotRemoved(**moved(snapshot, "removed")),)
        return after_remove(vm, operation, snapshot)

    def step_failed(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the event that brings the snapshot to rest, if the others are deleted all the same."""
        assert step.failure is not None, step
        return self._rested(vm, operation, [step], step.failure) if self.goes_on else ()

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the event that brings to rest the snapshot at which the operation ended, if its expunge had begun."""
        return self._rested(vm, operation, operation.steps, failure or CANCELLED)

    def _rested(
        self, vm: VirtualMachine, operation: Operation, steps: Iterable[Step], why: Failure
    ) -> tuple[e.VmEvent, ...]:
        snapshots = [vm.snapshots[snapshot_id] for snapshot_id in about(steps)]
        return tuple(
            expunge_ended(vm, operation, snapshot, why, removed=False)
            for snapshot in snapshots
            if snapshot.state is SnapshotState.EXPUNGING
        )

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return the failure with which snapshots are gone and which are left, if there are several."""
        wanted = about(operation.steps)
        if len(wanted) < 2:
            return failure
        gone = self.removed(operation)
        left = [snapshot_id for snapshot_id in wanted if snapshot_id not in gone]
        text = f"{failure.text.rstrip('.')}. Deleted: {named(vm, gone)}. Not deleted: {named(vm, left)}."
        return replace(failure, message=text)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the snapshots that move up, those that are gone, and what becomes of others' checkpoints."""
        targets = self.targets(vm, request)
        order = tuple(target.snapshot_id for target in targets if not held(vm, target, "delete"))
        gone = frozenset(order)
        up = [s for s in alive(vm) if s.snapshot_id not in gone and s.parent_id in gone]
        return Preview(
            moved=tuple((s.snapshot_id, nearest_left(vm, s.parent_id, gone)) for s in up),
            current=nearest_left(vm, vm.current_id, gone),
            power=vm.power,
            discarded=order,
            warnings=_foreign(vm, gone),
        )

    def result(self, operation: Operation) -> Result:
        """Return the removed snapshots."""
        return Removed(self.removed(operation))

    def removed(self, operation: Operation) -> tuple[SnapshotId, ...]:
        """Return the snapshots whose disks are merged."""
        return about(s for s in operation.steps if s.plan.polls and s.state is StepState.DONE)


def removals(targets: Iterable[Snapshot], first: StepNature, later: StepNature) -> tuple[PlannedStep, ...]:
    """Return the steps that delete snapshots: a removal and a wait for each, the first removal of a nature of its own.

    One that never had a checkpoint is only waited for.
    """
    steps = list[PlannedStep]()
    for target in targets:
        if target.checkpoint_id is not None:
            nature = later if any(s.holds_vm for s in steps) else first
            which = checkpoint_remove.Input(target.checkpoint_id)
            steps.append(CHECKPOINT_REMOVE.planned(which, nature=nature, snapshot_id=target.snapshot_id))
        steps.append(DISKS_MERGE.planned(nature=later, snapshot_id=target.snapshot_id))
    return tuple(steps)


def check_power(vm: VirtualMachine) -> None:
    """Raise a SnapshotdError unless the VM's power is known."""
    if wrong := wrong_power(vm, "delete_begins", "delete a snapshot of"):
        raise wrong


def check_state(snapshot: Snapshot) -> None:
    """Raise a SnapshotdError unless a snapshot may be deleted in its state."""
    if not SNAPSHOT.allows("expunge_starts", snapshot.state):
        raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "delete", "READY or ERROR")


def expunges(operation: Operation, snapshot_id: SnapshotId) -> bool:
    """Return whether an active operation is just now deleting a snapshot."""
    actions = (CHECKPOINT_REMOVE.name, DISKS_MERGE.name)
    steps = [s for s in operation.steps if s.plan.snapshot_id == snapshot_id and s.plan.action in actions]
    begun = any(s.started_at is not None for s in steps)
    return begun and not all(s.state.at_rest for s in steps)


def named(vm: VirtualMachine, snapshot_ids: Iterable[SnapshotId]) -> str:
    """Return the names of snapshots, for people."""
    names = [vm.snapshots[snapshot_id].name for snapshot_id in snapshot_ids]
    return listed(names) or "none"


def about(steps: Iterable[Step]) -> tuple[SnapshotId, ...]:
    """Return the snapshots that steps are about, each once, in their order."""
    return tuple(dict.fromkeys(s.plan.snapshot_id for s in steps if s.plan.snapshot_id is not None))


def _held(vm: VirtualMachine, step: Step) -> Failure | None:
    """Return why nobody may delete a step's snapshot just now; None if nobody holds it."""
    refused = held(vm, _snapshot_of(vm, step), "delete")
    return Failure.of(refused) if refused else None


def _snapshot_of(vm: VirtualMachine, step: Step) -> Snapshot:
    assert step.plan.snapshot_id is not None, step
    return vm.snapshots[step.plan.snapshot_id]


def _foreign(vm: VirtualMachine, gone: frozenset[SnapshotId]) -> tuple[str, ...]:
    """Return, for people, which checkpoints that are not ours would be below another one."""
    if vm.description is None:
        return ()
    described = vm.description
    going = {s.checkpoint_id for s in alive(vm) if s.snapshot_id in gone and s.checkpoint_id is not None}
    said = []
    for checkpoint in foreign_checkpoints(vm):
        if checkpoint.parent_id not in going:
            continue
        above = described.checkpoint(checkpoint.parent_id)
        while above is not None and above.checkpoint_id in going:
            above = described.checkpoint(above.parent_id)
        own = vm.by_checkpoint(above.checkpoint_id) if above is not None else None
        below = f"below {own.name if own else above.name}" if above is not None else "at the top"
        said.append(f"Checkpoint {checkpoint.name} is not ours and stays. The host moves it: it will stand {below}.")
    return tuple(said)
