"""The events: what has happened, for ever. One event is one subject and one transition, or one fact.

Their names in the log are explicit and versioned (store/topics.py), so a class may move. A transition records where it
came from and where it led to; a fact has neither. `Envelope` is what the log adds to each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from snapshotd.domain.host_report import Before, VmDescription
from snapshotd.domain.ids import CheckpointId, HostId, OperationName, SnapshotId, StreamId, VmId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, OperationKind, PlannedStep, StopMode

# --- bases ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VmTransition:
    """The VM's activity changed."""

    from_state: VmActivity
    to_state: VmActivity


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTransition:
    """A snapshot's state changed."""

    snapshot_id: SnapshotId
    from_state: SnapshotState
    to_state: SnapshotState


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationTransition:
    """An operation's state changed."""

    number: int
    from_state: OperationState
    to_state: OperationState


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTransition:
    """A step's state changed."""

    number: int
    """Of the operation."""
    step: int
    from_state: StepState
    to_state: StepState


# --- the VM ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRegistered(VmTransition):
    """A VM came under our care."""

    host_id: HostId
    name: str
    owner: str
    """The account that it belongs to."""
    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmUnregistered(VmTransition):
    """A VM was forgotten. Nothing on its host was touched."""

    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmActivityChanged(VmTransition):
    """An operation began, went on with, or ended what it does to the VM."""

    trigger: str
    """The arrow's name in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPowerChanged:
    """The VM was observed in another power than the one on record."""

    from_power: Power
    to_power: Power
    cause: str
    """`step` or `drift`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDescribed:
    """The host described the VM, its disks and its checkpoints, otherwise than is on record."""

    description: VmDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalIdentified:
    """The host named the VM's journal."""

    journal_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentMoved:
    """The snapshot that the VM's disks descend from is another one."""

    from_snapshot_id: SnapshotId | None
    to_snapshot_id: SnapshotId | None
    cause: str
    """`step` or `drift`."""


class DriftKind(Enum):
    """How a host and the record differ (rules.md, section 5)."""

    POWER_STATE_CHANGED = "POWER_STATE_CHANGED"
    VM_MISSING = "VM_MISSING"
    CHECKPOINT_MISSING = "CHECKPOINT_MISSING"
    FOREIGN_CHECKPOINT = "FOREIGN_CHECKPOINT"
    AUTOMATIC_CHECKPOINT = "AUTOMATIC_CHECKPOINT"
    UNRECORDED_CHECKPOINT = "UNRECORDED_CHECKPOINT"
    """Ours by its marker, and not in the log."""
    CHECKPOINT_RENAMED = "CHECKPOINT_RENAMED"
    REPARENTED = "REPARENTED"
    CURRENT_MOVED = "CURRENT_MOVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftDetected:
    """The host was found otherwise than on record, and not by our doing."""

    kind: DriftKind
    detail: str
    checkpoint_id: CheckpointId | None = None
    snapshot_id: SnapshotId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestJoined:
    """A request was answered with an operation that was running already."""

    number: int
    request_digest: str


# --- snapshots ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequested(SnapshotTransition):
    """A snapshot was asked for. Nothing has been asked of the host."""

    name: str
    description: str
    with_memory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCreationStarted(SnapshotTransition):
    """Its checkpoint is about to be asked for."""

    parent_id: SnapshotId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCreated(SnapshotTransition):
    """Its checkpoint is on the host."""

    checkpoint_id: CheckpointId
    with_memory: bool
    """What was made; a fallback that the caller allowed may differ from what was asked for."""
    parent_id: SnapshotId | None
    size_bytes: int
    """The files that hold memory and configuration, and the frozen disk files."""
    cpu_count: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCreationFailed(SnapshotTransition):
    """The host has no checkpoint for it."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequestCancelled(SnapshotTransition):
    """It was cancelled before anything was asked of the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotUnwanted(SnapshotTransition):
    """A checkpoint that is not wanted is there, and will be removed again."""

    checkpoint_id: CheckpointId
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRevertStarted(SnapshotTransition):
    """The VM is about to be brought back to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRevertEnded(SnapshotTransition):
    """The revert succeeded (no failure), or failed."""

    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotExpungeStarted(SnapshotTransition):
    """Its checkpoint is about to be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRemoved(SnapshotTransition):
    """Its checkpoint is gone and the disks are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotExpungeFailed(SnapshotTransition):
    """It could not be removed: READY if its checkpoint is intact, else ERROR."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotGivenUp(SnapshotTransition):
    """What became of it could not be determined, or an operator gave it up."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCheckpointMissing(SnapshotTransition):
    """Its checkpoint was taken away by somebody else."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCheckpointFound(SnapshotTransition):
    """Its checkpoint was observed there and intact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotReparented:
    """Its parent in the tree is another one."""

    snapshot_id: SnapshotId
    from_parent_id: SnapshotId | None
    to_parent_id: SnapshotId | None
    cause: str
    """`step` or `drift`."""


# --- operations -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRequested(OperationTransition):
    """An operation was accepted, with its plan."""

    kind: OperationKind
    snapshot_id: SnapshotId | None
    steps: tuple[PlannedStep, ...]
    power_at_request: Power
    allow_fallback: bool
    stop_mode: StopMode | None
    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStarted(OperationTransition):
    """Its first step is issued in the same append."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSucceeded(OperationTransition):
    """It ended as asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFailed(OperationTransition):
    """It ended otherwise than asked for."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCancelled(OperationTransition):
    """It ended since somebody cancelled it; what it had done is undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """Somebody asked for the operation's end."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoPlanned:
    """What was done will be undone: the steps for it, appended to the plan."""

    number: int
    steps: tuple[PlannedStep, ...]
    failure: Failure | None
    """None: cancelled."""


# --- steps ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIssued(StepTransition):
    """An effect is about to be sent. Its token is this event's version in the stream."""

    attempt: int
    before: Before
    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWaitStarted(StepTransition):
    """The host is polled from now on."""

    watched_files: tuple[str, ...]
    """Chain files before the removal: none of them may be left outside of the chains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(StepTransition):
    """The host is as the step wanted it."""

    observed: bool
    """True: found so by an observation, not told by the command's own answer."""
    checkpoint_id: CheckpointId | None
    has_memory: bool
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(StepTransition):
    """The step ended without its effect."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDueAgain(StepTransition):
    """The step had no effect, for a passing reason, and will be issued again."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcomeUnknown(StepTransition):
    """No answer that settles the step has come. The host will be observed."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationIssued:
    """The host is about to be observed for a step. Its token is this event's version in the stream."""

    number: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationAnswered:
    """The host was observed for a step that is only due: its journal is known now."""

    number: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUndetermined(StepTransition):
    """Observed, and still not known. It is never run again."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSkipped(StepTransition):
    """It was not needed, or the operation ended before it."""


# --- hosts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRegistered:
    """A host was made known. It has not been contacted."""

    address: str
    port: int
    transport: str
    credential: str
    """The name of a credential; never a secret."""
    ca_file: str
    journal_directory: str
    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRemoved:
    """A host was forgotten."""

    request_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSynced:
    """Somebody asked for the host's VMs to be compared with the record, and they were."""

    vms: int
    drifts: int
    skipped: tuple[VmId, ...]
    """VMs that an operation was at work on."""


VmEvent = (
    VmRegistered
    | VmUnregistered
    | VmActivityChanged
    | VmPowerChanged
    | VmDescribed
    | JournalIdentified
    | CurrentMoved
    | DriftDetected
    | RequestJoined
    | SnapshotRequested
    | SnapshotCreationStarted
    | SnapshotCreated
    | SnapshotCreationFailed
    | SnapshotRequestCancelled
    | SnapshotUnwanted
    | SnapshotRevertStarted
    | SnapshotRevertEnded
    | SnapshotExpungeStarted
    | SnapshotRemoved
    | SnapshotExpungeFailed
    | SnapshotGivenUp
    | SnapshotCheckpointMissing
    | SnapshotCheckpointFound
    | SnapshotReparented
    | OperationRequested
    | OperationStarted
    | OperationSucceeded
    | OperationFailed
    | OperationCancelled
    | CancelRequested
    | UndoPlanned
    | StepIssued
    | StepWaitStarted
    | StepDone
    | StepFailed
    | StepDueAgain
    | StepOutcomeUnknown
    | ObservationIssued
    | ObservationAnswered
    | StepUndetermined
    | StepSkipped
)
"""Everything that may stand in a VM's stream."""

HostEvent = HostRegistered | HostRemoved | HostSynced
"""Everything that may stand in a host's stream."""

Event = VmEvent | HostEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event on its way into the log, with what its decider knows of it."""

    event_id: str
    time: datetime
    actor: str
    request_id: str
    operation: OperationName | None
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An event as the log holds it."""

    event_id: str
    stream: StreamId
    version: int
    """In the stream, from 1."""
    position: int
    """In the log, growing, without promise of no gaps."""
    time: datetime
    actor: str
    request_id: str
    operation: OperationName | None
    event: Event


def subject_of(envelope: Envelope) -> str:
    """Name what an event is about: `vm`, `snapshot/<id>`, `operation/<n>`, `step/<n>.<k>` or `host`."""
    event = envelope.event
    if isinstance(event, HostRegistered | HostRemoved | HostSynced):
        return "host"
    if isinstance(event, SnapshotTransition | SnapshotReparented):
        return f"snapshot/{event.snapshot_id}"
    if isinstance(event, StepTransition | ObservationIssued | ObservationAnswered):
        return f"step/{event.number}.{event.step}"
    if isinstance(event, OperationTransition | CancelRequested | UndoPlanned | RequestJoined):
        return f"operation/{event.number}"
    return "vm"


def transition_of(event: Event) -> tuple[str, str]:
    """Return the names of the states that an event led from and to; ("", "") for a fact."""
    if isinstance(event, VmTransition | SnapshotTransition | OperationTransition | StepTransition):
        return event.from_state.name, event.to_state.name
    return "", ""
