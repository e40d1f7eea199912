"""What happens to a snapshot, from its request to its removal."""

from __future__ import annotations

from snapshotd.domain.details import SnapshotDetails
from snapshotd.domain.ids import CheckpointId, SnapshotId
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import State


class SnapshotTransition(State, frozen=True, kw_only=True):
    """A snapshot's state changed."""

    snapshot_id: SnapshotId
    from_state: SnapshotState
    to_state: SnapshotState


class SnapshotRequested(SnapshotTransition, frozen=True, kw_only=True):
    """A snapshot was asked for. Nothing has been asked of the host."""

    name: str
    description: str
    with_memory: bool


class SnapshotCreationStarted(SnapshotTransition, frozen=True, kw_only=True):
    """Its checkpoint is about to be asked for."""

    parent_id: SnapshotId | None


class SnapshotCreated(SnapshotTransition, frozen=True, kw_only=True):
    """Its checkpoint is on the host."""

    checkpoint_id: CheckpointId
    with_memory: bool
    """What was made; a fallback that the caller allowed may differ from what was asked for."""
    parent_id: SnapshotId | None
    size_bytes: int
    """The files that hold memory and configuration, and the frozen disk files."""
    offering: Offering | None
    """What the VM had when it was taken; None: not known."""


class SnapshotCreationFailed(SnapshotTransition, frozen=True, kw_only=True):
    """The host has no checkpoint for it."""

    failure: Failure


class SnapshotRequestCancelled(SnapshotTransition, frozen=True, kw_only=True):
    """It was cancelled before anything was asked of the host."""


class SnapshotCreationCancelled(SnapshotTransition, frozen=True, kw_only=True):
    """It was cancelled while it was being created, and the host was observed to have no checkpoint of it."""


class SnapshotUnwanted(SnapshotTransition, frozen=True, kw_only=True):
    """Its checkpoint was made but is not wanted, and will be removed again."""

    checkpoint_id: CheckpointId
    failure: Failure


class SnapshotRevertStarted(SnapshotTransition, frozen=True, kw_only=True):
    """The VM is about to be reverted to it."""


class SnapshotRevertEnded(SnapshotTransition, frozen=True, kw_only=True):
    """The revert succeeded (no failure), or failed."""

    failure: Failure | None


class SnapshotExpungeStarted(SnapshotTransition, frozen=True, kw_only=True):
    """Its checkpoint is about to be removed."""


class SnapshotRemoved(SnapshotTransition, frozen=True, kw_only=True):
    """Its checkpoint is gone and the disks are merged."""


class SnapshotExpungeFailed(SnapshotTransition, frozen=True, kw_only=True):
    """It could not be removed: READY if its checkpoint is intact, else ERROR."""

    failure: Failure
    unmerged: tuple[str, ...] = ()
    """Files that its removed checkpoint left to merge."""


class SnapshotGivenUp(SnapshotTransition, frozen=True, kw_only=True):
    """What became of it could not be determined, or an operator gave it up."""

    failure: Failure
    unmerged: tuple[str, ...] = ()
    """As in SnapshotExpungeFailed."""


class SnapshotCheckpointMissing(SnapshotTransition, frozen=True, kw_only=True):
    """Its checkpoint is gone, or there and not intact: the failure says which."""

    failure: Failure


class SnapshotCheckpointFound(SnapshotTransition, frozen=True, kw_only=True):
    """Its checkpoint was observed there and intact."""

    failure: Failure | None
    """What went wrong with it before, unless this disproves it."""
    with_memory: bool | None = None
    """If it was never READY: what its checkpoint shows. None: it was, and all that is on record."""
    size_bytes: int = 0
    """Likewise."""


class SnapshotAdopted(SnapshotTransition, frozen=True, kw_only=True):
    """Somebody had a foreign checkpoint become a snapshot."""

    checkpoint_id: CheckpointId
    details: SnapshotDetails
    with_memory: bool
    parent_id: SnapshotId | None
    size_bytes: int
    """As of SnapshotCreated."""
    made_at: Time | None
    """By the host's clock; None: the host does not tell."""
    adopter: str
    """Who asked for it."""


class SnapshotForgotten(SnapshotTransition, frozen=True, kw_only=True):
    """Somebody had it taken off the record. Nothing was asked of the host: its checkpoint may still be there."""


class SnapshotCheckpointIdentified(State, frozen=True, kw_only=True):
    """A checkpoint with its marker was observed, where none was known. It keeps its state, and can be deleted."""

    snapshot_id: SnapshotId
    checkpoint_id: CheckpointId


class SnapshotReparented(State, frozen=True, kw_only=True):
    """It has another parent in the tree."""

    snapshot_id: SnapshotId
    from_parent_id: SnapshotId | None
    to_parent_id: SnapshotId | None
    cause: str
    """`step` or `drift`."""


class SnapshotHeld(State, frozen=True, kw_only=True):
    """Somebody holds it: nobody deletes it until it is released."""

    snapshot_id: SnapshotId
    why: str
    """In that person's words; may be empty."""
    request_digest: str


class SnapshotReleased(State, frozen=True, kw_only=True):
    """It may be deleted again."""

    snapshot_id: SnapshotId
    request_digest: str


class SnapshotDetailsChanged(State, frozen=True, kw_only=True):
    """Somebody says something else of it: another name, description, expiry, or other labels."""

    snapshot_id: SnapshotId
    before: SnapshotDetails
    after: SnapshotDetails


SnapshotFact = (
    SnapshotReparented | SnapshotCheckpointIdentified | SnapshotHeld | SnapshotReleased | SnapshotDetailsChanged
)
"""What is recorded of a snapshot that stays in its state."""
SnapshotEvent = (
    SnapshotRequested
    | SnapshotCreationStarted
    | SnapshotCreated
    | SnapshotCreationFailed
    | SnapshotRequestCancelled
    | SnapshotCreationCancelled
    | SnapshotUnwanted
    | SnapshotRevertStarted
    | SnapshotRevertEnded
    | SnapshotExpungeStarted
    | SnapshotRemoved
    | SnapshotExpungeFailed
    | SnapshotGivenUp
    | SnapshotCheckpointMissing
    | SnapshotCheckpointFound
    | SnapshotCheckpointIdentified
    | SnapshotReparented
    | SnapshotHeld
    | SnapshotReleased
    | SnapshotDetailsChanged
    | SnapshotAdopted
    | SnapshotForgotten
)
"""Everything that may happen to a snapshot."""
