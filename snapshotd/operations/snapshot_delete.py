"""DeleteSnapshot: remove the checkpoint (the pivot), then wait until the host has merged the disks.

Removed is when the checkpoint's id is gone; the same append re-parents its children, in whatever state, and releases
the VM. Done is when the disks are merged: a host accepts a removal long before that (docs/hyperv.md, section 2,
observed). Which file is merged into which is never built on: the chains are read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

from snapshotd.domain import events as e
from snapshotd.domain.commands import DeleteSnapshot, OperationRequest
from snapshotd.domain.errors import SnapshotNotUsable, WrongPower
from snapshotd.domain.host_report import Before, VmDescription, VmReport, file_key, file_keys
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import NEEDS_POWER, SNAPSHOT, OperationState, SnapshotState, VmActivity
from snapshotd.domain.operation import Failure, Operation, OperationKind, PlannedStep, Step, StepAction, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import (
    CANCELLED,
    UNDETERMINED,
    Absent,
    Done,
    InProgress,
    Judgement,
    Kind,
    StepBehaviour,
    Undetermined,
    expunge_failed,
    given_up,
    move_current,
    move_vm,
    needed,
    power_refusal,
    removed,
    snapshot_of,
)


class RemoveCheckpoint(StepBehaviour):
    """REMOVE: ask the host to remove one checkpoint, never its children."""

    action = StepAction.REMOVE

    def before(self, vm: VirtualMachine, step: Step) -> Before:
        """Depend on the checkpoints and on every file of the VM's chains."""
        assert vm.description is not None
        return Before(checkpoint_ids=vm.description.checkpoint_ids(), chain_files=vm.description.chain_files())

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """See whether the id is gone. A merge that goes on does not matter here."""
        if report.works_besides_merging():
            return InProgress()
        if report.description is None:
            return Undetermined("the host does not have the VM any more")
        there = report.description.checkpoint(snapshot_of(vm, operation).checkpoint_id) is not None
        return Absent() if there else Done()

    def needless(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Skip if the host does not list the checkpoint, but for one that was issued: that one is observed."""
        if vm.description is None or step.attempts:
            return False
        return vm.description.checkpoint(snapshot_of(vm, operation).checkpoint_id) is None

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Refuse where the VM's power is not known, or the host does not have it."""
        return power_refusal(vm, "delete_begins", "delete a snapshot of")

    def wait_s(self, policy: Policy) -> float:
        """Allow what the policy says for removals."""
        return policy.remove_wait_s


class AwaitMerge(StepBehaviour):
    """MERGE: poll until the host has merged the disks."""

    action = StepAction.MERGE

    def before(self, vm: VirtualMachine, step: Step) -> Before:
        """Depend on nothing: it is never issued."""
        raise AssertionError((vm.vm_id, step))

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Compare the chains with what they must be when nothing is left to merge (`merged`)."""
        if report.description is None or {"DELETE", "MERGE"} & set(report.activities):
            return InProgress()
        gone = snapshot_of(vm, operation).checkpoint_id
        return Done() if merged(report.description, gone, report.existing_files) else InProgress()

    def wait_s(self, policy: Policy) -> float:
        """Allow `snapshots.merge_stall` without progress; with progress, for ever."""
        return policy.merge_stall_s


def merged(description: VmDescription, gone: CheckpointId | None, existing_files: Iterable[str]) -> bool:
    """Return whether a checkpoint is removed and its disks are merged.

    Every file in the chains of the leaves and of the remaining checkpoints is itself such a leaf, a checkpoint's
    disk or a base, or a branch point with two children or more; and none of the files watched is left on the disk
    outside of the chains.
    """
    if description.checkpoint(gone) is not None:
        return False
    disks = [*description.disks, *(d for c in description.checkpoints for d in c.disks)]
    chains = [[file_key(path) for path in d.chain] for d in disks if d.chain]
    children: dict[str, set[str]] = {}
    for chain in chains:
        for child, parent in pairwise(chain):
            children.setdefault(parent, set()).add(child)
    kept = {chain[0] for chain in chains} | {chain[-1] for chain in chains}
    files = {path for chain in chains for path in chain}
    leftover = {path for path in files - kept if len(children.get(path, ())) < 2}
    return not leftover and not file_keys(existing_files) - files


def after_remove(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Hand the snapshot's children and the current mark to its parent, and release the VM."""
    moves: list[e.VmEvent] = [
        e.SnapshotReparented(
            snapshot_id=child.snapshot_id,
            from_parent_id=child.parent_id,
            to_parent_id=snapshot.parent_id,
            cause="step",
        )
        for child in vm.children(snapshot.snapshot_id)
    ]
    if vm.current_id == snapshot.snapshot_id:
        moves += move_current(vm, snapshot.parent_id)
    if vm.activity is VmActivity.EXPUNGING:
        moves.append(move_vm(vm, "only_merge_left"))
    return tuple(moves)


class DeleteSnapshotKind(Kind):
    """Delete one snapshot."""

    kind = OperationKind.DELETE_SNAPSHOT

    def check(self, vm: VirtualMachine, request: OperationRequest, policy: Policy, now: datetime) -> None:
        """Need a READY or ERROR snapshot, and a VM whose power is known."""
        assert isinstance(request, DeleteSnapshot)
        snapshot = vm.snapshots[request.snapshot_id]
        if not SNAPSHOT.allows("expunge_starts", snapshot.state):
            raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "delete", "READY or ERROR")
        if vm.power not in NEEDS_POWER["delete_begins"]:
            raise WrongPower(vm.name, vm.power.name, needed("delete_begins"), "delete a snapshot of")

    def plan(self, vm: VirtualMachine, request: OperationRequest) -> tuple[PlannedStep, ...]:
        """Plan the removal and the wait; only the wait for a snapshot that never had a checkpoint."""
        assert isinstance(request, DeleteSnapshot)
        target = request.snapshot_id
        actions = [(StepAction.REMOVE, StepNature.PIVOT), (StepAction.MERGE, StepNature.WAIT)]
        if vm.snapshots[target].checkpoint_id is None:
            actions = actions[1:]
        return tuple(
            PlannedStep(number=number, action=action, nature=nature, snapshot_id=target)
            for number, (action, nature) in enumerate(actions, 1)
        )

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Take the snapshot to EXPUNGING, and the VM too unless there is nothing but a wait."""
        snapshot = snapshot_of(vm, operation)
        started = e.SnapshotExpungeStarted(
            snapshot_id=snapshot.snapshot_id,
            from_state=snapshot.state,
            to_state=SNAPSHOT.dest("expunge_starts", snapshot.state),
        )
        if step.plan.nature is StepNature.WAIT:
            return (started, *after_remove(vm, snapshot))
        return move_vm(vm, "delete_begins"), started

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Hand on what the removed checkpoint stood for."""
        return after_remove(vm, snapshot_of(vm, operation)) if step.plan.action is StepAction.REMOVE else ()

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Bring the snapshot to rest, if the expunge had begun."""
        snapshot = snapshot_of(vm, operation)
        if snapshot.state is not SnapshotState.EXPUNGING:
            return ()
        if outcome is OperationState.SUCCEEDED:
            return (removed(snapshot),)
        why = failure or CANCELLED
        if why.reason == UNDETERMINED:
            return (given_up(snapshot, why),)
        return (expunge_failed(vm, snapshot, why),)
