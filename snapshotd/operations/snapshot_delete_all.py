"""DeleteAllSnapshots: all snapshots of a VM, or those with memory (operations/deletion.py).

It goes on when one cannot be deleted, or is held, and fails in the end if any is left. Without any to delete it
succeeds at once: what was asked for is so.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.deletion import Deletion, check_power, check_state, named
from snapshotd.operations.kind import CANCELLED, Preview, Result
from snapshotd.operations.snapshots import MOST_NAMED, alive, held, leaves_first
from snapshotd.ports.versioned import Versioned

NOT_DELETED: Final = "SNAPSHOTS_NOT_DELETED"
"""The reason of one that has left snapshots behind."""


@dataclass(frozen=True, slots=True)
class Params:
    """Which snapshots to delete."""

    only_with_memory: bool


@dataclass(frozen=True, slots=True)
class Outcome(Result):
    """What is gone, and why the others are not."""

    removed: tuple[SnapshotId, ...]
    failures: tuple[tuple[SnapshotId, Failure], ...]


class DeleteAllSnapshots(Deletion):
    """Delete all snapshots of a VM, or those with memory."""

    name = KindName("DELETE_ALL_SNAPSHOTS")
    params: Versioned[Params] = Versioned(Params)
    goes_on = True

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless the VM's power is known, if there is anything to delete."""
        targets = self.targets(vm, request)
        for target in targets:
            check_state(target)
        if targets:
            check_power(vm)

    def targets(self, vm: VirtualMachine, request: RequestOperation) -> tuple[Snapshot, ...]:
        """Return the snapshots that are asked for, each before its parent."""
        there = {s.snapshot_id for s in alive(vm)}
        order = leaves_first(vm, [s for s in alive(vm) if s.parent_id not in there])
        memory = self.params.read(request.params).only_with_memory
        return tuple(s for s in order if s.with_memory or not memory)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return also which would be left because they are held, or that there is nothing to delete."""
        seen = super().preview(vm, request)
        left = tuple(
            refused.message() for target in self.targets(vm, request) if (refused := held(vm, target, "delete"))
        )
        nothing = () if seen.discarded or left else ("There is no snapshot to delete.",)
        return replace(seen, warnings=(*seen.warnings, *left, *nothing))

    def verify(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Return a failure that names each snapshot that is left, and why it is."""
        failures = _failures(operation, self.removed(operation))
        if not failures:
            return None
        gone = self.removed(operation)
        why = [f"{named(vm, [snapshot_id])}: {failure.text}" for snapshot_id, failure in failures[:MOST_NAMED]]
        if len(failures) > MOST_NAMED:
            why.append(f"See `snapshotctl operation show {operation.name}` for the other {len(failures) - MOST_NAMED}.")
        memory = " --with-memory" if self.params.read(operation.params).only_with_memory else ""
        again = f"snapshotctl snapshot delete-all {shlex.quote(vm.name)}{memory}"
        text = (
            f"Cannot delete {len(failures)} of {len(failures) + len(gone)} snapshots of VM {vm.name}. {' '.join(why)} "
            f"Deleted: {named(vm, gone)}. When the causes are gone, run `{again}` again."
        )
        return Failure(reason=NOT_DELETED, message=text)

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return the failure with what is gone and what is left, unless it says so already."""
        return failure if failure.reason == NOT_DELETED else super().explained(vm, operation, failure)

    def result(self, operation: Operation) -> Result:
        """Return that all are gone."""
        return Outcome(self.removed(operation), ())

    def achieved(self, operation: Operation) -> Result | None:
        """Return what is gone all the same, and why the others are not."""
        assert operation.state is OperationState.FAILED, operation
        gone = self.removed(operation)
        return Outcome(gone, _failures(operation, gone))


def _failures(operation: Operation, gone: tuple[SnapshotId, ...]) -> tuple[tuple[SnapshotId, Failure], ...]:
    """Return the snapshots that are not gone, each with why; the operation's own failure if it never came to one."""
    why: dict[SnapshotId, Failure] = {}
    for step in operation.steps:
        about = step.plan.snapshot_id
        if about is not None and about not in gone:
            why.setdefault(about, operation.failure or CANCELLED)
            if step.failure is not None:
                why[about] = step.failure
    return tuple(why.items())


DELETE_ALL_SNAPSHOTS = DeleteAllSnapshots()
