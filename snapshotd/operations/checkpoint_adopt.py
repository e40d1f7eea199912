"""AdoptCheckpoint: a foreign checkpoint becomes a snapshot of ours, by a person's decision.

Its name gets our marker on the host first, which is not taken back. Then it is on record, all in one append: below its
nearest own ancestor, and above those whose nearest own ancestor it is now. Until then there is no snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.details import SnapshotDetails
from snapshotd.domain.foreign_checkpoints import refuse_unadoptable, reported_checkpoint
from snapshotd.domain.ids import CheckpointId, KindName, SnapshotId
from snapshotd.domain.lifecycle import SNAPSHOT, OperationState, SnapshotState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Kind, Preview, Result, move_current, move_vm
from snapshotd.operations.snapshot_making import check_details, check_room, name_after
from snapshotd.operations.snapshots import TheSnapshot, snapshot_id_of
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_rename
from snapshotd.steps.action import wrong_power
from snapshotd.steps.checkpoint_name import full_name
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Which checkpoint to adopt, and what to say of the snapshot."""

    snapshot_id: SnapshotId
    """Made by the server: the core makes no ids."""
    checkpoint_id: CheckpointId
    said: SnapshotDetails
    """On record its name is never empty; in a request that means the checkpoint's."""


class AdoptCheckpoint(Kind):
    """Make a foreign checkpoint a snapshot."""

    name = KindName("ADOPT_CHECKPOINT")
    params: Versioned[Params] = Versioned(Params)

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the id of the snapshot that the checkpoint becomes."""
        return self.params.read(request.params).snapshot_id

    def check_existence(self, vm: VirtualMachine, request: RequestOperation) -> None:
        """Raise CheckpointNotFound if the VM has no such checkpoint."""
        reported_checkpoint(vm, self.params.read(request.params).checkpoint_id)

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if a detail, the checkpoint, the power, the name or the limit forbids it."""
        params = self.params.read(request.params)
        said = params.said
        check_details(said, now)
        refuse_unadoptable(vm, params.checkpoint_id)
        if wrong := wrong_power(vm, "reconfiguration_begins", "adopt a checkpoint of"):
            raise wrong
        check_room(vm, said.name, policy, "adopt a checkpoint of")

    def resolved(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> RequestOperation:
        """Return the request with the snapshot's name: the checkpoint's own is gone when it is adopted."""
        params = self.params.read(request.params)
        name = params.said.name or name_after(vm, reported_checkpoint(vm, params.checkpoint_id).name, now)
        return self.request(replace(params, said=replace(params.said, name=name)))

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the renaming that marks the checkpoint."""
        params = self.params.read(request.params)
        name = full_name(params.said.name, params.snapshot_id)
        rename = checkpoint_rename.Input(checkpoint_id=params.checkpoint_id, checkpoint_name=name)
        return (CHECKPOINT_RENAME.planned(rename, nature=StepNature.PIVOT, snapshot_id=params.snapshot_id),)

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to RECONFIGURING."""
        return (move_vm(vm, "reconfiguration_begins"),)

    def verify(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Return a failure if the checkpoint has gone meanwhile."""
        checkpoint_id = self.params.read(operation.params).checkpoint_id
        if vm.description is not None and vm.description.checkpoint(checkpoint_id) is not None:
            return None
        return Failure(reason="CHECKPOINT_MISSING", message="Somebody removed the checkpoint before it was adopted.")

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the events that put the snapshot into its place in the tree, once the checkpoint is marked."""
        if outcome is not OperationState.SUCCEEDED:
            return ()
        params = self.params.read(operation.params)
        assert vm.description is not None, operation
        checkpoint = vm.description.checkpoint(params.checkpoint_id)
        assert checkpoint is not None, operation
        adopted = e.SnapshotAdopted(
            snapshot_id=params.snapshot_id,
            from_state=SnapshotState.NEW,
            to_state=SNAPSHOT.dest("adopted", SnapshotState.NEW),
            checkpoint_id=checkpoint.checkpoint_id,
            details=params.said,
            with_memory=checkpoint.has_memory,
            parent_id=vm.nearest_own(checkpoint.parent_id),
            size_bytes=vm.description.size_of(checkpoint),
            made_at=checkpoint.created_at,
            adopter=operation.actor,
        )
        reparented = (
            e.SnapshotReparented(
                snapshot_id=below, from_parent_id=parent, to_parent_id=params.snapshot_id, cause="step"
            )
            for below, parent in _below(vm, params.checkpoint_id)
        )
        current = _is_between(vm, vm.description.current_checkpoint_id, params.checkpoint_id)
        return adopted, *reparented, *(move_current(vm, params.snapshot_id) if current else ())

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the snapshots that move below the adopted one, and it as current if it is."""
        params = self.params.read(request.params)
        head = vm.description.current_checkpoint_id if vm.description else None
        return Preview(
            moved=tuple((below, params.snapshot_id) for below, _ in _below(vm, params.checkpoint_id)),
            current=params.snapshot_id if _is_between(vm, head, params.checkpoint_id) else vm.current_id,
            power=vm.power,
        )

    def result(self, operation: Operation) -> Result:
        """Return the snapshot."""
        return TheSnapshot(snapshot_id_of(operation))


def _below(vm: VirtualMachine, checkpoint_id: CheckpointId) -> Iterator[tuple[SnapshotId, SnapshotId | None]]:
    """Yield the snapshots that a checkpoint would be the nearest own ancestor of, each with its parent on record."""
    for checkpoint in vm.description.checkpoints if vm.description else ():
        own = vm.by_checkpoint(checkpoint.checkpoint_id)
        if own is not None and _is_between(vm, checkpoint.parent_id, checkpoint_id):
            yield own.snapshot_id, own.parent_id


def _is_between(vm: VirtualMachine, head: CheckpointId | None, checkpoint_id: CheckpointId) -> bool:
    """Return whether a checkpoint stands between another and its nearest own ancestor; `head`: that other one."""
    return checkpoint_id in takewhile(lambda above: not _is_own(vm, above), vm.lineage(head))


def _is_own(vm: VirtualMachine, checkpoint_id: CheckpointId) -> bool:
    own = vm.by_checkpoint(checkpoint_id)
    return own is not None and own.was_ready


ADOPT_CHECKPOINT = AdoptCheckpoint()
