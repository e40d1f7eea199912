"""The views, as the server reads them: the domain's own values, folded by projections. No decision reads one.

Every method reads what the view holds by now; `reached` first waits until it holds a position of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Literal, Protocol, TypeAlias

from snapshotd.domain.host import HostRecord
from snapshotd.domain.ids import HostId, OperationName, SnapshotId, VmId, VolumeSnapshotId
from snapshotd.domain.lifecycle import VmActivity
from snapshotd.domain.names import folded
from snapshotd.domain.operation import Operation
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.vm_record import VmRecord
from snapshotd.domain.volume_snapshot import VolumeSnapshot
from snapshotd.ports.plain import encode_time
from snapshotd.ports.trouble import Trouble

ViewName: TypeAlias = Literal["inventory", "tree", "operations", "audit"]
VIEWS: Final[tuple[ViewName, ...]] = ("inventory", "tree", "operations", "audit")
"""Hosts and VMs; snapshots and volume snapshots; operations; what each event is about."""


def _text(time: datetime | None) -> str:
    return encode_time(time) if time else ""


HOST_FIELDS: Final[Mapping[str, Callable[[HostRecord], str]]] = {
    "name": lambda host: host.host_id,
    "create_time": lambda host: _text(host.registered_at),
}
VM_FIELDS: Final[Mapping[str, Callable[[VmRecord], str]]] = {
    "display_name": lambda vm: vm.name,
    "name": lambda vm: vm.vm_id,
    "create_time": lambda vm: _text(vm.registered_at),
}
NO_ACTIVITY: Final = frozenset({VmActivity.NEW, VmActivity.UNREGISTERED, VmActivity.IDLE})
"""While a VM does one of these, its state is its power."""
VM_SEARCHED: Final[Mapping[str, Callable[[VmRecord], str]]] = {
    "host": lambda vm: f"hosts/{vm.host_id}",
    "owner": lambda vm: vm.owner,
    "power": lambda vm: vm.power.name,
    "state": lambda vm: vm.power.name if vm.activity in NO_ACTIVITY else vm.activity.name,
    "any_case_name": lambda vm: folded(vm.name),
}
"""What VMs are found by quickly besides, as their filter's fields have it."""
SNAPSHOT_FIELDS: Final[Mapping[str, Callable[[Snapshot], str]]] = {
    "create_time": lambda snapshot: _text(snapshot.requested_at),
    "display_name": lambda snapshot: snapshot.name,
    "name": lambda snapshot: snapshot.snapshot_id,
}
VOLUME_SNAPSHOT_FIELDS: Final[Mapping[str, Callable[[VolumeSnapshot], str]]] = {
    "create_time": lambda copy: _text(copy.requested_at),
    "display_name": lambda copy: copy.name,
    "name": lambda copy: copy.volume_snapshot_id,
}
"""The fields that each list can be ordered by. `name` tells every two entries apart."""
OPERATION_FIELDS: Final[Mapping[str, Callable[[Operation], str]]] = {
    "name": lambda operation: operation.name,
    "requested_at": lambda operation: encode_time(operation.requested_at),
    "kind": lambda operation: operation.kind,
    "actor": lambda operation: operation.actor,
    "vm_id": lambda operation: operation.vm_id,
    "snapshot_id": lambda operation: operation.snapshot_id or "",
    "state": lambda operation: operation.state.name,
    "done": lambda operation: "false" if operation.active else "true",
}
"""The columns that operations are found by."""


Compare: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Where:
    """A condition on a column of a list's table."""

    column: str
    compare: Compare
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """Which rows of a list: those after a place in an order."""

    order: tuple[tuple[str, bool], ...]
    """Names of fields, each with whether it descends. `name` is among them."""
    after: tuple[str, ...] | None = None
    """The values of these fields in the last row seen; None: from the start."""
    limit: int
    where: tuple[Where, ...] = ()
    """What the rows meet, all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Conditions on events; None, or empty, for no condition."""

    vm_id: VmId | None = None
    host_id: HostId | None = None
    snapshot_id: SnapshotId | None = None
    """Events about this snapshot, and those of the operations on it."""
    operation: OperationName | None = None
    actors: tuple[str, ...] = ()
    """Events of any of these; empty: of all."""
    event_types: tuple[str, ...] = ()
    """Class names of events, any of them; empty: all."""
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


class ProjectionState(Enum):
    """What a projection is doing."""

    CATCHING_UP = "CATCHING_UP"
    FOLLOWING = "FOLLOWING"
    BEHIND = "BEHIND"
    """Cannot go on just now, whatever the event: no room for the views, say. It goes on by itself when it can."""
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
    """Why it has stopped, or is behind."""
    stopped_at: datetime | None = None
    """When it has stopped, or fell behind."""


@dataclass(frozen=True, slots=True)
class SnapshotCounts:
    """How many snapshots some VMs have that are not REMOVED."""

    last: VmId
    """Of these VMs."""
    older: tuple[int, ...]
    """How many were requested before each of the times asked for; then all of them."""
    most: int
    """The most that one of these VMs has."""


class Watch(Protocol):
    """Notices what the views take in of one VM."""

    async def changed(self, timeout_s: float) -> None:
        """Return when something was taken in since the watch began or since this returned last, or after a time."""
        ...


class Views(Protocol):
    """All views, read by the server."""

    async def reached(self, position: int, views: Collection[ViewName] = VIEWS) -> None:
        """Wait until these views hold the log up to a position.

        Raises ViewStopped if one of them has stopped before it, ViewBehind after 10 s or as soon as they cannot follow.
        """
        ...

    def trouble(self) -> Trouble | None:
        """Return what keeps the views from following the log just now, or None."""
        ...

    def watch(self, vm_id: VmId) -> AbstractContextManager[Watch]:
        """Watch a VM."""
        ...

    def progress(self) -> tuple[ProjectionProgress, ...]:
        """Return how far each projection has come."""
        ...

    async def hosts(self, page: PageQuery) -> tuple[HostRecord, ...]:
        """Return registered hosts."""
        ...

    async def host(self, host_id: HostId) -> HostRecord | None:
        """Return a registered host."""
        ...

    async def vm_counts(self) -> Mapping[HostId, int]:
        """Return how many registered VMs each host has. A host without any is left out."""
        ...

    async def vms(self, page: PageQuery, *, unregistered: bool = False) -> tuple[VmRecord, ...]:
        """Return registered VMs; `unregistered`: those that were unregistered, too."""
        ...

    async def vm(self, vm_id: VmId) -> VmRecord | None:
        """Return a VM that is registered or was."""
        ...

    async def snapshots(self, vm_id: VmId | None, page: PageQuery, *, removed: bool) -> tuple[Snapshot, ...]:
        """Return snapshots.

        Args:
            vm_id: of this VM; None: of all registered VMs.
            page: which of them.
            removed: those that are REMOVED too.
        """
        ...

    async def standing(self, vm_ids: Collection[VmId]) -> Mapping[VmId, tuple[Snapshot, ...]]:
        """Return all snapshots of each of these VMs that are not REMOVED, by time of request, then id."""
        ...

    async def snapshot_counts(self, after: str, vms: int, before: Sequence[datetime]) -> SnapshotCounts | None:
        """Return how many snapshots the next registered VMs have that have any; None: there are no more.

        Args:
            after: id of the last VM of those before; empty: from the start.
            vms: at most so many.
            before: the times by which they are counted.
        """
        ...

    async def snapshot(self, vm_id: VmId, snapshot_id: SnapshotId) -> Snapshot | None:
        """Return one snapshot."""
        ...

    async def volume_snapshots(
        self, vm_id: VmId | None, page: PageQuery, *, removed: bool
    ) -> tuple[VolumeSnapshot, ...]:
        """Return volume snapshots, as `snapshots` does; but None stands for all VMs, registered or not."""
        ...

    async def volume_snapshot(self, vm_id: VmId, volume_snapshot_id: VolumeSnapshotId) -> VolumeSnapshot | None:
        """Return one volume snapshot."""
        ...

    async def display_names(
        self, vms: Collection[VmId], snapshots: Collection[tuple[VmId, SnapshotId]]
    ) -> tuple[Mapping[VmId, str], Mapping[tuple[VmId, SnapshotId], str]]:
        """Return the names of VMs and of snapshots, in whatever state; those that are not on record are left out."""
        ...

    async def operation(self, name: OperationName) -> Operation | None:
        """Return one operation."""
        ...

    async def operations(
        self, before: tuple[datetime, str] | None, limit: int, where: Sequence[Where] = ()
    ) -> tuple[Operation, ...]:
        """Return operations, the last requested first.

        Args:
            before: (requested_at, name) of the last one seen.
            limit: at most so many.
            where: what they meet, all of it; on the columns of OPERATION_FIELDS.
        """
        ...

    async def failures(self, since: datetime, limit: int) -> tuple[int, tuple[Operation, ...]]:
        """Return how many operations have failed since, and the last of them, the newest first."""
        ...

    async def operations_after(self, position: int, limit: int) -> tuple[tuple[int, OperationName], ...]:
        """Return the positions of the next events that belong to operations, with these, as the audit view has it."""
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
