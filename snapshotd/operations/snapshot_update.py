"""UpdateSnapshot: say something else of a snapshot. A new name renames its checkpoint, which is not taken back.

The record changes when that is done, so an update that fails leaves the name on record that the checkpoint has. All
else has no step: it is on record at once, whatever is at work on the VM. A new name always waits for its turn, since
two operations at a time could give the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.details import SnapshotDetails
from snapshotd.domain.errors import (
    InvalidArgument,
)
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import OperationState, SnapshotState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.snapshot_errors import (
    SnapshotNotUsable,
)
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Kind, Result, move_vm
from snapshotd.operations.snapshot_making import check_details, refuse_taken
from snapshotd.operations.snapshots import TheSnapshot, snapshot_id_of, snapshot_of
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_rename
from snapshotd.steps.action import wrong_power
from snapshotd.steps.checkpoint_name import full_name
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME

_NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What to say of which snapshot."""

    snapshot_id: SnapshotId
    fields: tuple[str, ...]
    """Names of the fields of SnapshotDetails that change."""
    said: SnapshotDetails
    """The others do not count."""

    def applied_to(self, details: SnapshotDetails) -> SnapshotDetails:
        """Return what is said of a snapshot, with the changes."""
        return replace(details, **{name: getattr(self.said, name) for name in self.fields})


class UpdateSnapshot(Kind):
    """Change a snapshot's name, description, labels or expiry."""

    name = KindName("UPDATE_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params)
    joins = True

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the snapshot."""
        return self.params.read(request.params).snapshot_id

    def goes_beside(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether there is no new name."""
        return _NAME not in self.params.read(request.params).fields

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if the snapshot is REMOVED, the details are not allowed, or the name is taken."""
        params = self.params.read(request.params)
        snapshot = vm.snapshots[params.snapshot_id]
        if snapshot.state is SnapshotState.REMOVED:
            raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "update", "not REMOVED")
        after = params.applied_to(snapshot.details)
        if not after.name:
            raise InvalidArgument("snapshot.display_name", "", "must not be empty.")
        check_details(after, now, snapshot.details)
        if after.name != snapshot.name:
            refuse_taken(vm, after.name, snapshot.snapshot_id)
            wrong = wrong_power(vm, "reconfiguration_begins", "rename a checkpoint of")
            if wrong and _is_there(vm, snapshot):
                raise wrong

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the renaming of the checkpoint, if there are both a new name and a checkpoint."""
        params = self.params.read(request.params)
        snapshot = vm.snapshots[params.snapshot_id]
        name = params.applied_to(snapshot.details).name
        if name == snapshot.name or not _is_there(vm, snapshot):
            return ()
        rename = checkpoint_rename.Input(
            checkpoint_id=snapshot.checkpoint_id, checkpoint_name=full_name(name, snapshot.snapshot_id)
        )
        return (CHECKPOINT_RENAME.planned(rename, nature=StepNature.PIVOT, snapshot_id=snapshot.snapshot_id),)

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to RECONFIGURING."""
        return (move_vm(vm, "reconfiguration_begins"),)

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the event of what is said now, if it is something else."""
        before = snapshot_of(vm, operation).details
        after = self.params.read(operation.params).applied_to(before)
        if outcome is not OperationState.SUCCEEDED or after == before:
            return ()
        return (e.SnapshotDetailsChanged(snapshot_id=snapshot_id_of(operation), before=before, after=after),)

    def result(self, operation: Operation) -> Result:
        """Return the snapshot."""
        return TheSnapshot(snapshot_id_of(operation))


def _is_there(vm: VirtualMachine, snapshot: Snapshot) -> bool:
    """Return whether a snapshot's checkpoint is on the host, as it was last reported."""
    return vm.description is not None and vm.description.checkpoint(snapshot.checkpoint_id) is not None


UPDATE_SNAPSHOT = UpdateSnapshot()
