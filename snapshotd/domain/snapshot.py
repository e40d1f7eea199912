"""One snapshot of a VM, as a fold of its events."""

from __future__ import annotations

from typing import TypedDict, assert_never

from msgspec import field

from snapshotd.domain import events as e
from snapshotd.domain.details import Labels, SnapshotDetails
from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.ids import CheckpointId, SnapshotId, VmId
from snapshotd.domain.lifecycle import SNAPSHOT, SnapshotState
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import State, replace


class Hold(State, frozen=True, kw_only=True):
    """That nobody may delete a snapshot."""

    actor: str
    """Who holds it."""
    why: str
    """In that person's words; may be empty."""
    since: Time


class Snapshot(State, frozen=True, kw_only=True):
    """One snapshot of the VM, in whatever state."""

    vm_id: VmId
    snapshot_id: SnapshotId
    name: str
    description: str
    with_memory: bool
    requested_with_memory: bool
    state: SnapshotState
    actor: str
    """Who asked for it."""
    requested_at: Time
    updated_at: Time
    parent_id: SnapshotId | None = None
    checkpoint_id: CheckpointId | None = None
    was_ready: bool = False
    unwanted: bool = False
    """Its checkpoint was made, and was to be removed again."""
    size_bytes: int = 0
    offering: Offering | None = None
    """What the VM had when it was taken; None: not taken yet, or not known."""
    unmerged: tuple[str, ...] = ()
    """Files that its removed checkpoint left to merge, when its expunge failed."""
    failure: Failure | None = None
    """Why it is in ERROR, or what went wrong last."""
    hold: Hold | None = None
    """Who keeps it from being deleted; None: nobody."""
    labels: Labels = field(default_factory=dict)
    expire_at: Time | None = None
    """When it is no longer needed; None: not said. Nothing acts on it."""
    adopted: bool = False
    """It was made by others, and became a snapshot by a person's decision. Then it was requested when it was made."""

    @property
    def details(self) -> SnapshotDetails:
        """What people say of it."""
        return SnapshotDetails(
            name=self.name, description=self.description, labels=self.labels, expire_at=self.expire_at
        )


class SnapshotMove(TypedDict):
    """What every transition of a snapshot holds."""

    snapshot_id: SnapshotId
    from_state: SnapshotState
    to_state: SnapshotState


def moved(snapshot: Snapshot, trigger: str) -> SnapshotMove:
    """Return the transition of a snapshot along an arrow of its table. Raises IllegalTransition."""
    to_state = SNAPSHOT.dest(trigger, snapshot.state)
    return SnapshotMove(snapshot_id=snapshot.snapshot_id, from_state=snapshot.state, to_state=to_state)


def counts_towards_limit(snapshot: Snapshot, description: VmDescription | None) -> bool:
    """Return whether a snapshot has a checkpoint or may get one, and so counts towards `snapshots.max_per_vm`.

    Args:
        snapshot: the snapshot.
        description: its VM, as its host last reported it.
    """
    if snapshot.state is SnapshotState.ERROR and description is not None:
        return snapshot.checkpoint_id is not None and description.checkpoint(snapshot.checkpoint_id) is not None
    return snapshot.state is not SnapshotState.REMOVED


def evolve_snapshot(vm_id: VmId, snapshot: Snapshot | None, event: e.SnapshotEvent, at: e.Occasion) -> Snapshot:
    """Return the snapshot with one event applied; None stands for one that is not on record yet. Never refuses."""
    if isinstance(event, e.SnapshotRequested):
        return Snapshot(
            vm_id=vm_id,
            snapshot_id=event.snapshot_id,
            name=event.name,
            description=event.description,
            with_memory=event.with_memory,
            requested_with_memory=event.with_memory,
            state=event.to_state,
            actor=at.actor,
            requested_at=at.time,
            updated_at=at.time,
        )
    if isinstance(event, e.SnapshotAdopted):
        return _adopted(vm_id, event, at)
    assert snapshot is not None, event
    if isinstance(event, e.SnapshotFact):
        return replace(_with_fact(snapshot, event, at), updated_at=at.time)
    snapshot = replace(snapshot, state=event.to_state, updated_at=at.time)
    match event:
        case e.SnapshotCreationStarted():
            return replace(snapshot, parent_id=event.parent_id)
        case e.SnapshotCreated():
            return replace(
                snapshot,
                checkpoint_id=event.checkpoint_id,
                with_memory=event.with_memory,
                parent_id=event.parent_id,
                size_bytes=event.size_bytes,
                offering=event.offering,
                was_ready=True,
            )
        case e.SnapshotUnwanted():
            return replace(snapshot, checkpoint_id=event.checkpoint_id, failure=event.failure, unwanted=True)
        case e.SnapshotRevertEnded():
            return replace(snapshot, failure=event.failure)
        case e.SnapshotCheckpointFound():
            return _found(replace(snapshot, failure=event.failure), event)
        case e.SnapshotExpungeFailed() | e.SnapshotGivenUp():
            return replace(snapshot, failure=event.failure, unmerged=event.unmerged)
        case e.SnapshotCreationFailed() | e.SnapshotCheckpointMissing():
            return replace(snapshot, failure=event.failure)
        case (
            e.SnapshotRequestCancelled()
            | e.SnapshotCreationCancelled()
            | e.SnapshotRevertStarted()
            | e.SnapshotExpungeStarted()
            | e.SnapshotRemoved()
            | e.SnapshotForgotten()
        ):
            return snapshot
        case _:
            assert_never(event)


def _adopted(vm_id: VmId, event: e.SnapshotAdopted, at: e.Occasion) -> Snapshot:
    return Snapshot(
        vm_id=vm_id,
        snapshot_id=event.snapshot_id,
        name=event.details.name,
        description=event.details.description,
        labels=event.details.labels,
        expire_at=event.details.expire_at,
        with_memory=event.with_memory,
        requested_with_memory=event.with_memory,
        state=event.to_state,
        actor=event.adopter,
        requested_at=event.made_at or at.time,
        updated_at=at.time,
        parent_id=event.parent_id,
        checkpoint_id=event.checkpoint_id,
        was_ready=True,
        size_bytes=event.size_bytes,
        adopted=True,
    )


def _with_fact(snapshot: Snapshot, event: e.SnapshotFact, at: e.Occasion) -> Snapshot:
    match event:
        case e.SnapshotReparented():
            return replace(snapshot, parent_id=event.to_parent_id)
        case e.SnapshotCheckpointIdentified():
            return replace(snapshot, checkpoint_id=event.checkpoint_id)
        case e.SnapshotHeld():
            return replace(snapshot, hold=Hold(actor=at.actor, why=event.why, since=at.time))
        case e.SnapshotReleased():
            return replace(snapshot, hold=None)
        case e.SnapshotDetailsChanged(after=now):
            return replace(
                snapshot, name=now.name, description=now.description, labels=now.labels, expire_at=now.expire_at
            )
        case _:
            assert_never(event)


def _found(snapshot: Snapshot, event: e.SnapshotCheckpointFound) -> Snapshot:
    if event.with_memory is None:
        return snapshot
    return replace(snapshot, with_memory=event.with_memory, size_bytes=event.size_bytes, was_ready=True)
