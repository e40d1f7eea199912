"""CreateSnapshot: one undoable step that makes the checkpoint, and a best-effort one that renames an adopted one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.details import Labels, SnapshotDetails
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject, Time
from snapshotd.domain.snapshot import moved
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import CANCELLED, UNDETERMINED, Kind, Preview, Result, Undo, move_vm
from snapshotd.operations.snapshot_making import (
    check_details,
    check_room,
    created,
    creation_starts,
    default_name,
    making,
    making_ended,
    requested,
)
from snapshotd.operations.snapshots import TheSnapshot, after_remove, expunge_ended, snapshot_id_of, snapshot_of
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_create
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What snapshot to take."""

    snapshot_id: SnapshotId
    """Made by the server: the core makes no ids."""
    name: str
    """Empty: `default_name`."""
    description: str
    with_memory: bool
    allow_fallback: bool
    """Keep one with memory if the guest cannot be frozen."""
    labels: Labels = field(default_factory=dict)
    expire_at: Time | None = None

    @property
    def said(self) -> SnapshotDetails:
        """What is said of it."""
        return SnapshotDetails(
            name=self.name, description=self.description, labels=self.labels, expire_at=self.expire_at
        )


def _second(values: JsonObject) -> JsonObject:
    return {**values, "labels": {}, "expire_at": None}


class CreateSnapshot(Kind):
    """Take a snapshot. A second request takes another one, so it never joins the first."""

    name = KindName("CREATE_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params, 2, {1: _second})

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the id of the snapshot to take."""
        return self.params.read(request.params).snapshot_id

    def check_existence(self, vm: VirtualMachine, request: RequestOperation) -> None:
        """Accept any request: the snapshot is not there yet."""

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if a text, the power, a blocker or one of the two limits forbids it."""
        params = self.params.read(request.params)
        check_details(params.said, now)
        if forbidden := checkpoint_create.forbids(vm, with_memory=params.with_memory):
            raise forbidden
        check_room(vm, params.name or default_name(vm, now), policy)

    def accepted(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> tuple[e.VmEvent, ...]:
        """Return the event that allocates the snapshot, and one of what else is said of it."""
        params = self.params.read(request.params)
        name = params.name or default_name(vm, now)
        event = requested(params.snapshot_id, name, description=params.description, with_memory=params.with_memory)
        before = SnapshotDetails(name=name, description=params.description)
        after = replace(params.said, name=name)
        if after == before:
            return (event,)
        return event, e.SnapshotDetailsChanged(snapshot_id=params.snapshot_id, before=before, after=after)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the creation of the checkpoint, and its renaming in case it is adopted."""
        params = self.params.read(request.params)
        snapshot = vm.snapshots[params.snapshot_id]
        return making(snapshot, allow_fallback=params.allow_fallback, nature=StepNature.UNDOABLE)

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the moves of the VM to SNAPSHOTTING, and of the snapshot to CREATING below the current one."""
        return move_vm(vm, "snapshot_begins"), creation_starts(vm, snapshot_of(vm, operation))

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's release when an unwanted checkpoint is gone and only its merge is left."""
        removed = step.plan.action == CHECKPOINT_REMOVE.name
        return after_remove(vm, operation, snapshot_of(vm, operation)) if removed else ()

    def verify(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Return a failure if the snapshot has memory that was neither asked for nor allowed."""
        made = CHECKPOINT_CREATE.made_by(operation)
        assert made is not None, operation
        fallback = made.has_memory and not snapshot_of(vm, operation).with_memory
        if fallback and not self.params.read(operation.params).allow_fallback:
            return Failure(
                reason="FALLBACK_REFUSED",
                message="The host could only make a checkpoint with memory. Allow that fallback, to accept it.",
            )
        return None

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return the removal of the checkpoint, if there is one, with the moves of VM and snapshot to EXPUNGING."""
        made = CHECKPOINT_CREATE.made_by(operation)
        if made is None:
            return Undo()
        unwanted = e.SnapshotUnwanted(
            **moved(snapshot_of(vm, operation), "unwanted"),
            checkpoint_id=made.checkpoint_id,
            failure=failure or CANCELLED,
        )
        steps = super().undo(vm, operation, failure).steps
        return Undo(events=(move_vm(vm, "unwanted_removal_begins"), unwanted), steps=steps)

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the event that brings the snapshot to rest."""
        snapshot = snapshot_of(vm, operation)
        if snapshot.state is SnapshotState.EXPUNGING:
            why = failure or CANCELLED
            undone = failure is None or all(s.failure is None for s in operation.steps if s.plan.undoes is not None)
            return (expunge_ended(vm, operation, snapshot, why, removed=undone and why.reason != UNDETERMINED),)
        if outcome is OperationState.SUCCEEDED:
            return created(vm, operation, snapshot)
        return making_ended(snapshot, outcome, failure, CHECKPOINT_CREATE.made_by(operation))

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the snapshot as the current one, and a warning if one with memory may be kept instead."""
        params = self.params.read(request.params)
        fallback = vm.power is Power.RUNNING and not params.with_memory and params.allow_fallback
        warning = "If the guest cannot be frozen, a snapshot with memory is kept instead."
        return Preview(current=params.snapshot_id, power=vm.power, warnings=(warning,) if fallback else ())

    def result(self, operation: Operation) -> Result:
        """Return the snapshot."""
        return TheSnapshot(snapshot_id_of(operation))


CREATE_SNAPSHOT = CreateSnapshot()
