"""One at a time: what decides on a host by the VMs on it, or on a VM by its host being there. Holds no rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from snapshotd.domain.ids import HostId
from snapshotd.server.drive import Drive

T = TypeVar("T")


class HostLocks:
    """A lock for each host, kept while somebody holds or wants it.

    Args:
        drive: has the work done to its end.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._locks: WeakValueDictionary[HostId, asyncio.Lock] = WeakValueDictionary()

    async def alone(self, host_id: HostId, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work comes to, with nobody else at work on the host from its beginning to its end.

        It goes on to its end also if the caller is gone: what it has asked the log for is recorded all the same, and
        whoever comes next must see that.
        """
        lock = self._locks.setdefault(host_id, asyncio.Lock())

        async def run() -> T:
            async with lock:
                return await work()

        return await self._drive.to_the_end(run())
