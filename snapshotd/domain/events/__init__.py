"""The events: what has happened, for ever. One event is one subject and one transition, or one fact.

Their names in the log are explicit and versioned (store/topics.py), so a class may move. A transition records where it
came from and where it led to; a fact has neither. `Envelope` is what the log adds to each.
"""

from snapshotd.domain.events.envelope import (
    Envelope,
    Event,
    NewEvent,
    Occasion,
    VmEvent,
    shown_by_host,
    subject_of,
    transition_of,
)
from snapshotd.domain.events.host import HostEvent, HostRegistered, HostRemoved, HostSynced, HostUpdated
from snapshotd.domain.events.operation import (
    CancelRequested,
    MemoryLost,
    OperationCancelled,
    OperationEnd,
    OperationFailed,
    OperationProgress,
    OperationRequested,
    OperationSettled,
    OperationStarted,
    OperationSucceeded,
    OperationTransition,
    UndoPlanned,
)
from snapshotd.domain.events.snapshot import (
    SnapshotCheckpointFound,
    SnapshotCheckpointIdentified,
    SnapshotCheckpointMissing,
    SnapshotCreated,
    SnapshotCreationCancelled,
    SnapshotCreationFailed,
    SnapshotCreationStarted,
    SnapshotEvent,
    SnapshotExpungeFailed,
    SnapshotExpungeStarted,
    SnapshotFact,
    SnapshotGivenUp,
    SnapshotHeld,
    SnapshotReleased,
    SnapshotRemoved,
    SnapshotReparented,
    SnapshotRequestCancelled,
    SnapshotRequested,
    SnapshotRevertEnded,
    SnapshotRevertStarted,
    SnapshotTransition,
    SnapshotUnwanted,
)
from snapshotd.domain.events.step import (
    ObservationAnswered,
    ObservationIssued,
    StepDone,
    StepDueAgain,
    StepEvent,
    StepFailed,
    StepIssued,
    StepNotSent,
    StepOutcomeUnknown,
    StepSkipped,
    StepTransition,
    StepUndetermined,
    StepWaitStarted,
)
from snapshotd.domain.events.virtual_machine import (
    CurrentMoved,
    DriftDetected,
    DriftKind,
    JournalIdentified,
    LogFoundRolledBack,
    RequestJoined,
    VmActivityChanged,
    VmClaimed,
    VmClaimEnded,
    VmDescribed,
    VmMoved,
    VmPowerChanged,
    VmRegistered,
    VmTransition,
    VmUnregistered,
)
