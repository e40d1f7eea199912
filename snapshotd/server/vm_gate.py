"""Lets requests on VMs go on side by side, and makes them wait while some of the VMs are dealt with together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from snapshotd.domain.ids import VmId


class VmGate:
    """Whoever decides on several VMs, all or none of them, closes them first: then what he has checked stays so."""

    def __init__(self) -> None:
        self._inside: Counter[VmId] = Counter()
        self._closed: set[VmId] = set()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def enter(self, vm_id: VmId) -> AsyncIterator[None]:
        """Wait until a VM is open. It cannot be closed until this is left."""
        async with self._changed:
            await self._changed.wait_for(lambda: vm_id not in self._closed)
            self._inside[vm_id] += 1
        try:
            yield
        finally:
            self._inside[vm_id] -= 1
            if not self._inside[vm_id]:
                del self._inside[vm_id]
            await self._tell()

    @asynccontextmanager
    async def close(self, vm_ids: Collection[VmId]) -> AsyncIterator[None]:
        """Let nobody enter these VMs, and wait until those inside have left. One at a time may do this to a VM."""
        self._closed.update(vm_ids)
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not any(vm_id in self._inside for vm_id in vm_ids))
            yield
        finally:
            self._closed.difference_update(vm_ids)
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
