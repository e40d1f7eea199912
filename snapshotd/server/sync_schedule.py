"""Decides when a host is synced without anybody having asked: when an executor has attached, then at intervals.

    an executor has attached ──► each host that it is fed for, at once ──┐
                                        it went wrong: soon again  ◄─────┼─────► HostReports.sync
    the clock ──► each host that has an executor, one after another ─────┘

A sync at an interval is quiet: if nothing differs, it is neither recorded nor logged.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from snapshotd.application.hosts import Hosts
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.ids import HostId, VmId
from snapshotd.logs import about
from snapshotd.server.runtime import ITSELF, Runtime
from snapshotd.server.sync import HostReports
from snapshotd.server.troubles import Troubles

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 64
"""How many hosts are synced at a time: a report of many VMs takes memory while it is compared."""
_LOOK_S: Final = 1.0
"""How often the service looks for hosts that are due."""
_SEEK_S: Final = 15.0
"""How often a VM that its host does not have is looked for on the others while an operation waits for it."""
_RETRY_FIRST_S: Final = 5.0
_RETRY_LONGEST_S: Final = 300.0
"""The delay after a failed sync. It doubles each time, up to the interval if that is shorter."""


class SyncSchedule:
    """Decides when each host is synced.

    Args:
        reports: syncs a host.
        hosts: the hosts of the log.
        runtime: knows which hosts have an executor.
        interval_s: from the end of a sync to the next; 0 if only when an executor attaches.
        now_s: returns seconds of a monotonic clock.
        troubles: is told of defects, by host. That a host is not reached is known without it.
    """

    def __init__(
        self,
        reports: HostReports,
        hosts: Hosts,
        runtime: Runtime,
        interval_s: float,
        now_s: Callable[[], float] = time.monotonic,
        troubles: Troubles | None = None,
    ) -> None:
        self._reports = reports
        self._hosts = hosts
        self._runtime = runtime
        self._interval_s = interval_s or math.inf
        self._now_s = now_s
        self._troubles = troubles or Troubles()
        self._due_s: dict[HostId, float] = {}
        self._owed: set[HostId] = set()
        """Hosts not yet synced since an executor attached for them. That sync is recorded."""
        self._failures: dict[HostId, tuple[int, str]] = {}
        """How many syncs of a host failed in a row, and why the last one did."""
        self._sought_s: dict[VmId, float] = {}
        """When a VM that its host does not have is looked for next."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Sync hosts when they are due, until this task is cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                self.look()
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def attached(self, host_ids: Iterable[HostId]) -> None:
        """Sync hosts at once: nobody knows what happened there while no executor served them."""
        for host_id in host_ids:
            self._owed.add(host_id)
            self._begin(host_id)

    def _begin(self, host_id: HostId) -> None:
        self._run(self._in_turn(host_id), f"sync {host_id}")

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_turn(self, host_id: HostId) -> None:
        async with self._places:
            await self._sync(host_id)

    def look(self) -> None:
        """Begin to sync the hosts that are due and have an executor. One that is silent holds up no other."""
        self._seek()
        registered = [host.host_id for host in self._hosts.registered()]
        for gone in self._due_s.keys() - registered:
            del self._due_s[gone]
            self._owed.discard(gone)
            self._failures.pop(gone, None)
            self._troubles.ended(_subject(gone))
        for host_id in registered:
            due_s = self._due_s.setdefault(host_id, self._now_s() + self._interval_s)
            if self._now_s() >= due_s and self._runtime.dispatcher.feeding.fed(host_id) is not None:
                self._due_s[host_id] = math.inf  # until it has run
                self._begin(host_id)

    def _seek(self) -> None:
        """Look on other hosts for VMs that operations wait for, and that their own hosts do not have."""
        now_s, sought = self._now_s(), self._runtime.dispatcher.sought()
        self._sought_s = {vm_id: self._sought_s.get(vm_id, now_s) for vm_id in sought}
        for vm_id in [vm_id for vm_id in sought if now_s >= self._sought_s[vm_id]]:
            self._sought_s[vm_id] = now_s + _SEEK_S
            self._run(self._find(vm_id), f"find {vm_id}")

    async def _find(self, vm_id: VmId) -> None:
        try:
            await self._reports.find(vm_id)
        except SnapshotdError as error:
            facts = about(vm=vm_id, reason=error.reason)
            _log.warning("vm %s could not be looked for on other hosts: %s", vm_id, error, extra=facts)

    async def _sync(self, host_id: HostId) -> None:
        self._due_s[host_id] = math.inf
        try:
            synced = await self._reports.sync(host_id, actor=ITSELF, quiet=host_id not in self._owed)
        except SnapshotdError as error:
            self._troubles.ended(_subject(host_id))
            if self._failed(host_id, error.reason):
                facts = about(host=host_id, reason=error.reason)
                _log.warning("host %s could not be compared with the record: %s", host_id, error, extra=facts)
        except Exception as defect:  # noqa: BLE001
            # A defect on one host must not end the syncs of all hosts.
            self._troubles.failed(_subject(host_id), defect)
            if self._failed(host_id, repr(defect)):
                _log.exception("host %s could not be compared with the record", host_id, extra=about(host=host_id))
        else:
            self._troubles.ended(_subject(host_id))
            recovered = self._failures.pop(host_id, None) is not None
            owed = host_id in self._owed
            self._owed.discard(host_id)
            self._due_s[host_id] = self._now_s() + self._interval_s
            if owed or recovered or synced.drifts:
                text = "host %s: %d VMs compared, %d drifts"
                _log.info(text, host_id, synced.vms, len(synced.drifts), extra=about(host=host_id))

    def _failed(self, host_id: HostId, why: str) -> bool:
        """Schedule the next attempt, later each time. Return whether the last failure had another reason."""
        count, before = self._failures.get(host_id, (0, ""))
        wait_s = min(_RETRY_FIRST_S * 2.0 ** min(count, 10), _RETRY_LONGEST_S, self._interval_s)
        self._due_s[host_id] = self._now_s() + wait_s
        self._failures[host_id] = (count + 1, why)
        return why != before


def _subject(host_id: HostId) -> str:
    return f"sync of host {host_id}"
