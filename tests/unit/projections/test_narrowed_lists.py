"""Lists whose filter the columns can tell: they hold what the filter lets through, and are read by an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import product

import pytest

from projections.inventory import INVENTORY, VMS
from projections.operations import OPERATIONS, OPERATIONS_PROJECTION
from projections.projections import SCRIPT
from projections.rows import Rows, narrowed
from projections.store import open_views
from snapshotd.domain.ids import HostId, OperationName, VmId
from snapshotd.domain.lifecycle import Power, VmActivity
from snapshotd.domain.operation import Operation
from snapshotd.domain.state import replace
from snapshotd.domain.vm_record import VmRecord
from snapshotd.ports.views import VM_FIELDS, PageQuery
from snapshotd.server.listing import matcher, order_of
from snapshotd.server.operations_service import COLUMNS, FILTERS
from snapshotd.server.virtual_machine_service import VM_COLUMNS, VM_FILTERS
from tests.unit.projections.histories import RecordedWorld, history

HOSTS = (HostId("hv01"), HostId("hv02"))
OWNERS = ("ann", "Bob")
NAMES = ("web01", "WEB01", "Ünal", "U\u0308nal", "db")
ACTIVITIES = (VmActivity.IDLE, VmActivity.REVERTING, VmActivity.UNREGISTERED)


def vms() -> Iterator[VmRecord]:
    """Yield VMs of all sorts."""
    sorts = product(HOSTS, OWNERS, NAMES, (Power.RUNNING, Power.STOPPED), ACTIVITIES)
    for n, (host, owner, name, power, activity) in enumerate(sorts):
        vm_id = VmId(f"{n:08x}-3333-4333-8333-000000000000")
        yield VmRecord(vm_id=vm_id, host_id=host, owner=owner, name=name, power=power, activity=activity)


def operations(world: RecordedWorld) -> Iterator[Operation]:
    """Yield the operations that a VM has now, and copies of other VMs."""
    for n, operation in product(range(3), world.vm.operations.values()):
        vm_id = VmId(f"{n:08x}-3333-4333-8333-000000000000")
        yield replace(operation, vm_id=vm_id, name=OperationName(operation.name.replace(operation.vm_id, vm_id)))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with closing(open_views(tmp_path_factory.mktemp("lists") / "views.db", 0, SCRIPT)) as opened:
        for projection in (INVENTORY, OPERATIONS_PROJECTION):
            for table in projection.tables:
                for index in table.indexes:
                    opened.execute(index)
        rows = Rows(opened)
        for vm in vms():
            rows.put(VMS, vm)
        for operation in operations(history(3, 20)):
            rows.put(OPERATIONS, operation)
        rows.flush()
        yield opened


@pytest.mark.parametrize(
    "text",
    [
        'host = "hosts/hv01"',
        'host = "hv01"',
        'host != "hosts/hv01"',
        'owner = "Bob" AND power = "STOPPED"',
        'owner = "bob"',
        'state = "RUNNING"',
        'state = "REVERTING" AND host = "hosts/hv02"',
        'state > "RUNNING"',
        'display_name = "web01"',
        'any_case_name = "web01"',
        'any_case_name = "ÜNAL"',
        'uid = "0000001*"',
        'uid = "0000001A*"',
        'uid = "0000000a-3333-4333-8333-000000000000"',
        'uid = "*"',
        'uid != "0000001*"',
        'labels.a = "b"',
        "",
    ],
)
@pytest.mark.parametrize("order", ["display_name", "name", "create_time"])
def test_a_list_of_vms_is_what_its_filter_lets_through(connection: sqlite3.Connection, text: str, order: str) -> None:
    matches = matcher(text, VM_FILTERS, lambda vm: vm.labels)
    by = ((order, False), *((("name", False),) if order != "name" else ()))
    page = PageQuery(order=by, limit=1000, where=matches.where(VM_COLUMNS))
    for where in ("registered", "1"):
        everything = VMS.page(connection, where, (), replace(page, where=()))
        assert len(everything) == (80 if where == "registered" else 120)
        found = VMS.page(connection, where, (), page)
        assert [vm.vm_id for vm in found if matches(vm)] == [vm.vm_id for vm in everything if matches(vm)]


def filters_of_operations(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield filters that something meets, and some that nothing does."""
    for operation in OPERATIONS.find(connection, "1"):
        for field, of in FILTERS.items():
            value = of(operation)
            yield f'{field} = "{value.isoformat() if isinstance(value, datetime) else value}"'
        yield f'create_time >= "{operation.requested_at.isoformat()}" AND actor = "bob"'
        yield f'create_time < "{operation.requested_at.isoformat()}" AND done = "true"'
    yield 'kind = "KIND_UNSPECIFIED"'
    yield 'virtual_machine = "x"'


def test_a_list_of_operations_is_what_its_filter_lets_through(connection: sqlite3.Connection) -> None:
    everything = OPERATIONS.find(connection, "1", (), "ORDER BY requested_at DESC, name DESC")
    for text in filters_of_operations(connection):
        matches = matcher(text, FILTERS)
        expected = [o.name for o in everything if matches(o)]
        where, values = narrowed("1", (), matches.where(COLUMNS))
        found = OPERATIONS.find(connection, where, values, "ORDER BY requested_at DESC, name DESC")
        assert [o.name for o in found if matches(o)] == expected, text


def plans(connection: sqlite3.Connection, statements: Sequence[str]) -> set[str]:
    """Return how statements are carried out."""
    return {detail for statement in statements for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}")}


@pytest.mark.parametrize("after", [None, ("a", "b")])
def test_each_filter_and_each_order_is_answered_by_an_index(
    connection: sqlite3.Connection, after: tuple[str, ...] | None
) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    for narrow in ("", 'host = "x"', 'owner = "x"', 'power = "x"', 'state = "x"', 'any_case_name = "x"'):
        matches = matcher(narrow, VM_FILTERS)
        where = matches.where(VM_COLUMNS)
        order = (("display_name", False), ("name", False))
        VMS.page(connection, "registered", (), PageQuery(order=order, after=after, limit=9, where=where))
    newest = order_of("create_time desc", tuple(VM_FIELDS), "name")
    VMS.page(connection, "registered", (), PageQuery(order=newest, limit=9))
    VMS.page(connection, "registered", (), PageQuery(order=(("name", False),), limit=9))
    last_requested = "ORDER BY requested_at DESC, name DESC LIMIT 9"
    for field, value in (
        ("virtual_machine", "x"),
        ("kind", "START_VIRTUAL_MACHINE"),
        ("actor", "x"),
        ("done", "false"),
    ):
        condition, values = narrowed("1", (), matcher(f'{field} = "{value}"', FILTERS).where(COLUMNS))
        OPERATIONS.find(connection, condition, values, last_requested)
    connection.set_trace_callback(None)
    found = plans(connection, statements)
    assert len(statements) == 12
    assert not any("TEMP B-TREE" in plan for plan in found), found
    assert all("INDEX" in plan for plan in found), found
