"""Appends per second of one event each: our event log beside the stock eventsourcing library, both on SQLite."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from snapshotd.domain.events import JournalIdentified, NewEvent
from snapshotd.domain.ids import VmId, vm_stream
from snapshotd.store.sqlite_log import SqliteEventLog


class Counter(Aggregate):
    """The aggregate that the stock library saves."""

    @event("Counted")
    def count(self, journal_id: str) -> None:
        """Trigger an event."""
        self.journal_id = journal_id


def ours(directory: Path, writers: int, appends: int) -> float:
    """Return appends per second of our log, with `writers` concurrent callers, each on its own stream."""

    async def write(log: SqliteEventLog, count: int) -> None:
        stream = vm_stream(VmId(str(uuid.uuid4())))
        for version in range(count):
            new = NewEvent(
                event_id=str(uuid.uuid4()),
                time=datetime.now(UTC),
                actor="bench",
                request_id="",
                operation=None,
                event=JournalIdentified(journal_id=str(version)),
            )
            await log.append(stream, version, [new])

    async def measure() -> float:
        with SqliteEventLog(directory / "ours.db") as log:
            began = time.perf_counter()
            await asyncio.gather(*(write(log, appends // writers) for _ in range(writers)))
            return appends // writers * writers / (time.perf_counter() - began)

    return asyncio.run(measure())


def stock(directory: Path, writers: int, appends: int) -> float:
    """Return appends per second of the stock library, whose `save` blocks, in `writers` threads."""
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(directory / "stock.db"),
        "SQLITE_LOCK_TIMEOUT": "30",
    }
    application: Application[uuid.UUID] = Application(env=environment)

    def write(count: int) -> None:
        aggregate = Counter()
        for version in range(count):
            if version:
                aggregate.count(str(version))
            application.save(aggregate)

    with ThreadPoolExecutor(writers) as threads:
        began = time.perf_counter()
        for done in [threads.submit(write, appends // writers) for _ in range(writers)]:
            done.result()
        took = time.perf_counter() - began
    application.close()
    return appends // writers * writers / took
