"""All events together, and what the log adds to each."""

from __future__ import annotations

from datetime import datetime

from snapshotd.domain.events.access import AccessEvent
from snapshotd.domain.events.export import ExportEvent, VmReleaseEnded
from snapshotd.domain.events.host import HostEvent
from snapshotd.domain.events.operation import (
    OperationProgress,
    OperationRequested,
    OperationTransition,
)
from snapshotd.domain.events.snapshot import (
    SnapshotCheckpointFound,
    SnapshotCheckpointIdentified,
    SnapshotCheckpointMissing,
    SnapshotEvent,
    SnapshotFact,
    SnapshotReparented,
    SnapshotTransition,
)
from snapshotd.domain.events.step import ObservationAnswered, ObservationIssued, StepEvent, StepTransition
from snapshotd.domain.events.virtual_machine import (
    CheckpointIgnored,
    CheckpointNotIgnored,
    CurrentMoved,
    DriftDetected,
    JournalIdentified,
    LogFoundRolledBack,
    LogRollbackDisproved,
    RequestJoined,
    VmActivityChanged,
    VmClaimed,
    VmClaimEnded,
    VmDescribed,
    VmDetailsChanged,
    VmMoved,
    VmPowerChanged,
    VmRegistered,
    VmTakenOver,
    VmTransition,
    VmUnregistered,
)
from snapshotd.domain.events.volume import VolumeEvent
from snapshotd.domain.events.volume_snapshot import (
    TemporaryCheckpointEvent,
    TemporaryCheckpointGone,
    VolumeSnapshotEvent,
    VolumeSnapshotTransition,
)
from snapshotd.domain.ids import OperationName, StreamId
from snapshotd.domain.state import State

VmEvent = (
    VmRegistered
    | VmUnregistered
    | VmActivityChanged
    | VmPowerChanged
    | VmDescribed
    | VmMoved
    | VmClaimed
    | VmClaimEnded
    | VmDetailsChanged
    | JournalIdentified
    | LogFoundRolledBack
    | LogRollbackDisproved
    | VmTakenOver
    | CurrentMoved
    | CheckpointIgnored
    | CheckpointNotIgnored
    | DriftDetected
    | RequestJoined
    | ExportEvent
    | SnapshotEvent
    | VolumeSnapshotEvent
    | OperationRequested
    | OperationProgress
    | StepEvent
)
"""Everything that may stand in a VM's stream."""

Event = VmEvent | HostEvent | VolumeEvent | AccessEvent
"""Everything that may stand in the log."""


class NewEvent(State, frozen=True, kw_only=True):
    """An event on its way into the log, with what its decider knows of it."""

    event_id: str
    time: datetime
    actor: str
    on_behalf_of: str = ""
    """For whom the actor acted, by its own word; empty: for itself."""
    request_id: str
    operation: OperationName | None
    event: Event


class Occasion(State, frozen=True, kw_only=True):
    """When, where in the stream and for whom an event happened: what a fold needs besides the event."""

    version: int
    """In the stream, from 1."""
    time: datetime
    actor: str
    request_id: str


class Envelope(Occasion, frozen=True, kw_only=True):
    """An event as the log holds it."""

    event_id: str
    stream: StreamId
    position: int
    """In the log. It grows, and may leave gaps."""
    operation: OperationName | None
    event: Event
    on_behalf_of: str = ""
    """As in NewEvent."""


# A union is made once: to make it anew costs more than to ask for it, and each event is asked for several.
_OfSnapshot = SnapshotTransition | SnapshotFact
_OfVolumeSnapshot = VolumeSnapshotTransition | TemporaryCheckpointEvent
_OfStep = StepTransition | ObservationIssued | ObservationAnswered
_OfOperation = OperationTransition | OperationProgress | RequestJoined
_Transition = VmTransition | SnapshotTransition | VolumeSnapshotTransition | OperationTransition | StepTransition
_WithCause = VmPowerChanged | VmMoved | VmReleaseEnded | CurrentMoved | SnapshotReparented | TemporaryCheckpointGone
_Shown = (
    DriftDetected
    | VmDescribed
    | VmClaimed
    | VmClaimEnded
    | JournalIdentified
    | LogFoundRolledBack
    | SnapshotCheckpointMissing
    | SnapshotCheckpointFound
    | SnapshotCheckpointIdentified
)
"""What only a host's report shows."""


def subject_of(event: Event) -> str:
    """Return what an event is about: `vm`, `snapshot/<id>`, `operation/<n>`, `step/<n>.<k>`, `host`, ...

    Further ones: `volumeSnapshot/<id>`, `access`. A claim on a volume is about the VM that it names.
    """
    if isinstance(event, HostEvent):
        return "host"
    if isinstance(event, AccessEvent):
        return "access"
    if isinstance(event, _OfSnapshot):
        return f"snapshot/{event.snapshot_id}"
    if isinstance(event, _OfVolumeSnapshot):
        return f"volumeSnapshot/{event.volume_snapshot_id}"
    if isinstance(event, _OfStep):
        return f"step/{event.number}.{event.step}"
    if isinstance(event, _OfOperation):
        return f"operation/{event.number}"
    return "vm"


def transition_of(event: Event) -> tuple[str, str]:
    """Return the names of the states that an event led from and to; ("", "") for a fact."""
    if isinstance(event, _Transition):
        return event.from_state.name, event.to_state.name
    return "", ""


def shown_by_host(event: Event) -> bool:
    """Return whether an event tells what a host shows by itself. Then the host is its actor, whoever had it asked."""
    if isinstance(event, _WithCause):
        return event.cause == "drift"
    return isinstance(event, _Shown)
