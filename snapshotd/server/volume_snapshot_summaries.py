"""What the events of volume snapshots mean, in a sentence for people. Part of event_summaries.py."""

from __future__ import annotations

from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.server.summary_words import caused, why


def of_volume_snapshot(event: e.VolumeSnapshotEvent, vm: str) -> str:
    """Return what happened. `vm`: how its VM is called."""
    own = f"Volume snapshot {event.volume_snapshot_id} of {vm}"
    match event:
        case e.TemporaryCheckpointExpected() | e.TemporaryCheckpointTaken() | e.TemporaryCheckpointGone():
            return _of_checkpoint(event, own)
        case e.VolumeSnapshotRequested():
            named = f", named '{event.name}'" if event.name else ""
            return f"{own} was asked for: of disk {event.location}{named}, to become {event.target}."
        case e.VolumeSnapshotTaken():
            return f"{own} was taken: {event.path}, {event.size_bytes} bytes, disk {event.identifier}."
        case e.VolumeSnapshotFailed():
            return f"{own} could not be taken{_left(event.left)}{why(event.failure)}"
        case e.VolumeSnapshotCancelled():
            return f"{own} was cancelled; nothing of it is left on the host."
        case e.VolumeSnapshotDeletionStarted():
            return f"{own} is about to be deleted."
        case e.VolumeSnapshotDeletionFailed():
            return f"{own} could not be deleted, and is {event.to_state.name}{why(event.failure)}"
        case e.VolumeSnapshotRemoved():
            return f"{own} is deleted."
        case e.VolumeSnapshotGivenUp():
            return f"{own} was given up, and is {event.to_state.name}{_left(event.left)}{why(event.failure)}"
        case _:
            assert_never(event)


def _of_checkpoint(event: e.TemporaryCheckpointEvent, own: str) -> str:
    match event:
        case e.TemporaryCheckpointExpected():
            return f"{own} needs a checkpoint for a while, whose name ends in {event.marker}."
        case e.TemporaryCheckpointTaken():
            return f"{own} has the temporary checkpoint {event.checkpoint_id}."
        case e.TemporaryCheckpointGone(checkpoint_id=None):
            return f"{own} has no temporary checkpoint: none was made."
        case e.TemporaryCheckpointGone():
            how = caused(event.cause)
            return f"The temporary checkpoint {event.checkpoint_id} of {own[0].lower()}{own[1:]} is gone, {how}."
        case _:
            assert_never(event)


def _left(folders: tuple[str, ...]) -> str:
    return f" (it may have left {', '.join(folders)} on the host)" if folders else ""
