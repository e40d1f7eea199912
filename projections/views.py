"""Reads the views (ports/views.py). Never writes.

Reads are short and indexed, well under a millisecond, so they run where they are asked for and not in a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from datetime import datetime

from projections import audit
from projections.inventory import HOSTS, VMS
from projections.operations import OPERATIONS
from projections.runner import Runner
from projections.store import reading
from projections.tree import SNAPSHOTS
from snapshotd.domain.host import HostRecord
from snapshotd.domain.ids import HostId, OperationName, SnapshotId, VmId, parse_operation_name
from snapshotd.domain.operation import Operation
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VmRecord
from snapshotd.ports.plain import encode_time
from snapshotd.ports.trouble import Trouble
from snapshotd.ports.views import VIEWS, EventQuery, ProjectionProgress, ViewName


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
        """Wait until these views hold the log up to a position. Raises ViewStopped, ViewBehind."""
        await self._runner.reached(position, views)

    def trouble(self) -> Trouble | None:
        """Return what keeps the views from following the log just now, or None."""
        return self._runner.trouble

    def progress(self) -> tuple[ProjectionProgress, ...]:
        """Return how far each projection has come."""
        return self._runner.progress()

    async def hosts(self) -> tuple[HostRecord, ...]:
        """Return the registered hosts."""
        return HOSTS.find(self._connection, "registered", (), "ORDER BY host_id")

    async def host(self, host_id: HostId) -> HostRecord | None:
        """Return a registered host."""
        host = HOSTS.get(self._connection, host_id)
        return host if host is not None and host.registered else None

    async def vm_counts(self) -> Mapping[HostId, int]:
        """Return how many registered VMs each host has."""
        statement = "SELECT host_id, COUNT(*) FROM vms WHERE registered GROUP BY host_id"
        with reading(self._connection):
            return dict(self._connection.execute(statement).fetchall())

    async def vms(self) -> tuple[VmRecord, ...]:
        """Return the registered VMs."""
        return VMS.find(self._connection, "registered", (), "ORDER BY name, vm_id")

    async def vm(self, vm_id: VmId) -> VmRecord | None:
        """Return a VM."""
        return VMS.get(self._connection, vm_id)

    async def snapshots(self, vm_id: VmId | None) -> tuple[Snapshot, ...]:
        """Return a VM's snapshots, or all."""
        where, values = ("1", ()) if vm_id is None else ("vm_id = ?", (vm_id,))
        return SNAPSHOTS.find(self._connection, where, values, "ORDER BY requested_at, snapshot_id")

    async def snapshot(self, vm_id: VmId, snapshot_id: SnapshotId) -> Snapshot | None:
        """Return one snapshot."""
        return SNAPSHOTS.get(self._connection, vm_id, snapshot_id)

    async def operation(self, name: OperationName) -> Operation | None:
        """Return one operation."""
        parsed = parse_operation_name(name)
        operation = OPERATIONS.get(self._connection, *parsed) if parsed else None
        return operation if operation is not None and operation.name == name else None

    async def operations(self, before: tuple[datetime, str] | None, limit: int) -> tuple[Operation, ...]:
        """Return operations, the last requested first."""
        where, values = "1", ()
        if before is not None:
            where, values = "(requested_at, name) < (?, ?)", (encode_time(before[0]), before[1])  # type: ignore[assignment]
        return OPERATIONS.find(
            self._connection, where, (*values, limit), "ORDER BY requested_at DESC, name DESC LIMIT ?"
        )

    async def active_operations(self) -> tuple[Operation, ...]:
        """Return the operations that have not ended."""
        return OPERATIONS.find(self._connection, "active", (), "ORDER BY requested_at, name")

    async def event_positions(self, query: EventQuery, beyond: int, limit: int, *, descending: bool) -> tuple[int, ...]:
        """Return positions of matching events in the log."""
        return audit.find(self._connection, query, beyond, limit, descending=descending)
