"""CreateSnapshot: one undoable step that makes the checkpoint, and a best-effort one that marks an adopted one.

The checkpoint bears a marker in its name, `<display name> #<snapshot id>`. Hyper-V makes a checkpoint first and
names it in a second call (source read), so a script that dies in between leaves one under its default name. Such a
newcomer is adopted only if all evidence fits (`_can_only_be_ours`); else the outcome is undetermined, and nothing is
run again.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import chain, count

from snapshotd.domain import events as e
from snapshotd.domain.commands import CreateSnapshot, OperationRequest
from snapshotd.domain.errors import (
    AlreadyExists,
    CheckpointLimitReached,
    CheckpointsDisabled,
    InvalidArgument,
    MemoryNeedsRunningVm,
    SnapshotBlocked,
    SnapshotdError,
    SnapshotLimitReached,
    WrongPower,
)
from snapshotd.domain.host_report import Before, Checkpoint, VmReport
from snapshotd.domain.lifecycle import NEEDS_POWER, SNAPSHOT, OperationState, Power, SnapshotState
from snapshotd.domain.operation import Failure, Operation, OperationKind, PlannedStep, Step, StepAction, StepNature
from snapshotd.domain.policy import HYPERV_CHECKPOINT_LIMIT, Policy
from snapshotd.domain.snapshot import Snapshot, counts_towards_limit
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
    Trace,
    Undetermined,
    Undo,
    expunge_failed,
    given_up,
    move_current,
    move_vm,
    needed,
    power_refusal,
    removed,
    snapshot_of,
    trace,
)
from snapshotd.operations.snapshot_delete import after_remove

NAME_LIMIT = 255
"""Of a snapshot's name and description, in characters."""
_CHECKPOINT_NAME_LIMIT = 99
"""Hyper-V: under 100 characters (documented)."""
_CLOCK_GRAIN = timedelta(seconds=1)
"""A checkpoint's creation time may be cut to the second (not verified)."""


def marker(snapshot_id: str) -> str:
    """Return what the name of a snapshot's checkpoint ends in."""
    return f"#{snapshot_id}"


def checkpoint_name(snapshot: Snapshot) -> str:
    """Return the full name of a snapshot's checkpoint, cut to fit Hyper-V's limit."""
    tail = f" {marker(snapshot.snapshot_id)}"
    return snapshot.name[: _CHECKPOINT_NAME_LIMIT - len(tail)] + tail


def default_name(vm: VirtualMachine, now: datetime) -> str:
    """Return the name that a snapshot gets when none is asked for.

    It is `<vm>_VS_<yyyyMMddHHmmss>`, UTC. Where that is taken, since two are asked for within a second, `_2` stands
    behind it, or the first number that is free.
    """
    plain = f"{vm.name}_VS_{now:%Y%m%d%H%M%S}"
    numbered = (f"{plain}_{number}" for number in count(2))
    return next(name for name in chain([plain], numbered) if _bearer(vm, name) is None)


def _bearer(vm: VirtualMachine, name: str) -> Snapshot | None:
    """Return the snapshot that has a name; one that is REMOVED has given it up."""
    return next((s for s in vm.snapshots.values() if s.name == name and s.state is not SnapshotState.REMOVED), None)


class MakeCheckpoint(StepBehaviour):
    """CREATE: ask the host for the checkpoint."""

    action = StepAction.CREATE

    def before(self, vm: VirtualMachine, step: Step) -> Before:
        """Depend on the checkpoints, the current one and the power."""
        assert vm.description is not None
        return Before(
            power=vm.power,
            checkpoint_ids=vm.description.checkpoint_ids(),
            current_checkpoint_id=vm.description.current_checkpoint_id,
        )

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Look for the marker; then for one newcomer that can only be ours."""
        if report.activities:
            return InProgress()
        journal = report.journal
        found = trace(vm, operation, step, journal)
        if report.description is None:
            return Absent() if found is Trace.UNTOUCHED else Undetermined("the host does not have the VM any more")
        assert step.before is not None
        assert step.before.checkpoint_ids is not None
        tail = marker(snapshot_of(vm, operation).snapshot_id)
        marked = [c for c in report.description.checkpoints if c.name.endswith(tail)]
        if marked:
            return Done(checkpoint_id=marked[0].checkpoint_id, has_memory=marked[0].has_memory)
        new = [c for c in report.description.checkpoints if c.checkpoint_id not in step.before.checkpoint_ids]
        if not new:
            return Absent()
        if found is Trace.NO_EVIDENCE:
            return Undetermined("the journal is another one, and a checkpoint has appeared")
        if found in (Trace.UNTOUCHED, Trace.DONE):
            return Absent()  # DONE: ours bore its marker, and is gone again; the script will say so when asked again
        alike = [c for c in new if _is_like_ours(vm, step.before, c, journal.begun_at)]
        if found is Trace.BEGUN_BEFORE and not alike:
            return Absent()
        if found is Trace.BEGUN and len(new) == len(alike) == 1:
            return Done(checkpoint_id=new[0].checkpoint_id, has_memory=new[0].has_memory, marked=False)
        return Undetermined(f"{len(new)} checkpoints have appeared, and none bears our marker")

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Refuse by the rules of acceptance, as things are now."""
        forbidden = _forbidden(vm, with_memory=snapshot_of(vm, operation).with_memory)
        return Failure.of(forbidden) if forbidden else None

    def wait_s(self, policy: Policy) -> float:
        """Allow `snapshots.create_wait`."""
        return policy.create_wait_s


def _forbidden(vm: VirtualMachine, *, with_memory: bool) -> SnapshotdError | None:
    """Return why the VM, as it was last reported, cannot be checkpointed; None if it can."""
    assert vm.description is not None
    checkpoints = len(vm.description.checkpoints)
    if vm.power not in NEEDS_POWER["snapshot_begins"]:
        return WrongPower(vm.name, vm.power.name, needed("snapshot_begins"), "take a snapshot of")
    if with_memory and vm.power is not Power.RUNNING:
        return MemoryNeedsRunningVm(vm.name, vm.power.name)
    if vm.description.checkpoint_type == "Disabled":
        return CheckpointsDisabled(vm.name)
    if vm.description.snapshot_blockers:
        return SnapshotBlocked(vm.name, ", ".join(vm.description.snapshot_blockers))
    if checkpoints >= HYPERV_CHECKPOINT_LIMIT:
        return CheckpointLimitReached(vm.name, checkpoints, HYPERV_CHECKPOINT_LIMIT)
    return None


def _is_like_ours(vm: VirtualMachine, before: Before, new: Checkpoint, begun_at: datetime | None) -> bool:
    """Return whether an unmarked newcomer is as our script leaves one that dies between its two calls."""
    by_default_name = re.fullmatch(re.escape(vm.name) + r" (- )?\(.+\)", new.name) is not None
    in_time = begun_at is not None and new.created_at is not None and new.created_at + _CLOCK_GRAIN >= begun_at
    plain = new.checkpoint_type == "Standard" and not new.automatic
    return plain and new.parent_id == before.current_checkpoint_id and in_time and by_default_name


class MarkCheckpoint(StepBehaviour):
    """RENAME: give an adopted checkpoint the name that it should have had."""

    action = StepAction.RENAME

    def before(self, vm: VirtualMachine, step: Step) -> Before:
        """Depend on the checkpoints."""
        assert vm.description is not None
        return Before(checkpoint_ids=vm.description.checkpoint_ids())

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Look for the marker."""
        if report.activities:
            return InProgress()
        tail = marker(snapshot_of(vm, operation).snapshot_id)
        checkpoints = report.description.checkpoints if report.description else ()
        return Done() if any(c.name.endswith(tail) for c in checkpoints) else Absent()

    def needless(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Skip if the checkpoint was made under its own name."""
        return operation.step(1).marked

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Refuse where the host does not have the VM."""
        return power_refusal(vm, "reconfiguration_begins", "rename a checkpoint of")

    def wait_s(self, policy: Policy) -> float:
        """Allow what the policy says for small changes."""
        return policy.remove_wait_s


class CreateSnapshotKind(Kind):
    """Take a snapshot."""

    kind = OperationKind.CREATE_SNAPSHOT

    def check(self, vm: VirtualMachine, request: OperationRequest, policy: Policy, now: datetime) -> None:
        """Check names, power, what blocks checkpoints, and the two limits."""
        assert isinstance(request, CreateSnapshot)
        for field, value in (("snapshot.display_name", request.name), ("snapshot.description", request.description)):
            if len(value) > NAME_LIMIT:
                raise InvalidArgument(
                    field, value[:40] + "…", f"has {len(value)} characters; {NAME_LIMIT} is the limit."
                )
            if any(not c.isprintable() for c in value if c not in "\n\t" or field.endswith("name")):
                raise InvalidArgument(field, value[:40], "holds a character that cannot be printed. Leave it out.")
        if request.name != request.name.strip():
            text = "begins or ends with a blank. Leave it out; without a name the snapshot is given one."
            raise InvalidArgument("snapshot.display_name", request.name[:40], text)
        if forbidden := _forbidden(vm, with_memory=request.with_memory):
            raise forbidden
        name = request.name or default_name(vm, now)
        if taken := _bearer(vm, name):
            raise AlreadyExists(
                "snapshot", name, f"It is {taken.snapshot_id}. Choose another name, or delete that one."
            )
        counted = [s for s in vm.snapshots.values() if counts_towards_limit(s.state, s.checkpoint_id, vm.description)]
        if len(counted) >= policy.max_per_vm:
            raise SnapshotLimitReached(vm.name, len(counted), policy.max_per_vm)

    def plan(self, vm: VirtualMachine, request: OperationRequest) -> tuple[PlannedStep, ...]:
        """Plan the checkpoint, and its marking should it be adopted."""
        assert isinstance(request, CreateSnapshot)
        target = request.snapshot_id
        return (
            PlannedStep(number=1, action=StepAction.CREATE, nature=StepNature.UNDOABLE, snapshot_id=target),
            PlannedStep(number=2, action=StepAction.RENAME, nature=StepNature.BEST_EFFORT, snapshot_id=target),
        )

    def accepted(self, vm: VirtualMachine, request: OperationRequest, now: datetime) -> tuple[e.VmEvent, ...]:
        """Allocate the snapshot."""
        assert isinstance(request, CreateSnapshot)
        return (
            e.SnapshotRequested(
                snapshot_id=request.snapshot_id,
                from_state=SnapshotState.NEW,
                to_state=SNAPSHOT.dest("requested", SnapshotState.NEW),
                name=request.name or default_name(vm, now),
                description=request.description,
                with_memory=request.with_memory,
            ),
        )

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Take the VM to SNAPSHOTTING, the snapshot to CREATING below the current one."""
        snapshot = snapshot_of(vm, operation)
        started = e.SnapshotCreationStarted(
            snapshot_id=snapshot.snapshot_id,
            from_state=snapshot.state,
            to_state=SNAPSHOT.dest("creation_starts", snapshot.state),
            parent_id=vm.current_id,
        )
        return move_vm(vm, "snapshot_begins"), started

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Release the VM when an unwanted checkpoint is gone and only its merge is left."""
        if step.plan.action is StepAction.REMOVE:
            return after_remove(vm, snapshot_of(vm, operation))
        return ()

    def verify(self, vm: VirtualMachine, operation: Operation) -> Failure | None:
        """Refuse a silent fallback to memory, unless the caller allowed it."""
        fallback = operation.step(1).has_memory and not snapshot_of(vm, operation).with_memory
        if fallback and not operation.allow_fallback:
            return Failure(
                reason="FALLBACK_REFUSED",
                message="The host could only make a checkpoint with memory, and allow_fallback is not set.",
            )
        return None

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Remove the checkpoint again, if there is one, and wait until it is merged."""
        made = operation.step(1).checkpoint_id
        if made is None:
            return Undo()
        snapshot = snapshot_of(vm, operation)
        unwanted = e.SnapshotUnwanted(
            snapshot_id=snapshot.snapshot_id,
            from_state=snapshot.state,
            to_state=SNAPSHOT.dest("unwanted", snapshot.state),
            checkpoint_id=made,
            failure=failure or CANCELLED,
        )
        number = len(operation.steps) + 1
        target = snapshot.snapshot_id
        steps = (
            PlannedStep(
                number=number, action=StepAction.REMOVE, nature=StepNature.FORWARD_ONLY, snapshot_id=target, undoes=1
            ),
            PlannedStep(
                number=number + 1, action=StepAction.MERGE, nature=StepNature.WAIT, snapshot_id=target, undoes=1
            ),
        )
        return Undo(events=(move_vm(vm, "unwanted_removal_begins"), unwanted), steps=steps)

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Bring the snapshot to rest."""
        snapshot = snapshot_of(vm, operation)
        why = failure or CANCELLED
        undone = failure is None or all(s.failure is None for s in operation.steps if s.plan.undoes is not None)
        match snapshot.state:
            case SnapshotState.ALLOCATED if outcome is OperationState.CANCELLED:
                to_state = SNAPSHOT.dest("cancelled_before_start", snapshot.state)
                return (
                    e.SnapshotRequestCancelled(
                        snapshot_id=snapshot.snapshot_id, from_state=snapshot.state, to_state=to_state
                    ),
                )
            case SnapshotState.ALLOCATED:
                return (_creation_failed(snapshot, "failed_before_start", why),)
            case SnapshotState.CREATING if outcome is OperationState.SUCCEEDED:
                return _created(vm, operation, snapshot)
            case SnapshotState.CREATING if why.reason == UNDETERMINED:
                return (given_up(snapshot, why),)
            case SnapshotState.CREATING:
                return (_creation_failed(snapshot, "creation_failed", why),)
            case SnapshotState.EXPUNGING if why.reason == UNDETERMINED:
                return (given_up(snapshot, why),)
            case SnapshotState.EXPUNGING if undone:
                return (removed(snapshot),)
            case SnapshotState.EXPUNGING:
                return (expunge_failed(vm, snapshot, why),)
            case _:
                raise AssertionError(snapshot)


def _creation_failed(snapshot: Snapshot, trigger: str, failure: Failure) -> e.SnapshotCreationFailed:
    return e.SnapshotCreationFailed(
        snapshot_id=snapshot.snapshot_id,
        from_state=snapshot.state,
        to_state=SNAPSHOT.dest(trigger, snapshot.state),
        failure=failure,
    )


def _created(vm: VirtualMachine, operation: Operation, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Record what was made, below the nearest own checkpoint on the host, and make it current."""
    step = operation.step(1)
    assert step.checkpoint_id is not None
    assert vm.description is not None
    checkpoint = vm.description.checkpoint(step.checkpoint_id)
    parent = vm.nearest_own(checkpoint.parent_id) if checkpoint else vm.current_id
    size = checkpoint.system_files_bytes + sum(d.file_bytes for d in checkpoint.disks) if checkpoint else 0
    created = e.SnapshotCreated(
        snapshot_id=snapshot.snapshot_id,
        from_state=snapshot.state,
        to_state=SNAPSHOT.dest("created", snapshot.state),
        checkpoint_id=step.checkpoint_id,
        with_memory=step.has_memory,
        parent_id=parent,
        size_bytes=size,
        cpu_count=vm.description.cpu_count,
        memory_bytes=vm.description.memory_bytes,
    )
    return created, *move_current(vm, snapshot.snapshot_id)
