"""Appends per second of one event each: our event log beside the stock eventsourcing library and beside plain SQL.

All on SQLite, durable (WAL, synchronous=FULL).
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks.progress import Figures, say
from snapshotd.domain.events import JournalIdentified, NewEvent
from snapshotd.domain.ids import VmId, vm_stream
from snapshotd.store.sqlite_log import SqliteEventLog

WRITERS: Final = (1, 16, 64)
APPENDS: Final = 4096
_ROUNDS: Final = 3
_COLUMNS: Final = (
    "stream TEXT NOT NULL, version INTEGER NOT NULL, topic TEXT NOT NULL, state TEXT NOT NULL, "
    "event_id TEXT NOT NULL UNIQUE, time TEXT NOT NULL, actor TEXT NOT NULL, request_id TEXT NOT NULL, "
    "operation TEXT NOT NULL, subject TEXT NOT NULL, from_state TEXT NOT NULL, to_state TEXT NOT NULL, "
    "UNIQUE (stream, version)"
)
"""What the log has of an event, as plain SQL would keep it."""


def measure(directory: Path, figures: Figures) -> None:
    """Append, in turns."""
    say(f"\nappends per second, one event each, durable, SQLite (synchronous=FULL); medians of {_ROUNDS}")
    say(f"{'writers':>8} {'ours':>8} {'stock':>8} {'plain SQL':>10} {'÷ stock':>8} {'÷ plain':>8}")
    for writers in WRITERS:
        rates = []
        for number in range(_ROUNDS):
            place = directory / f"appends-{writers}-{number}"
            place.mkdir()
            rates.append([rate(place, writers, APPENDS) for rate in (ours, stock, plain)])
        own, other, bare = (statistics.median(found) for found in zip(*rates, strict=True))
        figures |= {
            f"appends.{writers}.per_s": own,
            f"appends.{writers}.stock_per_s": other,
            f"appends.{writers}.plain_per_s": bare,
            f"appends.{writers}.ratio_stock": own / other,
            f"appends.{writers}.ratio_plain": own / bare,
        }
        say(f"{writers:>8} {own:>8.0f} {other:>8.0f} {bare:>10.0f} {own / other:>8.2f} {own / bare:>8.2f}")


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


def plain(directory: Path, writers: int, appends: int) -> float:
    """Return appends per second of plain SQL: a transaction each, in `writers` threads that take turns."""
    connection = sqlite3.connect(directory / "plain.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"CREATE TABLE events (position INTEGER PRIMARY KEY, {_COLUMNS})")
    turn = threading.Lock()

    def write(count: int) -> None:
        stream = f"vm/{uuid.uuid4()}"
        for version in range(1, count + 1):
            at = datetime.now(UTC).isoformat(timespec="microseconds")
            row = (stream, version, "snapshotd.vm.journal_identified:1", f'{{"journal_id":"{version}"}}')
            rest = (str(uuid.uuid4()), at, "bench", "", "", "vm", "", "")
            with turn:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(f"INSERT INTO events VALUES (NULL, {', '.join('?' * 12)})", row + rest)  # noqa: S608
                connection.execute("COMMIT")

    with ThreadPoolExecutor(writers) as threads:
        began = time.perf_counter()
        for done in [threads.submit(write, appends // writers) for _ in range(writers)]:
            done.result()
        took = time.perf_counter() - began
    connection.close()
    return appends // writers * writers / took
