"""The views, to read (ports/views.py). Never writes.

Reads are short and indexed, well under a millisecond, so they run where they are asked for and not in a thread.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from projections import audit
from projections.inventory import HOSTS, VMS
from projections.operations import OPERATIONS
from projections.runner import Runner
from projections.tree import SNAPSHOTS
from snapshotd.domain.ids import HostId, SnapshotId, VmId
from snapshotd.ports.plain import encode_time
from snapshotd.ports.views import (
    VIEWS,
    EventQuery,
    HostRow,
    OperationRow,
    ProjectionProgress,
    SnapshotRow,
    ViewName,
    VmRow,
)


class SqliteViews:
    """The views in views.db.

    Args:
        connection: to read.
        runner: knows how far the projections are.
    """

    def __init__(self, connection: sqlite3.Connection, runner: Runner) -> None:
        self._connection = connection
        self._runner = runner

    async def reached(self, position: int, views: Collection[ViewName] = VIEWS) -> None:
        """Return when these views hold the log up to a position. Raises ViewStopped, ViewBehind."""
        await self._runner.reached(position, views)

    def progress(self) -> tuple[ProjectionProgress, ...]:
        """Return how far each projection has come."""
        return self._runner.progress()

    async def hosts(self) -> tuple[HostRow, ...]:
        """Return the registered hosts."""
        counts: Counter[str] = Counter()
        for host_id, count in self._connection.execute(
            "SELECT host_id, COUNT(*) FROM vms WHERE registered GROUP BY host_id"
        ):
            counts[host_id] = count
        rows = HOSTS.find(self._connection, "1", (), "ORDER BY host_id")
        return tuple(replace(row, vm_count=counts[row.host_id]) for row in rows)

    async def host(self, host_id: HostId) -> HostRow | None:
        """Return a registered host."""
        return next((row for row in await self.hosts() if row.host_id == host_id), None)

    async def vms(self) -> tuple[VmRow, ...]:
        """Return the registered VMs."""
        return tuple(VMS.find(self._connection, "registered", (), "ORDER BY name, vm_id"))

    async def vm(self, vm_id: VmId) -> VmRow | None:
        """Return a VM."""
        return VMS.get(self._connection, vm_id)

    async def snapshots(self, vm_id: VmId | None) -> tuple[SnapshotRow, ...]:
        """Return a VM's snapshots, or all."""
        where, values = ("1", ()) if vm_id is None else ("vm_id = ?", (vm_id,))
        return tuple(SNAPSHOTS.find(self._connection, where, values, "ORDER BY requested_at, snapshot_id"))

    async def snapshot(self, vm_id: VmId, snapshot_id: SnapshotId) -> SnapshotRow | None:
        """Return one snapshot."""
        return SNAPSHOTS.get(self._connection, vm_id, snapshot_id)

    async def operation(self, vm_id: VmId, number: int) -> OperationRow | None:
        """Return one operation."""
        return OPERATIONS.get(self._connection, vm_id, number)

    async def operations(self, before: tuple[datetime, str] | None, limit: int) -> tuple[OperationRow, ...]:
        """Return operations, the last requested first."""
        where, values = "1", ()
        if before is not None:
            where, values = "(requested_at, name) < (?, ?)", (encode_time(before[0]), before[1])  # type: ignore[assignment]
        return tuple(
            OPERATIONS.find(self._connection, where, (*values, limit), "ORDER BY requested_at DESC, name DESC LIMIT ?")
        )

    async def active_operations(self) -> tuple[OperationRow, ...]:
        """Return the operations that have not ended."""
        return tuple(OPERATIONS.find(self._connection, "active", (), "ORDER BY requested_at, name"))

    async def event_positions(self, query: EventQuery, beyond: int, limit: int, *, descending: bool) -> tuple[int, ...]:
        """Return positions of matching events in the log."""
        return audit.find(self._connection, query, beyond, limit, descending=descending)
