"""What can be read: lists with filters, orders and pages, the audit trail by all that it can be asked by, plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.longrunning.operations_pb2 import ListOperationsRequest, Operation
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1 import admin_pb2, audit_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.operation_pb2 import Plan
from tests.e2e.system import System, metadata_of, refusal


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), ("web01", "db01")) as running:
        for name in ("one", "two", "three"):
            running.client.wait(running.client.create(running.ids["web01"], name, memory=name == "two"))
        running.client.wait(running.client.create(running.ids["db01"], "other"))
        request = snapshot_pb2.DeleteSnapshotRequest(name=named(running, "one"))
        running.client.wait(running.client.snapshots.DeleteSnapshot(request))
        yield running


def named(system: System, name: str, vm: str = "web01") -> str:
    """Return a snapshot's resource name."""
    request = snapshot_pb2.ListSnapshotsRequest(parent=f"virtualMachines/{system.ids[vm]}", show_deleted=True)
    return next(s.name for s in system.client.snapshots.ListSnapshots(request).snapshots if s.display_name == name)


def pages(call: Callable[[Any], Any], request: Any, field: str, size: int) -> list[list[Any]]:  # noqa: ANN401
    """Read a list page by page."""
    found = []
    request.page_size = size
    while True:
        page = call(request)
        found.append(list(getattr(page, field)))
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@pytest.mark.slow
def test_snapshots_are_filtered_ordered_and_paged(system: System) -> None:
    def names(**fields: Any) -> list[str]:  # noqa: ANN401
        fields.setdefault("parent", f"virtualMachines/{system.ids['web01']}")
        request = snapshot_pb2.ListSnapshotsRequest(**fields)
        return [s.display_name for s in system.client.snapshots.ListSnapshots(request).snapshots]

    assert names() == ["two", "three"]
    assert names(show_deleted=True) == ["one", "two", "three"]
    assert names(order_by="display_name") == ["three", "two"]
    assert names(filter='kind = "DISK_AND_MEMORY"') == ["two"]
    assert names(filter='state = "REMOVED"', show_deleted=True) == ["one"]
    assert sorted(names(parent="virtualMachines/-")) == ["other", "three", "two"]
    request = snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-", order_by="display_name")
    parts = pages(system.client.snapshots.ListSnapshots, request, "snapshots", 2)
    assert [[s.display_name for s in part] for part in parts] == [["other", "three"], ["two"]]


@pytest.mark.slow
def test_a_page_token_is_of_its_list_only(system: System) -> None:
    request = snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-", page_size=1)
    token = system.client.snapshots.ListSnapshots(request).next_page_token
    other = snapshot_pb2.ListSnapshotsRequest(parent="virtualMachines/-", page_token=token, filter='state = "READY"')
    code, reason, message = refusal(lambda: system.client.snapshots.ListSnapshots(other))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert "page_token" in message


@pytest.mark.slow
def test_vms_hosts_and_operations_are_filtered(system: System) -> None:
    def vms(condition: str) -> list[str]:
        request = vm_pb2.ListVirtualMachinesRequest(filter=condition)
        return [vm.display_name for vm in system.client.vms.ListVirtualMachines(request).virtual_machines]

    assert vms("") == ["db01", "web01"]
    assert vms('display_name = "web01" AND host = "hosts/hv01" AND power = "RUNNING"') == ["web01"]
    assert vms('power = "STOPPED"') == []
    hosts = system.client.hosts.ListHosts(host_pb2.ListHostsRequest(filter='state = "REACHABLE"')).hosts
    assert [(h.name, h.virtual_machine_count, h.computer_name) for h in hosts] == [("hosts/hv01", 2, "hv01")]

    def operations(condition: str) -> list[Operation]:
        return list(system.client.operations.ListOperations(ListOperationsRequest(filter=condition)).operations)

    web = f"virtualMachines/{system.ids['web01']}"
    assert len(operations("")) == 5
    assert len(operations(f'virtual_machine = "{web}" AND kind = "CREATE_SNAPSHOT"')) == 3
    assert len(operations(f'snapshot = "{named(system, "one")}"')) == 2
    assert operations('done = "false"') == []
    newest_first = [metadata_of(o).create_time.ToNanoseconds() for o in operations("")]
    assert newest_first == sorted(newest_first, reverse=True)
    parts = pages(system.client.operations.ListOperations, ListOperationsRequest(), "operations", 2)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [o.name for part in parts for o in part] == [o.name for o in operations("")]


@pytest.mark.slow
def test_the_audit_trail_is_found_by_vm_snapshot_operation_actor_type_and_time(system: System) -> None:
    def events(**fields: Any) -> list[audit_pb2.Event]:  # noqa: ANN401
        request = audit_pb2.ListEventsRequest(page_size=1000, **fields)
        return list(system.client.audit.ListEvents(request).events)

    everything = events()
    assert [e.position for e in everything] == list(range(1, system.client.events() + 1))
    web = f"virtualMachines/{system.ids['web01']}"
    of_web = events(virtual_machine=web)
    assert {e.stream for e in of_web} == {f"vm/{system.ids['web01']}"}
    assert [e.version for e in of_web] == list(range(1, len(of_web) + 1))
    about = events(snapshot=named(system, "one"))
    types = [e.type for e in about]
    assert {"SnapshotRequested", "SnapshotCreated", "SnapshotRemoved", "StepIssued", "OperationSucceeded"} <= set(types)
    lives = [(e.from_state, e.to_state) for e in about if e.subject == named(system, "one") and e.to_state]
    assert lives[0] == ("NEW", "ALLOCATED")
    assert lives[-1] == ("EXPUNGING", "REMOVED")
    assert all(before[1] == after[0] for before, after in pairwise(lives))
    operation = next(e.operation for e in about if e.type == "OperationRequested")
    assert {e.operation for e in events(operation=operation)} == {operation}
    assert about == events(snapshot=named(system, "one"), virtual_machine=web)
    elsewhere = f"virtualMachines/{system.ids['db01']}"
    assert not events(snapshot=named(system, "one"), virtual_machine=elsewhere)
    assert not events(snapshot=named(system, "one").replace(web, elsewhere))
    assert {e.actor for e in events(actor="snapshotd")} == {"snapshotd"}
    assert {e.type for e in events(type="StepDone")} == {"StepDone"}
    middle = everything[len(everything) // 2].time.ToDatetime(UTC)
    since, until = Timestamp(), Timestamp()
    since.FromDatetime(middle)
    until.FromDatetime(middle + timedelta(milliseconds=1))
    window = events(start_time=since, end_time=until)
    assert window
    assert all(middle <= e.time.ToDatetime(UTC) < middle + timedelta(milliseconds=1) for e in window)
    parts = pages(system.client.audit.ListEvents, audit_pb2.ListEventsRequest(order_by="position desc"), "events", 17)
    assert [e.position for part in parts for e in part] == [e.position for e in everything][::-1]
    issued = next(e for e in everything if e.type == "StepIssued")
    assert json_format.MessageToDict(issued.data)["before"]["values"]["power"] == "RUNNING"


@pytest.mark.slow
def test_a_plan_says_what_would_happen_and_records_nothing(system: System) -> None:
    before = system.client.events()
    request = snapshot_pb2.RevertToSnapshotRequest(name=named(system, "two"), validate_only=True)
    answered = system.client.snapshots.RevertToSnapshot(request)
    plan = Plan()
    assert answered.response.Unpack(plan)
    assert (answered.name, answered.done) == ("", True)
    assert [step.name for step in plan.steps] == ["restore", "start"]
    assert (plan.old_current, plan.new_current) == (named(system, "three"), named(system, "two"))
    assert plan.guest_memory_lost
    delete = snapshot_pb2.DeleteSnapshotRequest(name=named(system, "two"), validate_only=True)
    assert system.client.snapshots.DeleteSnapshot(delete).response.Unpack(plan)
    assert [(m.snapshot, m.old_parent, m.new_parent) for m in plan.children_moved] == [
        (named(system, "three"), named(system, "two"), "")
    ]
    refused = snapshot_pb2.RevertToSnapshotRequest(name=named(system, "one"), validate_only=True)
    code, reason, _ = refusal(lambda: system.client.snapshots.RevertToSnapshot(refused))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_NOT_READY")
    assert system.client.events() == before


@pytest.mark.slow
def test_the_status_shows_views_executors_hosts_and_operations(system: System) -> None:
    status = system.client.admin.GetStatus(admin_pb2.GetStatusRequest())
    assert {p.name for p in status.projections} == {"tree", "operations", "inventory", "audit"}
    assert {p.position for p in status.projections} == {status.log_head_position}
    assert [list(e.hosts) for e in status.executors] == [["hosts/hv01"]]
    assert [(h.host, h.reachable) for h in status.hosts] == [("hosts/hv01", True)]
    assert (status.operations.pending, status.operations.running) == (0, 0)
