"""The views, as the server reads them: rows that projections make from the log. No decision reads one.

Every method reads what the view holds by now; `reached` first waits until it holds a position of the log.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Literal, Protocol, TypeAlias

from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.ids import CheckpointId, HostId, OperationName, SnapshotId, VmId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, OperationKind, PlannedStep, StopMode

ViewName: TypeAlias = Literal["inventory", "tree", "operations", "audit"]
VIEWS: Final[tuple[ViewName, ...]] = ("inventory", "tree", "operations", "audit")
"""Hosts and VMs; snapshots; operations; where which event stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """A registered host."""

    host_id: HostId
    address: str
    port: int
    transport: str
    credential: str
    ca_file: str
    journal_directory: str
    registered_at: datetime
    last_sync_at: datetime | None
    vm_count: int
    """Registered VMs on it."""
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRow:
    """A VM that is registered, or was."""

    vm_id: VmId
    host_id: HostId
    name: str
    owner: str
    activity: VmActivity
    registered: bool
    power: Power
    description: VmDescription | None
    """As last reported; None: never."""
    current_id: SnapshotId | None
    active_operations: tuple[OperationName, ...]
    """The one that holds the VM first."""
    registered_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRow:
    """A snapshot, in whatever state."""

    vm_id: VmId
    snapshot_id: SnapshotId
    name: str
    description: str
    with_memory: bool
    requested_with_memory: bool
    state: SnapshotState
    parent_id: SnapshotId | None
    checkpoint_id: CheckpointId | None
    size_bytes: int
    cpu_count: int
    memory_bytes: int
    """The VM's when it was taken; 0: not taken yet."""
    failure: Failure | None
    actor: str
    active_operation: OperationName | None
    requested_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A planned step, and how far it has come."""

    plan: PlannedStep
    state: StepState
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRow:
    """An operation, active or ended."""

    name: OperationName
    vm_id: VmId
    host_id: HostId
    number: int
    kind: OperationKind
    state: OperationState
    snapshot_id: SnapshotId | None
    stop_mode: StopMode | None
    steps: tuple[StepRow, ...]
    actor: str
    request_id: str
    cancel_requested: bool
    undoing: bool
    failure: Failure | None
    """Why it failed, or why it is being undone."""
    requested_at: datetime
    started_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state.active


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Conditions on events; None puts none."""

    vm_id: VmId | None = None
    host_id: HostId | None = None
    snapshot_id: SnapshotId | None = None
    """Events about this snapshot, and those of the operations on it."""
    operation: OperationName | None = None
    actor: str | None = None
    event_type: str | None = None
    """Class name of the event."""
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


class ProjectionState(Enum):
    """The life of a projection."""

    CATCHING_UP = "CATCHING_UP"
    FOLLOWING = "FOLLOWING"
    STOPPED = "STOPPED"
    """At an event that it could not take. Nothing is skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionProgress:
    """How far a projection has come."""

    name: str
    """tree, operations, inventory or audit."""
    position: int
    """Of the last event in it."""
    state: ProjectionState
    failure: str = ""
    """Why it has stopped."""
    stopped_at: datetime | None = None


class Views(Protocol):
    """All views, read by the server."""

    async def reached(self, position: int, views: Collection[ViewName] = VIEWS) -> None:
        """Return when these views hold the log up to a position.

        Raises ViewStopped if one of them has stopped before it, ViewBehind after 10 s.
        """
        ...

    def progress(self) -> tuple[ProjectionProgress, ...]:
        """Return how far each projection has come."""
        ...

    async def hosts(self) -> tuple[HostRow, ...]:
        """Return the registered hosts, by id."""
        ...

    async def host(self, host_id: HostId) -> HostRow | None:
        """Return a registered host."""
        ...

    async def vms(self) -> tuple[VmRow, ...]:
        """Return the registered VMs, by name, then id."""
        ...

    async def vm(self, vm_id: VmId) -> VmRow | None:
        """Return a VM that is registered or was."""
        ...

    async def snapshots(self, vm_id: VmId | None) -> tuple[SnapshotRow, ...]:
        """Return a VM's snapshots, or all; of every state, by time of request, then id."""
        ...

    async def snapshot(self, vm_id: VmId, snapshot_id: SnapshotId) -> SnapshotRow | None:
        """Return one snapshot."""
        ...

    async def operation(self, vm_id: VmId, number: int) -> OperationRow | None:
        """Return one operation."""
        ...

    async def operations(self, before: tuple[datetime, str] | None, limit: int) -> tuple[OperationRow, ...]:
        """Return operations, the last requested first; `before`: (requested_at, name) of the last row seen."""
        ...

    async def active_operations(self) -> tuple[OperationRow, ...]:
        """Return the operations that have not ended, the first requested first."""
        ...

    async def event_positions(self, query: EventQuery, beyond: int, limit: int, *, descending: bool) -> tuple[int, ...]:
        """Return positions of matching events in the log.

        Args:
            query: what they must meet.
            beyond: ascending: only positions above it; descending: only positions below it, 0 for no bound.
            limit: at most so many.
            descending: newest first.
        """
        ...
