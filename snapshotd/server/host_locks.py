"""One at a time: what decides on a host by the VMs on it, or on a VM by its host being there. Holds no rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from snapshotd.domain.ids import HostId

T = TypeVar("T")


class HostLocks:
    """A lock for each host, kept while somebody holds or wants it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[HostId, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def alone(self, host_id: HostId, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work comes to, with nobody else at work on the host from its beginning to its end.

        It goes on to its end also if the caller is gone: what it has asked the log for is recorded all the same, and
        whoever comes next must see that.
        """
        lock = self._locks.setdefault(host_id, asyncio.Lock())

        async def run() -> T:
            async with lock:
                return await work()

        task = asyncio.create_task(run(), name=f"alone on {host_id}")
        self._tasks.add(task)  # type: ignore[arg-type]  # whatever it returns: the set only keeps it alive
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)
