"""What kinds that make a snapshot have in common: whether it may be made, its name, its steps, and how they end it."""

from __future__ import annotations

import shlex
from datetime import datetime
from itertools import chain, count

from snapshotd.domain import events as e
from snapshotd.domain.details import SnapshotDetails, check_labels
from snapshotd.domain.errors import (
    AlreadyExists,
    InvalidArgument,
)
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import SNAPSHOT, OperationState, SnapshotState
from snapshotd.domain.names import same_name
from snapshotd.domain.operation import Failure, Operation, PlannedStep, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot, counts_towards_limit, moved
from snapshotd.domain.snapshot_errors import (
    SnapshotLimitReached,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import CANCELLED, UNDETERMINED, move_current
from snapshotd.ports.plain import encode_time
from snapshotd.steps import checkpoint_create, checkpoint_rename
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_name import checkpoint_name, unmarked
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME
from snapshotd.steps.made_checkpoint import Output

NAME_LIMIT = 255
"""Of a snapshot's name and description, in characters."""
_JOINERS = "\u200c\u200d"
"""Characters that join others, in emoji and in some scripts. They cannot be printed alone."""


def check_text(field: str, value: str, *, lines: bool = False) -> None:
    """Raise InvalidArgument for a name or a description that is not allowed. `lines`: it may have several."""
    if len(value) > NAME_LIMIT:
        text = f"must have at most {NAME_LIMIT} characters; it has {len(value)}."
        raise InvalidArgument(field, value[:40] + "…", text)
    if not all(_is_printable(char) for char in value if not (lines and char in "\n\t")):
        raise InvalidArgument(field, value[:40], "must hold no character that cannot be printed.")
    if not lines and value != value.strip():
        text = "must not begin or end with a blank. Without a name the snapshot gets one."
        raise InvalidArgument(field, value[:40], text)


def check_details(details: SnapshotDetails, now: datetime, known: SnapshotDetails | None = None) -> None:
    """Raise InvalidArgument for a text, a label or an expiry that is not allowed.

    Args:
        details: as they would be.
        now: the time.
        known: as they are: an expiry that stays may have passed. None: there are none yet.
    """
    check_text("snapshot.display_name", details.name)
    check_text("snapshot.description", details.description, lines=True)
    check_labels(details.labels, "snapshot.labels")
    expiry = details.expire_at
    if expiry is not None and expiry <= now and (known is None or known.expire_at != expiry):
        raise InvalidArgument("snapshot.expire_time", encode_time(expiry), "must be in the future.")


def check_room(vm: VirtualMachine, name: str, policy: Policy, action: str = "take a snapshot of") -> None:
    """Raise AlreadyExists or SnapshotLimitReached if a name is taken, or the VM may have no further snapshot."""
    refuse_taken(vm, name)
    counted = counted_snapshots(vm)
    if counted >= policy.max_per_vm:
        raise SnapshotLimitReached(vm.name, counted, policy.max_per_vm, action)


def refuse_taken(vm: VirtualMachine, name: str, besides: SnapshotId | None = None) -> None:
    """Raise AlreadyExists if a snapshot of the VM has a name. `besides`: the one that may have it."""
    taken = _bearer(vm, name)
    if taken is not None and taken.snapshot_id != besides:
        raise AlreadyExists("snapshot", name, _about(vm, taken))


def counted_snapshots(vm: VirtualMachine) -> int:
    """Return how many snapshots of a VM count towards its limit."""
    return sum(counts_towards_limit(snapshot, vm.description) for snapshot in vm.snapshots.values())


def default_name(vm: VirtualMachine, now: datetime) -> str:
    """Return the name that a snapshot gets when none is asked for: `<vm>_VS_<yyyyMMddHHmmss>`, UTC.

    If that is taken (two requests within a second), a number follows.
    """
    return free_name(vm, f"{vm.name}_VS_{now:%Y%m%d%H%M%S}")


def name_after(vm: VirtualMachine, checkpoint_name: str, now: datetime) -> str:
    """Return the name that a snapshot gets by that of its checkpoint: without what no name may hold."""
    plain = "".join(filter(_is_printable, unmarked(checkpoint_name))).strip()
    return free_name(vm, plain) if plain else default_name(vm, now)


def _is_printable(char: str) -> bool:
    return char.isprintable() or char in _JOINERS


def free_name(vm: VirtualMachine, plain: str) -> str:
    """Return a name that no snapshot of the VM has: `plain`, or with `_2` or the first number after it that is free."""
    numbers = (_with_number(plain, number) for number in count(2))
    return next(name for name in chain([plain[:NAME_LIMIT].strip()], numbers) if _bearer(vm, name) is None)


def _with_number(plain: str, number: int) -> str:
    """Return a name with a number after it, cut to fit."""
    tail = f"_{number}"
    return f"{plain[: NAME_LIMIT - len(tail)].strip()}{tail}"


def _bearer(vm: VirtualMachine, name: str) -> Snapshot | None:
    """Return the snapshot that has a name. One that is REMOVED, or was never made, has given it up."""
    there = (s for s in vm.snapshots.values() if s.state is not SnapshotState.REMOVED and not _never_made(s))
    return next((s for s in there if same_name(s.name, name)), None)


def _never_made(snapshot: Snapshot) -> bool:
    """Return whether a create has failed, and the host was seen to have no checkpoint of it."""
    without = snapshot.state is SnapshotState.ERROR and snapshot.checkpoint_id is None and not snapshot.was_ready
    return without and (snapshot.failure is None or snapshot.failure.reason != UNDETERMINED)


def _about(vm: VirtualMachine, taken: Snapshot) -> str:
    """Return what the snapshot is that has a name already, and what to do."""
    why = f" ({taken.failure.message.rstrip('.')})" if taken.failure and taken.state is SnapshotState.ERROR else ""
    text = f"It is {taken.snapshot_id}, and its state is {taken.state.name}{why}. Choose another name"
    if not SNAPSHOT.allows("expunge_starts", taken.state):
        return f"{text}."
    return f"{text}, or delete that one (`snapshotctl snapshot delete {shlex.quote(vm.name)} {taken.snapshot_id}`)."


def requested(snapshot_id: SnapshotId, name: str, *, description: str = "", with_memory: bool) -> e.SnapshotRequested:
    """Return the event that allocates a snapshot."""
    return e.SnapshotRequested(
        snapshot_id=snapshot_id,
        from_state=SnapshotState.NEW,
        to_state=SNAPSHOT.dest("requested", SnapshotState.NEW),
        name=name,
        description=description,
        with_memory=with_memory,
    )


def making(snapshot: Snapshot, *, allow_fallback: bool, nature: StepNature) -> tuple[PlannedStep, ...]:
    """Return the creation of a snapshot's checkpoint, and its renaming in case it is adopted.

    Args:
        snapshot: as it was requested.
        allow_fallback: keep one with memory if the guest cannot be frozen.
        nature: of the creation.
    """
    name, target = checkpoint_name(snapshot), snapshot.snapshot_id
    create = checkpoint_create.Input(
        checkpoint_name=name, with_memory=snapshot.with_memory, allow_fallback=allow_fallback
    )
    rename = checkpoint_rename.Input(checkpoint_name=name)
    return (
        CHECKPOINT_CREATE.planned(create, nature=nature, snapshot_id=target),
        CHECKPOINT_RENAME.planned(rename, nature=StepNature.BEST_EFFORT, snapshot_id=target),
    )


def creation_starts(vm: VirtualMachine, snapshot: Snapshot) -> e.SnapshotCreationStarted:
    """Return the event that moves a snapshot to CREATING, below the current one."""
    return e.SnapshotCreationStarted(**moved(snapshot, "creation_starts"), parent_id=vm.current_id)


def created(vm: VirtualMachine, operation: Operation, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events of a snapshot that was made: below the nearest own one on the host, and current."""
    made = CHECKPOINT_CREATE.made_by(operation)
    assert made is not None
    assert vm.description is not None
    checkpoint = vm.description.checkpoint(made.checkpoint_id)
    parent = vm.nearest_own(checkpoint.parent_id) if checkpoint else vm.current_id
    size = vm.description.size_of(checkpoint) if checkpoint else 0
    event = e.SnapshotCreated(
        **moved(snapshot, "created"),
        checkpoint_id=made.checkpoint_id,
        with_memory=made.has_memory,
        parent_id=parent,
        size_bytes=size,
        offering=(checkpoint.offering if checkpoint else None) or vm.description.offering,
    )
    return event, *move_current(vm, snapshot.snapshot_id)


def making_ended(
    snapshot: Snapshot, outcome: OperationState, failure: Failure | None, made: Output | None = None
) -> tuple[e.VmEvent, ...]:
    """Return the events that bring a snapshot to rest that was not made. None for one that has gone beyond that.

    `made`: its checkpoint, if the operation was given up after that step. The snapshot keeps it, to be deleted with it.
    """
    why = failure or CANCELLED
    cancelled = outcome is OperationState.CANCELLED
    match snapshot.state:
        case SnapshotState.ALLOCATED if cancelled:
            return (e.SnapshotRequestCancelled(**moved(snapshot, "cancelled_before_start")),)
        case SnapshotState.ALLOCATED:
            return (e.SnapshotCreationFailed(**moved(snapshot, "failed_before_start"), failure=why),)
        case SnapshotState.CREATING if cancelled:
            return (e.SnapshotCreationCancelled(**moved(snapshot, "creation_cancelled")),)
        case SnapshotState.CREATING if why.reason == UNDETERMINED:
            given_up = e.SnapshotGivenUp(**moved(snapshot, "given_up"), failure=why)
            if made is None:
                return (given_up,)
            known = e.SnapshotCheckpointIdentified(snapshot_id=snapshot.snapshot_id, checkpoint_id=made.checkpoint_id)
            return given_up, known
        case SnapshotState.CREATING:
            return (e.SnapshotCreationFailed(**moved(snapshot, "creation_failed"), failure=why),)
        case _:
            return ()
