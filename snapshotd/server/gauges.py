"""What is read of the daemon for each scrape: nothing is counted or kept for it elsewhere.

Whatever may take long is read a slice at a time, or in a thread, and at most once a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.host_errors import NoExecutor
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, SnapshotState
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.event_log import APPEND_BOUNDS_S
from snapshotd.ports.views import ProjectionState
from snapshotd.server.backend import Backend
from snapshotd.server.paging import in_slices
from snapshotd.server.storage_use import StorageUse

_SURVEY_S: Final = 60.0
"""How often all snapshots are counted, at most."""
_VMS: Final = 1000
"""Of how many VMs at a time."""
_PATIENCE_S: Final = 2.0
"""How long a scrape waits for what is read of a disk. Without it, the scrape goes on."""
_AGES: Final[Sequence[tuple[str, timedelta]]] = (
    ("1d", timedelta(days=1)),
    ("7d", timedelta(days=7)),
    ("30d", timedelta(days=30)),
    ("90d", timedelta(days=90)),
)
"""The ages by which snapshots are counted, the youngest first."""
_UNDER_WAY: Final = frozenset(
    {SnapshotState.ALLOCATED, SnapshotState.CREATING, SnapshotState.REVERTING, SnapshotState.EXPUNGING}
)
"""The states of a snapshot that an operation takes it out of again."""


class Gauges:
    """Reads a daemon.

    Args:
        backend: of the server.
        storage: directory of the log and the views.
        now_s: returns seconds of a monotonic clock.
    """

    def __init__(self, backend: Backend, storage: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._storage = StorageUse(storage)
        self._now_s = now_s
        self._survey: tuple[Metric, ...] = ()
        self._survey_due_s = now_s()

    async def read(self) -> Iterable[Metric]:
        """Return what is known now."""
        return [
            *self._service(),
            *await self._operations(),
            *await self._hosts(),
            *self._log(),
            *self._views(),
            *await self._disk(),
            *await self._snapshots(),
        ]

    def _service(self) -> Iterable[Metric]:
        backend, number = self._backend, len(self._backend.troubles())
        yield InfoMetricFamily("snapshotd_build", "The release that runs.", value={"version": backend.version})
        yield _gauge("snapshotd_start_time_seconds", "When it started, in Unix time.", backend.started_at.timestamp())
        yield _gauge(
            "snapshotd_problems", "How much is wrong with the service just now: snapshotctl status tells what.", number
        )
        attached = len(backend.runtime.dispatcher.feeding)
        yield _gauge("snapshotd_executors_attached", "Executors that are attached.", attached)
        compared = CounterMetricFamily("snapshotd_vms_compared", "VMs that syncs have compared with the record.")
        compared.add_metric([], backend.reports.compared)
        yield compared

    async def _operations(self) -> Iterable[Metric]:
        """Return the operations under way. Of many, some are looked at in each turn of the loop."""
        counts: Counter[tuple[str, str]] = Counter()
        now = self._backend.clock.now()
        overdue, oldest, transient = 0, now, now
        async for some in in_slices(self._backend.runtime.dispatcher.active()):
            for vm in some:
                for operation in vm.active_operations:
                    counts[operation.kind, operation.state.name] += 1
                    oldest = min(oldest, operation.requested_at)
                    overdue += self._backend.overdue_since(operation) is not None
                transient = min([transient, *_transient_since(vm)])
        active = GaugeMetricFamily(
            "snapshotd_operations_active",
            "Operations that have not ended, by kind and state.",
            labels=["kind", "state"],
        )
        for labels, count in sorted(counts.items()):
            active.add_metric(labels, count)
        return (
            active,
            _gauge("snapshotd_operations_overdue", "Operations that take longer than their kind should.", overdue),
            _gauge(
                "snapshotd_oldest_operation_age_seconds",
                "Time since the request of the oldest operation that has not ended; 0: there is none.",
                (now - oldest).total_seconds(),
            ),
            _gauge(
                "snapshotd_oldest_transient_state_age_seconds",
                "Time since a VM or a snapshot entered a state like CREATING, of the one in it longest; 0: none is.",
                (now - transient).total_seconds(),
            ),
        )

    async def _hosts(self) -> Iterable[Metric]:
        reachable = _by_host("reachable", "1: the host answered when it was last tried; 0: it did not, or cannot be.")
        unreachable = GaugeMetricFamily(
            "snapshotd_host_unreachable",
            "1 for a host that does not answer, with the reason.",
            labels=["host", "reason"],
        )
        queue = _by_host("queue_length", "Orders that wait for a slot of the host.")
        slots = _by_host("slots", "Orders that may be under way on the host at a time.")
        taken = _by_host("slots_taken", "Orders that are under way on the host, or being recorded.")
        answered = _by_host("last_answer_timestamp_seconds", "When the host answered last, in Unix time.")
        synced = _by_host("last_sync_timestamp_seconds", "When the host was last compared with the record.")
        dispatcher = self._backend.runtime.dispatcher
        async for some in in_slices(sorted(self._backend.hosts.registered(), key=lambda host: host.host_id)):
            for host in some:
                labels = [host.host_id]
                why = self._why_not(host.host_id)
                if why:
                    unreachable.add_metric([*labels, why], 1)
                if why or dispatcher.reach.answers(host.host_id):
                    reachable.add_metric(labels, not why)
                number, used, waiting = dispatcher.flights.load(host.host_id)
                queue.add_metric(labels, waiting)
                slots.add_metric(labels, number)
                taken.add_metric(labels, used)
                for family, at in (
                    (answered, dispatcher.reach.answered_at.get(host.host_id)),
                    (synced, self._backend.reports.last_synced(host)),
                ):
                    if at is not None:
                        family.add_metric(labels, at.timestamp())
        return (reachable, unreachable, queue, slots, taken, answered, synced)

    def _why_not(self, host_id: HostId) -> str:
        """Return the reason why nothing can be done on a host; empty: it can, or nobody has tried."""
        if self._backend.runtime.dispatcher.feeding.fed(host_id) is None:
            return NoExecutor.reason
        wait = self._backend.why(host_id)
        return wait.failure.reason if wait is not None else ""

    def _log(self) -> Iterable[Metric]:
        log = self._backend.log
        yield _gauge("snapshotd_log_head_position", "Position of the newest event.", log.head_position())
        yield _gauge(
            "snapshotd_log_writable", "1: nothing is known to be in the way of appends.", log.trouble() is None
        )
        work = log.work()
        events = CounterMetricFamily("snapshotd_log_events_appended", "Events that were appended since the start.")
        events.add_metric([], work.events)
        yield events
        took = HistogramMetricFamily(
            "snapshotd_log_append_duration", "Time from asking for an append until it was durable.", unit="seconds"
        )
        bounds = [*(str(bound) for bound in APPEND_BOUNDS_S), "+Inf"]
        took.add_metric([], list(zip(bounds, accumulate(work.within), strict=True)), work.seconds)
        yield took

    def _views(self) -> Iterable[Metric]:
        head = self._backend.log.head_position()
        position = _by_view("position", "Position of the last event in the view.")
        lag = _by_view("lag_events", "Positions that the view is behind the log.")
        stopped = _by_view("stopped", "1: the view has stopped at an event that it cannot take in.")
        for view in self._backend.views.progress():
            position.add_metric([view.name], view.position)
            lag.add_metric([view.name], max(0, head - view.position))
            stopped.add_metric([view.name], view.state is ProjectionState.STOPPED)
        return (position, lag, stopped)

    async def _disk(self) -> Iterable[Metric]:
        use = await self._storage.read(_PATIENCE_S)
        if use is None:
            return ()
        size = GaugeMetricFamily(
            "snapshotd_storage_file_bytes", "Size of a file with what belongs to it.", labels=["file"]
        )
        for name, count in use.files.items():
            size.add_metric([name], count)
        return (
            size,
            _gauge("snapshotd_storage_free_bytes", "Free bytes of the file system of the storage.", use.free),
            _gauge("snapshotd_storage_size_bytes", "Size of the file system of the storage.", use.size),
        )

    async def _snapshots(self) -> Iterable[Metric]:
        """Return the snapshots by age, as they were counted last. If the views cannot be read: as before."""
        if self._now_s() >= self._survey_due_s:
            with suppress(SnapshotdError, TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    self._survey = await self._surveyed(self._backend.clock.now())
            self._survey_due_s = self._now_s() + _SURVEY_S
        return self._survey

    async def _surveyed(self, now: datetime) -> tuple[Metric, ...]:
        before = [now - age for _, age in _AGES]
        older, most, after = [0] * (len(_AGES) + 1), 0, ""
        while (counts := await self._backend.views.snapshot_counts(after, _VMS, before)) is not None:
            older = [known + more for known, more in zip(older, counts.older, strict=True)]
            most, after = max(most, counts.most), counts.last
        total = GaugeMetricFamily("snapshotd_snapshots", "Snapshots of registered VMs.")
        total.add_metric([], older[-1])
        aged = GaugeMetricFamily(
            "snapshotd_snapshots_older", "Snapshots of registered VMs that are older than an age.", labels=["than"]
        )
        for (age, _), count in zip(_AGES, older, strict=False):
            aged.add_metric([age], count)
        return total, aged, _gauge("snapshotd_snapshots_most_per_vm", "The most snapshots that one VM has.", most)


def _transient_since(vm: VirtualMachine) -> Iterable[datetime]:
    """Yield since when a VM, or one of its snapshots, has been in a state that an operation takes it out of again."""
    for operation in vm.active_operations:
        if operation.state is OperationState.RUNNING and operation.started_at is not None:
            yield operation.started_at
    for snapshot in vm.snapshots.values():
        if snapshot.state in _UNDER_WAY:
            yield snapshot.updated_at


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _by_host(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"snapshotd_host_{name}", text, labels=["host"])


def _by_view(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"snapshotd_view_{name}", text, labels=["view"])
