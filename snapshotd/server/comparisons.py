"""The comparisons that the service makes by itself: when an executor has attached, and at intervals from then on.

    an executor has attached ──► each host that it is fed for, at once ──┐
                                        it went wrong: soon again  ◄─────┼─────► HostReports.sync
    the clock ──► each host that has an executor, one after another ─────┘

Those at intervals are quiet: what an idle host is found to be like is neither recorded nor logged.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from snapshotd.application.hosts import Hosts
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.ids import HostId
from snapshotd.server.drive import ITSELF, Drive
from snapshotd.server.sync import HostReports

_log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
"""How often is looked at which host is due."""
_RETRY_FIRST_S: Final = 5.0
_RETRY_LONGEST_S: Final = 300.0
"""After a comparison that went wrong: doubled each time, up to the interval if that is shorter."""


class Comparisons:
    """When which host is compared.

    Args:
        reports: compares a host.
        hosts: the hosts of the log.
        drive: knows which hosts have an executor.
        interval_s: from the end of a comparison to the next; 0: only when an executor attaches.
        now_s: seconds of a monotonic clock.
    """

    def __init__(
        self,
        reports: HostReports,
        hosts: Hosts,
        drive: Drive,
        interval_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reports = reports
        self._hosts = hosts
        self._drive = drive
        self._interval_s = interval_s or math.inf
        self._now_s = now_s
        self._due_s: dict[HostId, float] = {}
        self._owed: set[HostId] = set()
        """Hosts that have not been compared since an executor attached for them: that comparison is on record."""
        self._failures: dict[HostId, tuple[int, str]] = {}
        """How many comparisons of a host went wrong in a row, and why the last one did."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Compare what is due, until cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                await self.look()
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def attached(self, host_ids: Iterable[HostId]) -> None:
        """Have hosts compared at once: what happened there while nobody looked is not known."""
        for host_id in host_ids:
            self._owed.add(host_id)
            task = asyncio.create_task(self._compare(host_id), name=f"compare {host_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def look(self) -> None:
        """Compare the hosts that are due and have an executor, one after another."""
        registered = [host.host_id for host in self._hosts.registered()]
        for gone in self._due_s.keys() - registered:
            del self._due_s[gone]
            self._owed.discard(gone)
            self._failures.pop(gone, None)
        for host_id in registered:
            due_s = self._due_s.setdefault(host_id, self._now_s() + self._interval_s)
            if self._now_s() >= due_s and self._drive.dispatcher.feeding.fed(host_id) is not None:
                await self._compare(host_id)

    async def _compare(self, host_id: HostId) -> None:
        self._due_s[host_id] = math.inf  # while it is under way
        try:
            synced = await self._reports.sync(host_id, actor=ITSELF, quiet=host_id not in self._owed)
        except SnapshotdError as error:
            if self._failed(host_id, error.reason):
                _log.warning("host %s could not be compared with the record: %s", host_id, error)
        except Exception as defect:  # noqa: BLE001
            # A defect of ours on one host must not end the comparisons of all.
            if self._failed(host_id, repr(defect)):
                _log.exception("host %s could not be compared with the record", host_id)
        else:
            recovered = self._failures.pop(host_id, None) is not None
            owed = host_id in self._owed
            self._owed.discard(host_id)
            self._due_s[host_id] = self._now_s() + self._interval_s
            if owed or recovered or synced.drifts:
                _log.info("host %s: %d VMs compared, %d drifts", host_id, synced.compared, len(synced.drifts))

    def _failed(self, host_id: HostId, why: str) -> bool:
        """Have a host compared again, later each time; say whether it went wrong for another reason than last time."""
        count, before = self._failures.get(host_id, (0, ""))
        wait_s = min(_RETRY_FIRST_S * 2.0 ** min(count, 10), _RETRY_LONGEST_S, self._interval_s)
        self._due_s[host_id] = self._now_s() + wait_s
        self._failures[host_id] = (count + 1, why)
        return why != before
