"""Reads the views (ports/views.py). Never writes.

Every read runs in one thread of its own, so that none holds up the event loop, however much it finds. It fetches a page
at most, so that none holds up the others for long.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from projections import audit
from projections.inventory import HOSTS, VMS
from projections.operations import OPERATIONS
from projections.reading import reading
from projections.rows import narrowed
from projections.runner import Runner
from projections.tree import SNAPSHOTS, VOLUME_SNAPSHOTS
from snapshotd.domain.host import HostRecord
from snapshotd.domain.ids import (
    HostId,
    OperationName,
    SnapshotId,
    VmId,
    VolumeSnapshotId,
    parse_operation_name,
    vm_stream,
)
from snapshotd.domain.operation import Operation
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.storage_errors import ViewStopped, ViewsUnreadable
from snapshotd.domain.vm_record import VmRecord
from snapshotd.domain.volume_snapshot import VolumeSnapshot
from snapshotd.ports.plain import encode_time
from snapshotd.ports.trouble import Trouble
from snapshotd.ports.views import (
    VIEWS,
    EventQuery,
    PageQuery,
    ProjectionProgress,
    SnapshotCounts,
    ViewName,
    Watch,
    Where,
)

P = ParamSpec("P")
T = TypeVar("T")


class SqliteViews:
    """The views in views.db.

    Args:
        connection: to read.
        runner: knows how far the projections are.
    """

    def __init__(self, connection: sqlite3.Connection, runner: Runner) -> None:
        self._connection = connection
        self._runner = runner
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="views")
        self._whole_at = 0
        """The position up to which a file that is made again has to come before it is read."""

    async def _read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query in the thread, once the file holds what it held before it was made again."""
        if self._whole_at:
            with suppress(ViewStopped):  # who needs that view has been told
                await self._runner.reached(self._whole_at)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: query(self._connection, *args, **kwargs))
        except ViewsUnreadable as error:
            if error.damaged:  # one of the former file is told before `exchange` returns: the thread takes turns
                self._runner.damage.put_nowait(error.detail)
            raise

    def wait_for(self, position: int) -> None:
        """Let reads wait from now on until the views have come to a position: a call may be amid its pages."""
        self._whole_at = position

    async def exchange(self, made: Callable[[], sqlite3.Connection]) -> None:
        """Read by another connection from now on, which is made while nothing is read."""

        def exchange() -> None:
            self._connection = made()

        await asyncio.get_running_loop().run_in_executor(self._thread, exchange)

    def close(self) -> None:
        """Wait for a read under way. The caller closes the connection."""
        self._thread.shutdown()

    async def reached(self, position: int, views: Collection[ViewName] = VIEWS) -> None:
        """Wait until these views hold the log up to a position. Raises ViewStopped, ViewBehind."""
        await self._runner.reached(position, views)

    def trouble(self) -> Trouble | None:
        """Return what keeps the views from following the log just now, or None."""
        return self._runner.trouble

    def watch(self, vm_id: VmId) -> AbstractContextManager[Watch]:
        """Watch a VM."""
        return self._runner.watches.of(vm_stream(vm_id))

    def progress(self) -> tuple[ProjectionProgress, ...]:
        """Return how far each projection has come."""
        return self._runner.progress()

    async def hosts(self, page: PageQuery) -> tuple[HostRecord, ...]:
        """Return registered hosts."""
        return await self._read(HOSTS.page, "registered", (), page)

    async def host(self, host_id: HostId) -> HostRecord | None:
        """Return a registered host."""
        host = await self._read(HOSTS.get, host_id)
        return host if host is not None and host.registered else None

    async def vm_counts(self) -> Mapping[HostId, int]:
        """Return how many registered VMs each host has."""
        return await self._read(_vm_counts)

    async def vms(self, page: PageQuery, *, unregistered: bool = False) -> tuple[VmRecord, ...]:
        """Return registered VMs; `unregistered`: those that were unregistered, too."""
        return await self._read(VMS.page, "1" if unregistered else "registered", (), page)

    async def vm(self, vm_id: VmId) -> VmRecord | None:
        """Return a VM."""
        return await self._read(VMS.get, vm_id)

    async def snapshots(self, vm_id: VmId | None, page: PageQuery, *, removed: bool) -> tuple[Snapshot, ...]:
        """Return snapshots of a VM, or of all registered VMs."""
        where, values = "vm_id IN (SELECT vm_id FROM vms WHERE registered)", ()
        if vm_id is not None:
            where, values = "vm_id = ?", (vm_id,)  # type: ignore[assignment]
        return await self._read(SNAPSHOTS.page, where if removed else f"{where} AND NOT removed", values, page)

    async def standing(self, vm_ids: Collection[VmId]) -> Mapping[VmId, tuple[Snapshot, ...]]:
        """Return the snapshots of each of these VMs that are not REMOVED."""
        return await self._read(_standing, vm_ids)

    async def snapshot_counts(self, after: str, vms: int, before: Sequence[datetime]) -> SnapshotCounts | None:
        """Return how many snapshots the next registered VMs have that have any; None: there are no more."""
        return await self._read(_snapshot_counts, after, vms, [encode_time(time) for time in before])

    async def snapshot(self, vm_id: VmId, snapshot_id: SnapshotId) -> Snapshot | None:
        """Return one snapshot."""
        return await self._read(SNAPSHOTS.get, vm_id, snapshot_id)

    async def volume_snapshots(
        self, vm_id: VmId | None, page: PageQuery, *, removed: bool
    ) -> tuple[VolumeSnapshot, ...]:
        """Return volume snapshots of a VM, or of all VMs."""
        where, values = ("vm_id = ?", [vm_id]) if vm_id is not None else ("1", list[VmId]())
        return await self._read(VOLUME_SNAPSHOTS.page, where if removed else f"{where} AND NOT removed", values, page)

    async def volume_snapshot(self, vm_id: VmId, volume_snapshot_id: VolumeSnapshotId) -> VolumeSnapshot | None:
        """Return one volume snapshot."""
        return await self._read(VOLUME_SNAPSHOTS.get, vm_id, volume_snapshot_id)

    async def display_names(
        self, vms: Collection[VmId], snapshots: Collection[tuple[VmId, SnapshotId]]
    ) -> tuple[Mapping[VmId, str], Mapping[tuple[VmId, SnapshotId], str]]:
        """Return the names of VMs and of snapshots, in whatever state."""
        return await self._read(_display_names, vms, snapshots)

    async def operation(self, name: OperationName) -> Operation | None:
        """Return one operation."""
        parsed = parse_operation_name(name)
        operation = await self._read(OPERATIONS.get, *parsed) if parsed else None
        return operation if operation is not None and operation.name == name else None

    async def operations(
        self, before: tuple[datetime, str] | None, limit: int, where: Sequence[Where] = ()
    ) -> tuple[Operation, ...]:
        """Return operations, the last requested first."""
        condition, values = "1", ()
        if before is not None:
            condition, values = "(requested_at, name) < (?, ?)", (encode_time(before[0]), before[1])  # type: ignore[assignment]
        condition, wanted = narrowed(condition, values, where)
        newest = "ORDER BY requested_at DESC, name DESC LIMIT ?"
        return await self._read(OPERATIONS.find, condition, (*wanted, limit), newest)

    async def failures(self, since: datetime, limit: int) -> tuple[int, tuple[Operation, ...]]:
        """Return how many operations have failed, and the last of them."""
        return await self._read(_failures, encode_time(since), limit)

    async def operations_after(self, position: int, limit: int) -> tuple[tuple[int, OperationName], ...]:
        """Return the positions of the next events that belong to operations, with these."""
        return await self._read(audit.operations_after, position, limit)

    async def event_positions(self, query: EventQuery, beyond: int, limit: int, *, descending: bool) -> tuple[int, ...]:
        """Return positions of matching events in the log."""
        return await self._read(audit.find, query, beyond, limit, descending=descending)


def _vm_counts(connection: sqlite3.Connection) -> Mapping[HostId, int]:
    statement = "SELECT host, COUNT(*) FROM vms WHERE registered GROUP BY host"
    with reading(connection):
        return {HostId(host.removeprefix("hosts/")): count for host, count in connection.execute(statement)}


def _standing(connection: sqlite3.Connection, vm_ids: Collection[VmId]) -> Mapping[VmId, tuple[Snapshot, ...]]:
    of_these = "vm_id IN (SELECT value FROM json_each(?)) AND NOT removed"
    standing: dict[VmId, list[Snapshot]] = {vm_id: [] for vm_id in vm_ids}
    by_time = "ORDER BY vm_id, create_time, name"
    for snapshot in SNAPSHOTS.find(connection, of_these, (json.dumps(list(standing)),), by_time):
        standing[snapshot.vm_id].append(snapshot)
    return {vm_id: tuple(snapshots) for vm_id, snapshots in standing.items()}


def _snapshot_counts(
    connection: sqlite3.Connection, after: str, vms: int, before: Sequence[str]
) -> SnapshotCounts | None:
    """Count along the index of those that are not removed, which is ordered by VM: so the limit bounds the work."""
    each = ", ".join(["SUM(create_time < ?)"] * len(before))
    numbered = ", ".join(f"SUM(n{n})" for n in range(len(before)))
    columns = "".join(f", n{n}" for n in range(len(before)))
    counted = (
        f"WITH counted (vm, n{columns}) AS (SELECT vm_id, COUNT(*), {each} FROM snapshots "  # noqa: S608
        "WHERE NOT removed AND vm_id > ? GROUP BY vm_id "
        "HAVING EXISTS (SELECT 1 FROM vms WHERE vms.vm_id = snapshots.vm_id AND registered) ORDER BY vm_id LIMIT ?) "
        f"SELECT MAX(vm), {numbered}, SUM(n), MAX(n) FROM counted"
    )
    with reading(connection):
        last, *older, most = connection.execute(counted, (*before, after, vms)).fetchone()
    return SnapshotCounts(VmId(last), tuple(older), most) if last is not None else None


def _failures(connection: sqlite3.Connection, since: str, limit: int) -> tuple[int, tuple[Operation, ...]]:
    failed = "failed_at IS NOT NULL AND failed_at >= ?"
    with reading(connection):
        (count,) = connection.execute(f"SELECT count(*) FROM operations WHERE {failed}", (since,)).fetchone()  # noqa: S608
    newest = "ORDER BY failed_at DESC, name DESC LIMIT ?"
    return count, OPERATIONS.find(connection, failed, (since, limit), newest)


def _display_names(
    connection: sqlite3.Connection, vms: Collection[VmId], snapshots: Collection[tuple[VmId, SnapshotId]]
) -> tuple[Mapping[VmId, str], Mapping[tuple[VmId, SnapshotId], str]]:
    of_vm = "SELECT display_name FROM vms WHERE vm_id = ?"
    of_snapshot = "SELECT display_name FROM snapshots WHERE vm_id = ? AND snapshot_id = ?"
    with reading(connection):
        return (
            {vm: name for vm in vms for (name,) in connection.execute(of_vm, (vm,))},
            {own: name for own in snapshots for (name,) in connection.execute(of_snapshot, own)},
        )
