"""The five lifecycles: VM activity, snapshot, volume snapshot, operation and step.

If an arrow is not in these tables, it cannot happen.

The tables are data, loaded into one `transitions` machine each. The machines have no model:
they are looked up, never run, since a machine per aggregate costs 100 us and injects attributes into its model.
`decide` finds the destination here and records it; `evolve` applies what was recorded (docs/adr/0007).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from transitions import Machine

from snapshotd.domain.errors import IllegalTransition

StateT = TypeVar("StateT", bound=Enum)


class Power(Enum):
    """What was last observed of a VM's power."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    PAUSED = "PAUSED"
    SAVED = "SAVED"
    UNKNOWN = "UNKNOWN"
    """In between two others, or a critical state of Hyper-V."""
    ABSENT = "ABSENT"
    """Its host does not have it."""


class VmActivity(Enum):
    """What a VM's active operation is doing to it."""

    NEW = "NEW"
    """Not on record yet. Stands only as the `from` of the first event."""
    UNREGISTERED = "UNREGISTERED"
    """Forgotten by us, untouched on its host."""
    IDLE = "IDLE"
    """No operation holds it."""
    STARTING = "STARTING"
    STOPPING = "STOPPING"
    SNAPSHOTTING = "SNAPSHOTTING"
    REVERTING = "REVERTING"
    EXPUNGING = "EXPUNGING"
    """A checkpoint of it is being removed. A merge that is merely waited for does not count."""
    RECONFIGURING = "RECONFIGURING"
    EXPORTING = "EXPORTING"
    DESTROYING = "DESTROYING"
    DESTROYED = "DESTROYED"
    """Removed from its host by us; its history stays."""


class SnapshotState(Enum):
    """Where a snapshot stands. Resting: READY, ERROR, REMOVED."""

    NEW = "NEW"
    """Not on record yet. Stands only as the `from` of the first event."""
    ALLOCATED = "ALLOCATED"
    """Requested; nothing has been asked of the host."""
    CREATING = "CREATING"
    READY = "READY"
    """Its checkpoint is on the host."""
    REVERTING = "REVERTING"
    EXPUNGING = "EXPUNGING"
    """Its checkpoint is being removed, or the disks are being merged."""
    ERROR = "ERROR"
    """Its checkpoint is missing, or not known to be intact. Can be deleted."""
    REMOVED = "REMOVED"


class VolumeSnapshotState(Enum):
    """Where a volume snapshot stands. Resting: READY, ERROR, REMOVED."""

    NEW = "NEW"
    """Not on record yet. Stands only as the `from` of the first event."""
    CREATING = "CREATING"
    """Requested; the disk is being copied, or will be."""
    READY = "READY"
    """Its file is complete, and on record with its identity."""
    DELETING = "DELETING"
    """Its file is being deleted."""
    ERROR = "ERROR"
    """There is no complete file, or nobody knows. Can be deleted, with what was left of it."""
    REMOVED = "REMOVED"


class OperationState(Enum):
    """Where an operation stands. It holds or reserves its VM while PENDING or RUNNING."""

    NEW = "NEW"
    """Not on record yet. Stands only as the `from` of the first event."""
    PENDING = "PENDING"
    """Accepted; its first step has not been issued."""
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def active(self) -> bool:
        """Whether it was requested and has not ended."""
        return self in (OperationState.PENDING, OperationState.RUNNING)


class StepState(Enum):
    """Where a step of an operation stands."""

    NEW = "NEW"
    """Not in the plan yet. No event has it: a planned step begins as DUE."""
    DUE = "DUE"
    ISSUED = "ISSUED"
    """Its command may be on its way or at work."""
    WAITING = "WAITING"
    """The host is polled for something that it does by itself."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """No usable answer came: never assumed to be a failure, never blindly run again."""
    DONE = "DONE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    UNDETERMINED = "UNDETERMINED"
    """Observed, and still not known. Never run again."""

    @property
    def at_rest(self) -> bool:
        """Whether the step has ended."""
        return self in (StepState.DONE, StepState.FAILED, StepState.SKIPPED, StepState.UNDETERMINED)


@dataclass(frozen=True, slots=True)
class Arrow(Generic[StateT]):
    """One legal transition: `trigger` takes each of `sources` to `dest`."""

    trigger: str
    sources: tuple[StateT, ...]
    dest: StateT


class Lifecycle(Generic[StateT]):
    """One table of arrows, loaded into a model-less `transitions` machine, and looked up in what that makes of it."""

    def __init__(self, name: str, states: type[StateT], arrows: tuple[Arrow[StateT], ...]) -> None:
        """Load the arrows into a machine. A trigger must not leave one state by two arrows."""
        self.name = name
        self.states = states
        self.arrows = arrows
        machine = Machine(model=None, states=states, initial=None, auto_transitions=False)
        self._dests: dict[tuple[str, str], StateT] = {}
        """By trigger and source. The machine's own search takes 30 times as long, and a decision looks up a dozen."""
        for arrow in arrows:
            for source in arrow.sources:
                assert not machine.get_transitions(arrow.trigger, source), (name, arrow.trigger, source)
                machine.add_transition(arrow.trigger, source, arrow.dest)
                found = machine.get_transitions(arrow.trigger, source)[0].dest
                assert found is not None, (arrow.trigger, source)
                self._dests[arrow.trigger, source.name] = states[found]

    def dest(self, trigger: str, source: StateT) -> StateT:
        """Return where `trigger` leads from `source`.

        Raises IllegalTransition if no arrow of that name leaves `source`.
        """
        dest = self._dests.get((trigger, source.name))
        if dest is None:
            raise IllegalTransition(self.name, trigger, source.name)
        return dest

    def allows(self, trigger: str, source: StateT) -> bool:
        """Return whether `trigger` may happen in `source`."""
        return (trigger, source.name) in self._dests

    def pairs(self) -> Iterator[tuple[str, StateT, StateT]]:
        """Yield every (trigger, source, destination), in the order of the table."""
        for arrow in self.arrows:
            for source in arrow.sources:
                yield arrow.trigger, source, arrow.dest


_V = VmActivity
VM = Lifecycle(
    "VM",
    VmActivity,
    (
        Arrow("registered", (_V.NEW, _V.UNREGISTERED), _V.IDLE),
        Arrow("unregistered", (_V.IDLE,), _V.UNREGISTERED),
        Arrow("start_begins", (_V.IDLE,), _V.STARTING),
        Arrow("stop_begins", (_V.IDLE,), _V.STOPPING),
        Arrow("restart_goes_on", (_V.STOPPING,), _V.STARTING),
        Arrow("snapshot_begins", (_V.IDLE,), _V.SNAPSHOTTING),
        Arrow("revert_begins", (_V.IDLE,), _V.REVERTING),
        Arrow("revert_begins_with_start", (_V.IDLE,), _V.STARTING),
        Arrow("revert_begins_with_stop", (_V.IDLE,), _V.STOPPING),
        Arrow("revert_begins_with_safety_snapshot", (_V.IDLE,), _V.SNAPSHOTTING),
        Arrow("safety_snapshot_taken", (_V.SNAPSHOTTING,), _V.REVERTING),
        Arrow("safety_snapshot_taken_start_next", (_V.SNAPSHOTTING,), _V.STARTING),
        Arrow("safety_snapshot_taken_stop_next", (_V.SNAPSHOTTING,), _V.STOPPING),
        Arrow("preparation_ended", (_V.STARTING, _V.STOPPING), _V.REVERTING),
        Arrow("delete_begins", (_V.IDLE,), _V.EXPUNGING),
        Arrow("volume_snapshot_begins", (_V.IDLE,), _V.SNAPSHOTTING),
        Arrow("only_merge_left", (_V.EXPUNGING, _V.SNAPSHOTTING), _V.IDLE),
        Arrow("reconfiguration_begins", (_V.IDLE,), _V.RECONFIGURING),
        Arrow("discard_begins", (_V.IDLE,), _V.EXPUNGING),
        Arrow("discard_ended", (_V.EXPUNGING,), _V.RECONFIGURING),
        Arrow("unwanted_removal_begins", (_V.SNAPSHOTTING,), _V.EXPUNGING),
        Arrow("export_follows", (_V.SNAPSHOTTING,), _V.EXPORTING),
        Arrow("export_begins", (_V.IDLE,), _V.EXPORTING),
        Arrow("destroy_begins", (_V.IDLE,), _V.DESTROYING),
        Arrow("gone_from_host", (_V.DESTROYING,), _V.DESTROYED),
        Arrow(
            "operation_released",
            (
                _V.STARTING,
                _V.STOPPING,
                _V.SNAPSHOTTING,
                _V.REVERTING,
                _V.EXPUNGING,
                _V.RECONFIGURING,
                _V.EXPORTING,
                _V.DESTROYING,
            ),
            _V.IDLE,
        ),
    ),
)
"""VM activity."""

_P = Power
NEEDS_POWER: dict[str, frozenset[Power]] = {
    "start_begins": frozenset({_P.STOPPED, _P.SAVED, _P.PAUSED}),
    "stop_begins": frozenset({_P.RUNNING, _P.PAUSED, _P.SAVED}),
    "snapshot_begins": frozenset({_P.RUNNING, _P.STOPPED}),
    "volume_snapshot_begins": frozenset({_P.RUNNING, _P.STOPPED}),
    "revert_begins": frozenset({_P.RUNNING, _P.STOPPED, _P.PAUSED, _P.SAVED}),
    "revert_begins_with_start": frozenset({_P.STOPPED, _P.PAUSED, _P.SAVED}),
    "revert_begins_with_stop": frozenset({_P.RUNNING, _P.PAUSED, _P.SAVED}),
    "revert_begins_with_safety_snapshot": frozenset({_P.RUNNING, _P.STOPPED}),
    "delete_begins": frozenset(Power) - {_P.UNKNOWN, _P.ABSENT},
    "reconfiguration_begins": frozenset(Power) - {_P.UNKNOWN, _P.ABSENT},
    "discard_begins": frozenset({_P.STOPPED}),
    "export_begins": frozenset({_P.RUNNING, _P.STOPPED}),
    "destroy_begins": frozenset(Power) - {_P.UNKNOWN},
}
"""The power in which an activity may begin (docs/lifecycles.md, last table)."""

_S = SnapshotState
SNAPSHOT = Lifecycle(
    "snapshot",
    SnapshotState,
    (
        Arrow("requested", (_S.NEW,), _S.ALLOCATED),
        Arrow("creation_starts", (_S.ALLOCATED,), _S.CREATING),
        Arrow("cancelled_before_start", (_S.ALLOCATED,), _S.REMOVED),
        Arrow("failed_before_start", (_S.ALLOCATED,), _S.ERROR),
        Arrow("created", (_S.CREATING,), _S.READY),
        Arrow("creation_failed", (_S.CREATING,), _S.ERROR),
        Arrow("creation_cancelled", (_S.CREATING,), _S.REMOVED),
        Arrow("unwanted", (_S.CREATING,), _S.EXPUNGING),
        Arrow("revert_starts", (_S.READY,), _S.REVERTING),
        Arrow("revert_ended", (_S.REVERTING,), _S.READY),
        Arrow("expunge_starts", (_S.READY, _S.ERROR), _S.EXPUNGING),
        Arrow("removed", (_S.EXPUNGING,), _S.REMOVED),
        Arrow("expunge_failed_intact", (_S.EXPUNGING,), _S.READY),
        Arrow("expunge_failed", (_S.EXPUNGING,), _S.ERROR),
        Arrow("checkpoint_missing", (_S.READY,), _S.ERROR),
        Arrow("checkpoint_found", (_S.ERROR,), _S.READY),
        Arrow("adopted", (_S.NEW,), _S.READY),
        Arrow("forgotten", (_S.READY, _S.ERROR), _S.REMOVED),
        Arrow("given_up", (_S.ALLOCATED, _S.CREATING, _S.REVERTING, _S.EXPUNGING), _S.ERROR),
    ),
)
"""Snapshot."""

_C = VolumeSnapshotState
VOLUME_SNAPSHOT = Lifecycle(
    "volume snapshot",
    VolumeSnapshotState,
    (
        Arrow("requested", (_C.NEW,), _C.CREATING),
        Arrow("taken", (_C.CREATING,), _C.READY),
        Arrow("taking_failed", (_C.CREATING,), _C.ERROR),
        Arrow("taking_cancelled", (_C.CREATING,), _C.REMOVED),
        Arrow("deletion_starts", (_C.READY, _C.ERROR), _C.DELETING),
        Arrow("removed", (_C.DELETING,), _C.REMOVED),
        Arrow("deletion_failed_intact", (_C.DELETING,), _C.READY),
        Arrow("deletion_failed", (_C.DELETING,), _C.ERROR),
        Arrow("given_up", (_C.CREATING, _C.DELETING), _C.ERROR),
    ),
)
"""Volume snapshot."""

_O = OperationState
OPERATION = Lifecycle(
    "operation",
    OperationState,
    (
        Arrow("requested", (_O.NEW,), _O.PENDING),
        Arrow("started", (_O.PENDING,), _O.RUNNING),
        Arrow("succeeded", (_O.RUNNING,), _O.SUCCEEDED),
        Arrow("failed", (_O.PENDING, _O.RUNNING), _O.FAILED),
        Arrow("cancelled", (_O.PENDING, _O.RUNNING), _O.CANCELLED),
    ),
)
"""Operation."""

_T = StepState
STEP = Lifecycle(
    "step",
    StepState,
    (
        Arrow("planned", (_T.NEW,), _T.DUE),
        Arrow("issued", (_T.DUE,), _T.ISSUED),
        Arrow("wait_starts", (_T.DUE,), _T.WAITING),
        Arrow("skipped", (_T.DUE,), _T.SKIPPED),
        Arrow("outcome_unknown", (_T.ISSUED,), _T.OUTCOME_UNKNOWN),
        Arrow("due_again", (_T.ISSUED, _T.OUTCOME_UNKNOWN), _T.DUE),
        Arrow("not_sent", (_T.ISSUED,), _T.DUE),
        Arrow("done", (_T.ISSUED, _T.OUTCOME_UNKNOWN, _T.WAITING), _T.DONE),
        Arrow("failed", (_T.ISSUED, _T.OUTCOME_UNKNOWN, _T.WAITING), _T.FAILED),
        Arrow("undetermined", (_T.OUTCOME_UNKNOWN,), _T.UNDETERMINED),
    ),
)
"""Step of an operation."""

LIFECYCLES: tuple[
    Lifecycle[VmActivity]
    | Lifecycle[SnapshotState]
    | Lifecycle[VolumeSnapshotState]
    | Lifecycle[OperationState]
    | Lifecycle[StepState],
    ...,
] = (
    VM,
    SNAPSHOT,
    VOLUME_SNAPSHOT,
    OPERATION,
    STEP,
)
"""All five, for tests and diagrams."""
