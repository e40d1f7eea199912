"""Lives of a VM, recorded by the product itself: what its log holds of one VM on one host.

Each kind of life is lived once, on an instant host, over gRPC. Then the log's file is read, table by table.
"""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.programs import daemon, instant_executor, until_attached, until_followed
from benchmarks.stamping import HOST, Life, Row, Table, unvarying
from projections.projections import SCRIPT as VIEWS_MADE_BY
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import Client, until

LOG: Final = "events.db"
"""The log's file."""
SNAPSHOTS: Final = 5
"""How many each VM has that has any."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is made: its statements, its marks, and the rows that are about no host and no VM."""

    statements: tuple[str, ...]
    application_id: int
    user_version: int
    shared: dict[str, Table]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A life as it was recorded."""

    vm: Life
    host: Life
    layout: Layout
    report: bytes
    """What the host reports of the VM at its end: a VmReport."""
    digest: str
    """The same for the same life, until the product records it in another way."""


def _registered(client: Client, vm_id: str) -> None:
    client.vms.RegisterVirtualMachine(vm_pb2.RegisterVirtualMachineRequest(host=f"hosts/{HOST}", vm_id=vm_id))


def _with_snapshots(client: Client, vm_id: str) -> None:
    _registered(client, vm_id)
    for number in range(SNAPSHOTS):
        client.succeeded(client.create(vm_id, f"before update {number}"))


def _active(client: Client, vm_id: str) -> None:
    _registered(client, vm_id)
    before = client.events()
    client.create(vm_id, "under way")
    until(lambda: client.events() >= before + 6)  # its step is issued


_LIVES: Final[dict[str, tuple[Callable[[Client, str], None], *tuple[str, ...]]]] = {
    "registered": (_registered,),
    "with snapshots": (_with_snapshots,),
    "active": (_active, "--holding"),
}
"""How each is lived, and the options of the executor."""


def record(name: str, directory: Path) -> Recorded:
    """Live a life of a kind, and return what was recorded.

    Args:
        name: `registered`, `with snapshots` or `active`.
        directory: a new one, for the daemon's files.
    """
    live, *options = _LIVES[name]
    vm_id, reports = str(uuid.uuid4()), directory / "reports"
    reports.mkdir(parents=True)
    with daemon(directory) as running:
        client = Client(running.address)
        executor = instant_executor(running.address, directory / "executor.log", "--reports", str(reports), *options)
        with executor:
            until_attached(running.address)
            client.register_host(5985, "none", HOST)
            live(client, vm_id)
            until_followed(running.address)
            running.kill()  # first, so that what follows from an executor's end is not recorded
            executor.kill()
        client.channel.close()
    return read(name, directory, vm_id, (reports / vm_id).read_bytes())


def read(name: str, directory: Path, vm_id: str, report: bytes) -> Recorded:
    """Return the life that a daemon's files hold."""
    vm: dict[str, Table] = {}
    host: dict[str, Table] = {}
    shared: dict[str, Table] = {}
    with closing(sqlite3.connect(directory / LOG)) as connection:
        for table, columns, rows in _tables(connection):
            of_vm = [row for row in rows if _names(row, vm_id)]
            of_host = [row for row in rows if _names(row, HOST) and not _names(row, vm_id)]
            rest = [row for row in rows if not _names(row, HOST) and not _names(row, vm_id)]
            vm[table], host[table] = Table(columns, tuple(of_vm)), Table(columns, tuple(of_host))
            shared[table] = Table(columns, tuple(rest))
        layout = _layout(connection, shared)
    alike = [(name, sorted([unvarying(cell) for cell in row] for row in table.rows)) for name, table in vm.items()]
    digest = hashlib.sha256(repr((layout.statements, alike, VIEWS_MADE_BY)).encode()).hexdigest()[:16]
    return Recorded(Life(name, vm, vm_id), Life("host", host, ""), layout, report, digest)


def _tables(connection: sqlite3.Connection) -> Iterator[tuple[str, tuple[str, ...], list[Row]]]:
    """Yield each table's name, columns and rows."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (name,) in names.fetchall():
        found = connection.execute(f"SELECT * FROM {name}")  # noqa: S608  (names of tables)
        yield name, tuple(column[0] for column in found.description), found.fetchall()


def _layout(connection: sqlite3.Connection, shared: dict[str, Table]) -> Layout:
    statements = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    return Layout(
        statements=tuple(sql for (sql,) in statements),
        application_id=connection.execute("PRAGMA application_id").fetchone()[0],
        user_version=connection.execute("PRAGMA user_version").fetchone()[0],
        shared=shared,
    )


def _names(row: Row, what: str) -> bool:
    return any(what in (cell.decode("latin-1") if isinstance(cell, bytes) else str(cell)) for cell in row)
