"""CreateSnapshot: one undoable step that makes the checkpoint, and a best-effort one that renames an adopted one.

If the VM is exported with each snapshot, the export follows, when the snapshot is READY already: whatever comes of the
export, even a cancellation, the snapshot stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations import exporting, vm_export
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
from snapshotd.operations.vm_export import EXPORT_VIRTUAL_MACHINE
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_create
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.vm_export import VM_EXPORT


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
    export_directory: str = ""
    """The folder below which the VM is exported when it is taken; empty: it is not."""

    @property
    def said(self) -> SnapshotDetails:
        """What is said of it."""
        return SnapshotDetails(
            name=self.name, description=self.description, labels=self.labels, expire_at=self.expire_at
        )


def _third(values: JsonObject) -> JsonObject:
    return {**values, "export_directory": ""}


def _second(values: JsonObject) -> JsonObject:
    return {**values, "labels": {}, "expire_at": None}


class CreateSnapshot(Kind):
    """Take a snapshot. A second request takes another one, so it never joins the first."""

    name = KindName("CREATE_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params, 3, {1: _second, 2: _third})

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
        """Return the creation of the checkpoint, its renaming in case it is adopted, and the VM's export if wanted."""
        params = self.params.read(request.params)
        snapshot = vm.snapshots[params.snapshot_id]
        made = making(snapshot, allow_fallback=params.allow_fallback, nature=StepNature.UNDOABLE)
        return (*made, *exporting.beside(params.export_directory, vm)) if params.export_directory else made

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the moves of the VM to SNAPSHOTTING, and of the snapshot to CREATING below the current one."""
        return move_vm(vm, "snapshot_begins"), creation_starts(vm, snapshot_of(vm, operation))

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return, when the export begins, that the snapshot was taken: what comes of the export does not touch it."""
        snapshot = snapshot_of(vm, operation)
        if step.plan.action != VM_EXPORT.name or snapshot.state is not SnapshotState.CREATING:
            return ()
        return *created(vm, operation, snapshot), move_vm(vm, "export_follows")

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return, before the export, why the snapshot is not what was asked for."""
        taken = step.plan.action == VM_EXPORT.name and snapshot_of(vm, operation).state is SnapshotState.CREATING
        return self.verify(vm, operation) if taken else None

    def spares(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return why a step of the export is left out."""
        return exporting.spared(vm, operation, step)

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's release when an unwanted checkpoint is gone and only its merge is left; or its export."""
        if step.plan.action == CHECKPOINT_REMOVE.name:
            return after_remove(vm, operation, snapshot_of(vm, operation))
        return exporting.completed(vm, operation, step)

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
        """Return the removal of the checkpoint, if there is one, with the moves of VM and snapshot to EXPUNGING.

        One that has come to its export is kept: then the export is ended.
        """
        if snapshot_of(vm, operation).state is SnapshotState.READY:
            return Undo(steps=exporting.undo(operation))
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
        if snapshot.state is SnapshotState.READY:
            return ()
        if outcome is OperationState.SUCCEEDED:
            return created(vm, operation, snapshot)
        return making_ended(snapshot, outcome, failure, CHECKPOINT_CREATE.made_by(operation))

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the snapshot as the current one, and a warning if one with memory may be kept instead."""
        params = self.params.read(request.params)
        fallback = vm.power is Power.RUNNING and not params.with_memory and params.allow_fallback
        warning = "If the guest cannot be frozen, a snapshot with memory is kept instead."
        warnings: tuple[str, ...] = (warning,) if fallback else ()
        if params.export_directory:
            warnings += (
                "The VM is exported with it, which takes longer. Start ends the export; the snapshot is kept.",
            )
        return Preview(current=params.snapshot_id, power=vm.power, warnings=warnings)

    def follows(self, vm: VirtualMachine, operation: Operation, policy: Policy) -> RequestOperation | None:
        """Return an export, if the one with the snapshot was ended by something that may have passed."""
        why = exporting.ended_without(operation)
        if why is None or exporting.in_vain(why):
            return None
        directory = self.params.read(operation.params).export_directory
        return EXPORT_VIRTUAL_MACHINE.request(vm_export.Params(directory=directory, attempts=policy.export_attempts))

    def kept(self, operation: Operation) -> str:
        """Return that a snapshot whose export was ended, or is complete already, is kept."""
        if not exporting.begun(operation):
            return ""
        complete = exporting.ended_without(operation) is None
        return f"The snapshot was taken, and is kept. Its export {'is complete' if complete else 'was ended'}."

    def remark(self, operation: Operation) -> str:
        """Return why the VM was not exported with it."""
        why = exporting.ended_without(operation) if operation.state is OperationState.SUCCEEDED else None
        return f"The snapshot was taken; the VM was not exported: {why.message}" if why else ""

    def result(self, operation: Operation) -> Result:
        """Return the snapshot."""
        return TheSnapshot(snapshot_id_of(operation))


CREATE_SNAPSHOT = CreateSnapshot()
