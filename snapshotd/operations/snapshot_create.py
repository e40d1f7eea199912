"""CreateSnapshot: one undoable step that makes the checkpoint, and a best-effort one that renames an adopted one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import AlreadyExists, InvalidArgument, SnapshotLimitReached
from snapshotd.domain.ids import KindName, SnapshotId
from snapshotd.domain.lifecycle import SNAPSHOT, OperationState, Power, SnapshotState
from snapshotd.domain.names import same_name
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot, counts_towards_limit, moved
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import CANCELLED, UNDETERMINED, Kind, Preview, Result, Undo, move_current, move_vm
from snapshotd.operations.snapshots import after_remove, expunge_ended, snapshot_id_of, snapshot_of
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_create, checkpoint_rename
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_name import checkpoint_name
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME

NAME_LIMIT = 255
"""Of a snapshot's name and description, in characters."""
_JOINERS = "\u200c\u200d"
"""Characters that join others, in emoji and in some scripts. They cannot be printed alone."""


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


@dataclass(frozen=True, slots=True)
class TheSnapshot(Result):
    """The snapshot that was taken."""

    snapshot_id: SnapshotId


def default_name(vm: VirtualMachine, now: datetime) -> str:
    """Return the name that a snapshot gets when none is asked for.

    It is `<vm>_VS_<yyyyMMddHHmmss>`, UTC. If that is taken (two requests within a second), `_2` follows, or the
    first number that is free.
    """
    plain = f"{vm.name}_VS_{now:%Y%m%d%H%M%S}"
    numbers = (f"{plain}_{number}" for number in count(2))
    return next(name for name in chain([plain], numbers) if _bearer(vm, name) is None)


def _bearer(vm: VirtualMachine, name: str) -> Snapshot | None:
    """Return the snapshot that has a name; one that is REMOVED has given it up."""
    there = (s for s in vm.snapshots.values() if s.state is not SnapshotState.REMOVED)
    return next((s for s in there if same_name(s.name, name)), None)


def _about(vm: VirtualMachine, taken: Snapshot) -> str:
    """Return what the snapshot is that has a name already, and what to do. A create that failed keeps its name."""
    why = f" ({taken.failure.message.rstrip('.')})" if taken.failure and taken.state is SnapshotState.ERROR else ""
    text = f"It is {taken.snapshot_id}, and its state is {taken.state.name}{why}. Choose another name"
    if not SNAPSHOT.allows("expunge_starts", taken.state):
        return f"{text}."
    return f"{text}, or delete that one (`snapshotctl snapshot delete {shlex.quote(vm.name)} {taken.snapshot_id}`)."


class CreateSnapshot(Kind):
    """Take a snapshot. A second request takes another one, so it never joins the first."""

    name = KindName("CREATE_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params)

    def subject(self, request: RequestOperation) -> SnapshotId:
        """Return the id of the snapshot to take."""
        return self.params.read(request.params).snapshot_id

    def check_existence(self, vm: VirtualMachine, request: RequestOperation) -> None:
        """Accept any request: the snapshot is not there yet."""

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if a text, the power, a blocker or one of the two limits forbids it."""
        params = self.params.read(request.params)
        _check_texts(params)
        if forbidden := checkpoint_create.forbids(vm, with_memory=params.with_memory):
            raise forbidden
        name = params.name or default_name(vm, now)
        if taken := _bearer(vm, name):
            raise AlreadyExists("snapshot", name, _about(vm, taken))
        counted = [s for s in vm.snapshots.values() if counts_towards_limit(s, vm.description)]
        if len(counted) >= policy.max_per_vm:
            raise SnapshotLimitReached(vm.name, len(counted), policy.max_per_vm)

    def accepted(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> tuple[e.VmEvent, ...]:
        """Return the event that allocates the snapshot."""
        params = self.params.read(request.params)
        return (
            e.SnapshotRequested(
                snapshot_id=params.snapshot_id,
                from_state=SnapshotState.NEW,
                to_state=SNAPSHOT.dest("requested", SnapshotState.NEW),
                name=params.name or default_name(vm, now),
                description=params.description,
                with_memory=params.with_memory,
            ),
        )

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the creation of the checkpoint, and its renaming in case it is adopted."""
        params = self.params.read(request.params)
        name, target = checkpoint_name(vm.snapshots[params.snapshot_id]), params.snapshot_id
        create = checkpoint_create.Input(
            checkpoint_name=name, with_memory=params.with_memory, allow_fallback=params.allow_fallback
        )
        rename = checkpoint_rename.Input(checkpoint_name=name)
        return (
            CHECKPOINT_CREATE.planned(create, nature=StepNature.UNDOABLE, snapshot_id=target),
            CHECKPOINT_RENAME.planned(rename, nature=StepNature.BEST_EFFORT, snapshot_id=target),
        )

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the moves of the VM to SNAPSHOTTING, and of the snapshot to CREATING below the current one."""
        snapshot = snapshot_of(vm, operation)
        started = e.SnapshotCreationStarted(**moved(snapshot, "creation_starts"), parent_id=vm.current_id)
        return move_vm(vm, "snapshot_begins"), started

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's release when an unwanted checkpoint is gone and only its merge is left."""
        return after_remove(vm, snapshot_of(vm, operation)) if step.plan.action == CHECKPOINT_REMOVE.name else ()

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
        why = failure or CANCELLED
        match snapshot.state:
            case SnapshotState.ALLOCATED if outcome is OperationState.CANCELLED:
                return (e.SnapshotRequestCancelled(**moved(snapshot, "cancelled_before_start")),)
            case SnapshotState.ALLOCATED:
                return (e.SnapshotCreationFailed(**moved(snapshot, "failed_before_start"), failure=why),)
            case SnapshotState.CREATING if outcome is OperationState.SUCCEEDED:
                return _created(vm, operation, snapshot)
            case SnapshotState.CREATING if outcome is OperationState.CANCELLED:
                return (e.SnapshotCreationCancelled(**moved(snapshot, "creation_cancelled")),)
            case SnapshotState.CREATING if why.reason == UNDETERMINED:
                return (e.SnapshotGivenUp(**moved(snapshot, "given_up"), failure=why),)
            case SnapshotState.CREATING:
                return (e.SnapshotCreationFailed(**moved(snapshot, "creation_failed"), failure=why),)
            case SnapshotState.EXPUNGING:
                undone = failure is None or all(s.failure is None for s in operation.steps if s.plan.undoes is not None)
                return (expunge_ended(vm, operation, snapshot, why, removed=undone and why.reason != UNDETERMINED),)
            case _:
                raise AssertionError(snapshot)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return the snapshot as the current one, and a warning if one with memory may be kept instead."""
        params = self.params.read(request.params)
        fallback = vm.power is Power.RUNNING and not params.with_memory and params.allow_fallback
        warning = "If the guest cannot be frozen, a snapshot with memory is kept instead."
        return Preview(current=params.snapshot_id, power=vm.power, warnings=(warning,) if fallback else ())

    def result(self, operation: Operation) -> Result:
        """Return the snapshot."""
        return TheSnapshot(snapshot_id_of(operation))


def _check_texts(params: Params) -> None:
    """Raise InvalidArgument for a name or a description that is not allowed."""
    for field, value in (("snapshot.display_name", params.name), ("snapshot.description", params.description)):
        if len(value) > NAME_LIMIT:
            text = f"must have at most {NAME_LIMIT} characters; it has {len(value)}."
            raise InvalidArgument(field, value[:40] + "…", text)
        allowed = _JOINERS if field.endswith("name") else f"\n\t{_JOINERS}"
        if any(not c.isprintable() for c in value if c not in allowed):
            raise InvalidArgument(field, value[:40], "must hold no character that cannot be printed.")
    if params.name != params.name.strip():
        text = "must not begin or end with a blank. Without a name the snapshot gets one."
        raise InvalidArgument("snapshot.display_name", params.name[:40], text)


def _created(vm: VirtualMachine, operation: Operation, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events of a snapshot that was made: below the nearest own one on the host, and current."""
    made = CHECKPOINT_CREATE.made_by(operation)
    assert made is not None
    assert vm.description is not None
    checkpoint = vm.description.checkpoint(made.checkpoint_id)
    parent = vm.nearest_own(checkpoint.parent_id) if checkpoint else vm.current_id
    size = vm.description.size_of(checkpoint) if checkpoint else 0
    created = e.SnapshotCreated(
        **moved(snapshot, "created"),
        checkpoint_id=made.checkpoint_id,
        with_memory=made.has_memory,
        parent_id=parent,
        size_bytes=size,
        cpu_count=vm.description.cpu_count,
        memory_bytes=vm.description.memory_bytes,
    )
    return created, *move_current(vm, snapshot.snapshot_id)


CREATE_SNAPSHOT = CreateSnapshot()
