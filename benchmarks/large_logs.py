"""Large logs, written straight into the tables once, and kept under build/ with their views until the product changes.

A log is named by its shape: how many VMs of each kind of life it holds, on how many hosts. It is kept under a digest of
what the product records of one such life, so one that the product would write in another way is made again. The views
are made by the product, from the log.
"""

from __future__ import annotations

import asyncio
import pickle
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.lives import LOG, Layout, Recorded, record
from benchmarks.progress import say
from benchmarks.stamping import APART, TOGETHER, Life, Row, Stamp, host_of
from projections.rebuild import rebuild
from snapshotd.store.sqlite_log import SqliteEventLog

KEPT: Final = Path(__file__).resolve().parents[1] / "build" / "large-logs"
_VIEWS: Final = "views.db"
_CACHE_KB: Final = 1_500_000
_GROUPS_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Shape:
    """What a log holds: how many VMs of each kind of life, spread evenly over hosts."""

    vms: tuple[tuple[str, int], ...]
    hosts: int = 100

    @property
    def name(self) -> str:
        """A name for a directory."""
        lives = "-".join(f"{count}-{life.replace(' ', '-')}" for life, count in self.vms)
        return f"{lives}-on-{self.hosts}"

    @property
    def count(self) -> int:
        """How many VMs there are."""
        return sum(count for _, count in self.vms)


@dataclass(frozen=True, slots=True)
class Kept:
    """A log that is kept: its directory, its shape, the lives in it, and how many events it has."""

    directory: Path
    shape: Shape
    lives: Mapping[str, Recorded]
    events: int

    @property
    def span(self) -> timedelta:
        """For how long the lives in it begin."""
        return -(-self.shape.count // TOGETHER) * APART

    def vm_ids(self, life: str) -> Iterator[str]:
        """Yield the VMs of a kind of life."""
        count = dict(self.shape.vms)[life]
        return (self.lives[life].vm.vm_id(number) for number in range(count))

    @contextmanager
    def copied(self) -> Iterator[Path]:
        """Yield a directory with a copy of the files, for a daemon that may write to them."""
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="copy-", dir=KEPT) as name:
            for file in (LOG, _VIEWS):
                shutil.copy(self.directory / file, name)
            yield Path(name)


def with_events(events: int, vms: int, active: int = 0) -> Shape:
    """Return the shape of a log with about that many events of that many VMs: as many have snapshots as it takes."""
    each = {life: recorded(life).vm.events for life in ("registered", "with snapshots", "active")}
    left = events - vms * each["registered"] - active * (each["active"] - each["registered"])
    richer = max(0, round(left / (each["with snapshots"] - each["registered"])))
    assert richer + active <= vms, (events, vms, active)
    lives = {"with snapshots": richer, "registered": vms - richer - active, "active": active}
    return Shape(tuple((life, count) for life, count in lives.items() if count))


def kept(shape: Shape) -> Kept:
    """Return the log of a shape; it is made if there is none, or none that the product would write so."""
    lives = {life: recorded(life) for life, _ in shape.vms}
    directory = KEPT / f"{shape.name}-{'-'.join(life.digest for life in lives.values())}"
    events = shape.hosts + sum(lives[life].vm.events * count for life, count in shape.vms)
    found = directory / "lives.pickle"
    if not found.exists():
        for stale in KEPT.glob(f"{shape.name}-*"):
            shutil.rmtree(stale)
        directory.mkdir(parents=True)
        say(f"  writing a log of {events:,} events of {shape.count:,} VMs, once")
        write(directory, shape, lives)
        found.write_bytes(pickle.dumps((shape, lives, events)))
    return open_kept(directory)


def open_kept(directory: Path) -> Kept:
    """Return the log in a directory. Its ids are those that it was written with."""
    shape, lives, events = pickle.loads((directory / "lives.pickle").read_bytes())  # noqa: S301  (written above)
    return Kept(directory, shape, lives, events)


@cache
def recorded(life: str) -> Recorded:
    """Return a kind of life as the product records it now."""
    say(f"  recording the life of a VM: {life}")
    with tempfile.TemporaryDirectory(prefix="snapshotd-bench-") as name:
        return record(life, Path(name))


def write(directory: Path, shape: Shape, lives: Mapping[str, Recorded]) -> None:
    """Write a log into a new directory, and have its views made."""
    layout = next(iter(lives.values())).layout
    connection = _made(directory / LOG, layout)
    head = 0
    rows: dict[str, list[Row]] = defaultdict(list)
    for number, (life, stamps) in enumerate(_groups(shape, lives)):
        for stamp in stamps:
            for table, row in life.stamp(stamp):
                rows[table].append(row)
        head += life.events * len(stamps)
        if number % _GROUPS_AT_ONCE == 0:
            _insert(connection, rows)
    _insert(connection, rows)
    _finish(connection, layout, head)
    with SqliteEventLog(directory / LOG) as log:
        reached = asyncio.run(rebuild(log, directory / _VIEWS))
    assert reached == head, (reached, head)


def _groups(shape: Shape, lives: Mapping[str, Recorded]) -> Iterator[tuple[Life, list[Stamp]]]:
    """Yield the lives that go on together, in the order of the log: first the hosts, then VMs."""
    host = next(iter(lives.values())).host
    yield host, [Stamp(n, host_of(n), 0, n, shape.hosts, 1) for n in range(shape.hosts)]
    head, group, vms = shape.hosts * host.events, 1, 0
    for name, count in shape.vms:
        life = lives[name].vm
        for first in range(0, count, TOGETHER):
            size = min(TOGETHER, count - first)
            yield (
                life,
                [Stamp(first + n, host_of((vms + n) % shape.hosts), group, n, size, head + 1) for n in range(size)],
            )
            head, group, vms = head + life.events * size, group + 1, vms + size


def by_host(found: Kept) -> dict[str, dict[str, tuple[Recorded, int]]]:
    """Return each host's VMs: the kind of life of each, and its number in that."""
    hosts: dict[str, dict[str, tuple[Recorded, int]]] = defaultdict(dict)
    vms = 0
    for name, count in found.shape.vms:
        life = found.lives[name]
        for number in range(count):
            hosts[host_of(vms % found.shape.hosts)][life.vm.vm_id(number)] = life, number
            vms += 1
    return dict(hosts)


def _made(path: Path, layout: Layout) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (
        *(f"application_id = {layout.application_id}", f"user_version = {layout.user_version}"),
        *("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", f"cache_size = -{_CACHE_KB}"),
    ):
        connection.execute(f"PRAGMA {pragma}")
    for statement in layout.statements:
        if statement.startswith("CREATE TABLE"):
            connection.execute(statement)
    return connection


def _insert(connection: sqlite3.Connection, tables: dict[str, list[Row]]) -> None:
    """Write rows, those of each table in the order of its first column, and forget them."""
    connection.execute("BEGIN")
    for table, rows in tables.items():
        rows.sort(key=lambda row: row[0])  # type: ignore[arg-type,return-value]  # one column has one type
        marks = ",".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608  (names of tables)
    connection.execute("COMMIT")
    tables.clear()


def _finish(connection: sqlite3.Connection, layout: Layout, head: int) -> None:
    """Write what is about no VM and no host, and all indexes."""
    for name, table in layout.shared.items():
        for row in table.rows:
            cells = [head if column == table.position else cell for column, cell in enumerate(row)]
            connection.execute(f"INSERT INTO {name} VALUES ({','.join('?' * len(cells))})", cells)  # noqa: S608
    for statement in layout.statements:
        if not statement.startswith("CREATE TABLE"):
            connection.execute(statement)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
