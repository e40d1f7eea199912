"""DeleteSnapshot: one snapshot, it and all below it, or all below it (operations/deletion.py).

The first removal is the pivot. What is done stands when a later one fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.operation import Operation
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.snapshot_errors import (
    NoDescendants,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.deletion import Deletion, check_power, check_state, expunges
from snapshotd.operations.snapshots import held, leaves_first
from snapshotd.ports.versioned import Versioned


class Scope(Enum):
    """What is deleted. Below a snapshot is what is there in the tree of record; others' checkpoints stay."""

    ONE = "ONE"
    """The snapshot; its children become its parent's."""
    WITH_DESCENDANTS = "WITH_DESCENDANTS"
    """The snapshot and all below it."""
    ONLY_DESCENDANTS = "ONLY_DESCENDANTS"
    """All below the snapshot; it stays."""


@dataclass(frozen=True, slots=True)
class Params:
    """Which snapshot is meant, and what of it to delete."""

    snapshot_id: SnapshotId
    scope: Scope = Scope.ONE


class DeleteSnapshot(Deletion):
    """Delete a snapshot, what is below it, or both."""

    name = KindName("DELETE_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params, 2, {1: lambda values: {**values, "scope": Scope.ONE.name}})
    goes_on = False

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the snapshot that is meant."""
        return self.params.read(request.params).snapshot_id

    def does(self, request: RequestOperation, active: Operation) -> bool:
        """Return also whether an active operation is just now deleting the one snapshot that is asked for."""
        one = self.params.read(request.params).scope is Scope.ONE
        return super().does(request, active) or (one and expunges(active, self.subject(request)))

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless there is one, none is held, and their states and the VM's power allow it."""
        targets = self.targets(vm, request)
        if not targets:
            subject = vm.snapshots[self.subject(request)]
            raise NoDescendants(vm.name, subject.name)
        for target in targets:
            check_state(target)
            if refused := held(vm, target, "delete"):
                raise refused
        check_power(vm)

    def targets(self, vm: VirtualMachine, request: RequestOperation) -> tuple[Snapshot, ...]:
        """Return the snapshots in the scope, each before its parent."""
        subject, scope = vm.snapshots[self.subject(request)], self.params.read(request.params).scope
        if scope is Scope.ONE:
            return (subject,)
        both = leaves_first(vm, [subject])
        return both if scope is Scope.WITH_DESCENDANTS else both[:-1]


DELETE_SNAPSHOT = DeleteSnapshot()
