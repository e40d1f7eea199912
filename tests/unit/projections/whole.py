"""Whole views, read in one page."""

from __future__ import annotations

from typing import Final

from snapshotd.domain.host import HostRecord
from snapshotd.domain.ids import VmId
from snapshotd.domain.operation import Operation
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.vm_record import VmRecord
from snapshotd.domain.volume_snapshot import VolumeSnapshot
from snapshotd.ports.views import PageQuery, Views, Where

BY_NAME: Final = PageQuery(order=(("name", False),), limit=10_000)
OLDEST_FIRST: Final = PageQuery(order=(("create_time", False), ("name", False)), limit=10_000)


async def hosts(views: Views) -> tuple[HostRecord, ...]:
    """Return the registered hosts, by id."""
    return await views.hosts(BY_NAME)


async def vms(views: Views) -> tuple[VmRecord, ...]:
    """Return the registered VMs, by id."""
    return await views.vms(BY_NAME)


async def snapshots(views: Views, vm_id: VmId) -> tuple[Snapshot, ...]:
    """Return a VM's snapshots of every state, the oldest first."""
    return await views.snapshots(vm_id, OLDEST_FIRST, removed=True)


async def volume_snapshots(views: Views, vm_id: VmId) -> tuple[VolumeSnapshot, ...]:
    """Return a VM's volume snapshots of every state, the oldest first."""
    return await views.volume_snapshots(vm_id, OLDEST_FIRST, removed=True)


async def active(views: Views) -> tuple[Operation, ...]:
    """Return the operations that have not ended, the first requested first."""
    return (await views.operations(None, 10_000, [Where("done", "=", "false")]))[::-1]
