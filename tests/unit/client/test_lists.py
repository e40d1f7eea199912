"""Long lists: all pages are followed and printed as they come, and what a limit cuts off is said."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.longrunning.operations_pb2 import ListOperationsRequest, ListOperationsResponse, Operation
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from snapshotd.api.v1.admin_pb2 import (
    FailedOperation,
    GetStatusResponse,
    HostState,
    OperationCounts,
    OverdueOperation,
    Problem,
    SettleOperationRequest,
)
from snapshotd.api.v1.audit_pb2 import Event, ListEventsRequest, ListEventsResponse
from snapshotd.api.v1.host_pb2 import Drift, Host, SkippedVirtualMachine, SyncHostResponse
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import GetVirtualMachineRequest, ListVirtualMachinesResponse, VirtualMachine
from tests.unit.client.fake_service import Ctl, FakeService, Refuse


def log_of(service: FakeService, count: int) -> None:
    """Let the service have a log."""

    def listed(request: ListEventsRequest) -> ListEventsResponse:
        first = int(request.page_token or "1")
        end = min(first + request.page_size, count + 1)
        events = [Event(position=n, type="SnapshotCreated", actor="ann") for n in range(first, end)]
        return ListEventsResponse(events=events, next_page_token=str(end) if end <= count else "")

    service.answers["ListEvents"] = listed


def test_without_a_limit_the_whole_trail_is_shown_in_one_table(ctl: Ctl, service: FakeService) -> None:
    log_of(service, 2500)
    said = ctl("audit", "list")
    lines = said.out.splitlines()
    assert lines[0].split() == ["POSITION", "TIME", "ACTOR", "WHAT", "STATES", "OF", "DETAIL"]
    assert [int(line.split()[0]) for line in lines[1:]] == list(range(1, 2501))
    assert len({line.index("ann") for line in lines[1:]}) == 1
    assert said.err == ""


def test_json_of_many_pages_is_one_document_without_a_page_token(ctl: Ctl, service: FakeService) -> None:
    log_of(service, 1001)
    document = json.loads(ctl("audit", "list", "-o", "json").out)
    assert list(document) == ["events"]
    assert [int(e["position"]) for e in document["events"]] == list(range(1, 1002))
    log_of(service, 0)
    assert json.loads(ctl("audit", "list", "-o", "json").out) == {"events": []}
    assert ctl("audit", "list").out == "(none)\n"


def test_a_limit_that_cuts_the_trail_says_so(ctl: Ctl, service: FakeService) -> None:
    log_of(service, 1500)
    cut = ctl("audit", "list", "--limit", "1200")
    assert len(cut.out.splitlines()) == 1201
    assert cut.err == "Only the first 1200 are shown. Set a higher --limit to see more.\n"
    one = ctl("audit", "list", "--limit", "1")
    assert one.err == "Only the first is shown. Set a higher --limit to see more.\n"
    whole = ctl("audit", "list", "--limit", "1500")
    assert (len(whole.out.splitlines()), whole.err) == (1501, "")
    quiet = ctl("audit", "list", "--limit", "3", "-o", "json")
    assert (len(json.loads(quiet.out)["events"]), quiet.err) == (3, "")


def test_operations_beyond_the_limit_are_said(ctl: Ctl, service: FakeService) -> None:
    def listed(request: ListOperationsRequest) -> ListOperationsResponse:
        operations = [Operation(name=f"operations/o.{n}") for n in range(request.page_size)]
        operations[0].metadata.Pack(OperationMetadata(virtual_machine="virtualMachines/o"))
        return ListOperationsResponse(operations=operations, next_page_token="more")

    service.answers["ListOperations"] = listed
    service.answers["GetVirtualMachine"] = lambda asked: VirtualMachine(name=asked.name, display_name="web01")
    said = ctl("operation", "list", "--limit", "2")
    assert [line.split()[:2] for line in said.out.splitlines()[:2]] == [
        ["OPERATION", "VM"],
        ["operations/o.0", "web01"],
    ]
    assert len(said.out.splitlines()) == 3
    assert "Only the first 2 are shown" in said.err
    assert "next_page_token" not in ctl("operation", "list", "--limit", "2", "-o", "json").out
    assert [asked.name for asked in service.of(GetVirtualMachineRequest)] == ["virtualMachines/o"], "once, if shown"


def test_an_operation_is_listed_though_its_vm_is_not_on_record_any_more(ctl: Ctl, service: FakeService) -> None:
    operation = Operation(name="operations/o.1")
    operation.metadata.Pack(OperationMetadata(virtual_machine="virtualMachines/o", state=OperationMetadata.FAILED))
    service.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=[operation])

    def gone(_: GetVirtualMachineRequest) -> VirtualMachine:
        raise Refuse(grpc.StatusCode.NOT_FOUND, "It is gone.", "VIRTUAL_MACHINE_NOT_FOUND")

    service.answers["GetVirtualMachine"] = gone
    assert "FAILED" in ctl("operation", "list").out.splitlines()[1]


@pytest.mark.parametrize("command", ["audit", "operation"])
@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_below_one_makes_no_sense(ctl: Ctl, service: FakeService, command: str, limit: str) -> None:
    assert ctl(command, "list", "--limit", limit).code == 2
    assert not service.asked


def test_an_event_says_what_happened_in_the_words_of_the_server(ctl: Ctl, service: FakeService) -> None:
    event = Event(position=1, type="VmDescribed", subject="virtualMachines/v", summary="The host \x1b says more.")
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[event])
    line = ctl("audit", "list").out.splitlines()[1]
    assert line.partition("vm v")[2].strip() == "The host \\x1b says more."


def test_a_condition_that_names_nothing_is_refused_with_the_command_that_lists_what_there_is(
    ctl: Ctl, service: FakeService
) -> None:
    def not_found(_: object) -> Host:
        raise Refuse(
            grpc.StatusCode.NOT_FOUND, "Cannot find host 'nope'. See `snapshotctl host list`.", "HOST_NOT_FOUND"
        )

    vm = "11111111-2222-3333-4444-555555555501"
    service.answers |= {
        "GetHost": not_found,
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(),
        "ListEvents": lambda _: ListEventsResponse(),
        "ListOperations": lambda _: ListOperationsResponse(),
    }
    for command, listed_by in (
        (("vm", "list", "--host", "nope"), "host list"),
        (("audit", "list", "--host", "nope"), "host list"),
        (("audit", "list", "--vm", vm), "vm list"),
        (("audit", "list", "--operation", "nope"), "operation list"),
        (("operation", "list", "--vm", vm), "vm list"),
    ):
        said = ctl(*command)
        assert (said.code, said.out) == (4, "")
        assert f"See `snapshotctl {listed_by}`." in said.err
    # Of what is known, none is an answer.
    service.answers["GetHost"] = lambda _: Host()
    assert ctl("vm", "list", "--host", "hv01").out == "(none)\n"

    def only_without_actor(request: ListEventsRequest) -> ListEventsResponse:
        return ListEventsResponse(events=[] if request.actors else [Event()])

    service.answers["ListEvents"] = only_without_actor
    assert ctl("audit", "list", "--host", "hv01", "--actor", "bob").out == "(none)\n"
    assert ctl("operation", "list", "--vm", vm).out == "(none)\n"


def test_an_error_names_the_option_and_not_the_field_that_it_is_sent_in(ctl: Ctl, service: FakeService) -> None:
    def refuse(_: object) -> Message:
        raise Refuse(
            grpc.StatusCode.INVALID_ARGUMENT, "Cannot accept snapshot.display_name 'a': bad.", "INVALID_ARGUMENT"
        )

    service.answers["CreateSnapshot"] = refuse
    said = ctl("snapshot", "create", "11111111-2222-3333-4444-555555555501", "--name", "a")
    assert said.err == "snapshotctl: Cannot accept --name 'a': bad. [INVALID_ARGUMENT]\n"


def test_a_list_tells_why_a_snapshot_is_in_error(ctl: Ctl, service: FakeService) -> None:
    broken = Snapshot(display_name="broken", state=Snapshot.ERROR)
    broken.failure.reason = "HOST_ERROR"
    node = SnapshotTree.Node(snapshot=broken)
    service.answers["GetSnapshotTree"] = lambda _: SnapshotTree(nodes=[node])
    assert "ERROR (HOST_ERROR)" in ctl("snapshot", "list", "11111111-2222-3333-4444-555555555501").out


def test_the_status_tells_hosts_that_nobody_has_tried_from_those_that_are_not_reached(
    ctl: Ctl, service: FakeService
) -> None:
    hosts = [HostState(host=f"hosts/hv0{n}") for n in (1, 2, 3)]
    hosts[0].reachable = True
    hosts[1].wait.reason = "HOST_UNREACHABLE"
    service.answers["GetStatus"] = lambda _: GetStatusResponse(hosts=hosts)
    lines = ctl("status").out.splitlines()[-3:]
    assert [line.split() for line in lines] == [
        ["hv01", "yes"],
        ["hv02", "no", "HOST_UNREACHABLE"],
        ["hv03", "not", "tried"],
    ]


def test_the_status_shows_what_is_wrong_with_the_service_itself(ctl: Ctl, service: FakeService) -> None:
    full = Problem(subject="event log", reason="DISK_FULL", message="Cannot write: there is no room. Free some.")
    full.since.FromSeconds(1_790_000_000)
    service.answers["GetStatus"] = lambda _: GetStatusResponse(problems=[full])
    out = ctl("status", "--utc").out
    assert ["event log", "DISK_FULL", "2026-09-21 14:13:20Z", full.message] in [
        re.split("  +", line) for line in out.splitlines()
    ]
    assert "Operations: not known: the views cannot be read" in out
    service.answers["GetStatus"] = lambda _: GetStatusResponse(operations=OperationCounts(pending=2))
    out = ctl("status").out
    assert "Problems" not in out
    assert "Operations: 2 pending, 0 running, 0 of them waiting" in out


def test_one_difference_is_counted_in_the_singular(ctl: Ctl, service: FakeService) -> None:
    synced = SyncHostResponse(virtual_machines_compared=1, drifts=[Drift(kind="VM_MISSING")])
    service.answers["SyncHost"] = lambda _: synced
    assert ctl("host", "sync", "hv01").out.splitlines()[0] == "1 VM compared, 1 difference."


def left_out(*reasons: str, compared: int) -> SyncHostResponse:
    """Return the answer of a sync that has left out a VM for each reason."""
    vms = [
        SkippedVirtualMachine(name=f"virtualMachines/{n}", display_name=f"web0{n}", reason=reason, message="Because.")
        for n, reason in enumerate(reasons)
    ]
    names = [vm.name for vm in vms]
    return SyncHostResponse(virtual_machines_compared=compared, virtual_machines_skipped=names, skip_reasons=vms)


@pytest.mark.parametrize(
    ("synced", "code"),
    [
        (left_out(compared=0), 0),
        (left_out("UNREADABLE", compared=1), 0),
        (left_out("VM_CHANGING", compared=0), 5),
        (left_out("VM_CHANGING", "UNREADABLE", compared=0), 6),
        (SyncHostResponse(virtual_machines_skipped=["virtualMachines/0"]), 6),
    ],
)
def test_a_sync_says_why_it_left_vms_out_and_fails_if_it_compared_none(
    ctl: Ctl, service: FakeService, synced: SyncHostResponse, code: int
) -> None:
    service.answers["SyncHost"] = lambda _: synced
    said = ctl("host", "sync", "hv01")
    assert said.code == code
    assert ("Cannot compare anything with the record" in said.err) == (code != 0)
    for vm in synced.skip_reasons:
        assert re.search(rf"{vm.display_name} +{vm.reason} +[0-9] +Because.", said.out)
    assert ctl("host", "sync", "hv01", "-o", "json").code == code


def test_what_the_server_says_cannot_play_with_the_terminal(ctl: Ctl, service: FakeService) -> None:
    def refuse(_: object) -> SyncHostResponse:
        raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, "VM x\x1b[31m is busy.", "WRONG_POWER_STATE")

    service.answers["SyncHost"] = refuse
    assert ctl("host", "sync", "hv01").err == r"snapshotctl: VM x\x1b[31m is busy. [WRONG_POWER_STATE]" + "\n"


def failed(name: str) -> Operation:
    """Return an operation that failed an hour ago."""
    operation = Operation(name=name, done=True)
    operation.error.CopyFrom(Status(code=2, message="Nobody knows."))
    operation.error.details.add().Pack(ErrorInfo(reason="OUTCOME_UNDETERMINED", domain="snapshotd"))
    metadata = OperationMetadata(kind=OperationMetadata.CREATE_SNAPSHOT, actor="ann")
    metadata.end_time.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    operation.metadata.Pack(metadata)
    return operation


def test_failed_operations_are_listed_with_when_and_why(ctl: Ctl, service: FakeService) -> None:
    service.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=[failed("operations/o.1")])
    service.answers["ListVirtualMachines"] = lambda _: ListVirtualMachinesResponse()
    said = ctl("operation", "list", "--failed", "--since", "2026-01-02T00:00:00Z", "--utc")
    assert said.out.splitlines()[1].split() == [
        "operations/o.1",
        "create",
        "snapshot",
        "2026-01-02",
        "03:04:05Z",
        "ann",
        "OUTCOME_UNDETERMINED",
    ]
    (asked,) = service.of(ListOperationsRequest)
    assert asked.filter == 'state = "FAILED" AND end_time >= "2026-01-02T00:00:00+00:00"'


@pytest.mark.parametrize(("text", "ago"), [("1h", 3600), ("30 min", 1800), ("5m", 300), ("2d", 172800), ("9 s", 9)])
def test_since_takes_how_long_ago_it_is(ctl: Ctl, service: FakeService, text: str, ago: int) -> None:
    service.answers["ListOperations"] = lambda _: ListOperationsResponse()
    service.answers["ListVirtualMachines"] = lambda _: ListVirtualMachinesResponse()
    assert ctl("operation", "list", "--since", text).code == 0
    (asked,) = service.of(ListOperationsRequest)
    found = re.fullmatch('create_time >= "(.*)"', asked.filter)
    assert found is not None
    assert abs(datetime.now(UTC).timestamp() - datetime.fromisoformat(found[1]).timestamp() - ago) < 60


@pytest.mark.parametrize("text", ["yesterday", "1y", "-1h", "2026-13-01", "9999999999d", "999999999d"])
def test_since_refuses_what_is_no_time(ctl: Ctl, service: FakeService, text: str) -> None:
    said = ctl("operation", "list", f"--since={text}")
    assert (said.code, service.asked) == (2, [])
    assert "Write it as 2026-01-31T12:00:00Z, or as 2h for two hours ago" in said.err


def test_failed_and_active_exclude_each_other(ctl: Ctl, service: FakeService) -> None:
    assert ctl("operation", "list", "--failed", "--active").code == 2
    assert not service.asked


def test_an_overdue_operation_is_told_in_the_list(ctl: Ctl, service: FakeService) -> None:
    operation = Operation(name="operations/o.1")
    metadata = OperationMetadata()
    metadata.overdue_since.FromDatetime(datetime.now(UTC) - timedelta(minutes=61))
    operation.metadata.Pack(metadata)
    service.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=[operation])
    service.answers["ListVirtualMachines"] = lambda _: ListVirtualMachinesResponse()
    heads, row = ctl("operation", "list", "--active").out.splitlines()
    assert row[heads.index("OVERDUE") :].startswith("1 h")


@pytest.mark.parametrize(("done", "told"), [(True, "is FAILED."), (False, "goes on. To wait:")])
def test_settling_says_what_came_of_it(ctl: Ctl, service: FakeService, *, done: bool, told: str) -> None:
    operation = Operation(name="operations/o.1", done=done)
    operation.metadata.Pack(OperationMetadata(state=OperationMetadata.FAILED))
    service.answers["SettleOperation"] = lambda _: operation
    said = ctl("operation", "settle", "o.1", "took-effect", "--reason", "seen on the host")
    assert told in said.out
    (asked,) = service.of(SettleOperationRequest)
    assert (asked.name, asked.outcome) == ("operations/o.1", SettleOperationRequest.TOOK_EFFECT)
    assert asked.reason == "seen on the host"
    assert asked.request_id


def test_settling_needs_an_outcome_and_a_reason(ctl: Ctl, service: FakeService) -> None:
    assert ctl("operation", "settle", "o.1", "given-up").code == 2
    assert ctl("operation", "settle", "o.1", "--reason", "x").code == 2
    assert not service.asked


def test_status_tells_what_is_overdue_and_what_failed_of_late(ctl: Ctl, service: FakeService) -> None:
    late = OverdueOperation(operation="operations/o.1", display_name="web01", message="NO_EXECUTOR: none. Cancel it.")
    lost = FailedOperation(operation="operations/o.2", display_name="db01", actor="ann")
    lost.failure.reason = "HOST_ERROR"
    status = GetStatusResponse(overdue_operations=[late], overdue_operation_count=3)
    status.recent_failures.latest.append(lost)
    status.recent_failures.count = 7
    service.answers["GetStatus"] = lambda _: status
    told = ctl("status").out
    assert re.search(r"Failed, last 24 h: +7\n", told)
    assert re.search(r"Overdue\n.*\noperations/o\.1 +web01 .*NO_EXECUTOR: none\. Cancel it\.\n", told)
    assert "2 more operations overdue. See `snapshotctl operation list --active`." in told
    assert re.search(r"Failed last\n.*\noperations/o\.2 +db01 .*ann +HOST_ERROR\n", told)
    assert "`snapshotctl operation list --failed --since 24h`" in told
    service.answers["GetStatus"] = lambda _: GetStatusResponse()
    assert "Overdue" not in ctl("status").out
