"""Locks for decisions on a host that depend on its VMs, or the other way round: one at a time. Holds no rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from snapshotd.domain.ids import HostId
from snapshotd.server.runtime import Runtime

T = TypeVar("T")


class HostLocks:
    """A lock for each host, kept while a task holds it or waits for it.

    Args:
        runtime: runs the work to its end.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._locks: WeakValueDictionary[HostId, asyncio.Lock] = WeakValueDictionary()

    async def alone(self, host_id: HostId, work: Callable[[], Awaitable[T]]) -> T:
        """Run work on a host while no other holds its lock, and return the result.

        The work goes on to its end even if the caller is gone: what it asked of the log is recorded all the same, and
        the next one must see that.
        """
        lock = self._locks.setdefault(host_id, asyncio.Lock())

        async def run() -> T:
            async with lock:
                return await work()

        return await self._runtime.to_the_end(run())
