"""The audit trail: several filters, tables, JSON lines and CSV, the end of the log as it grows, and what is gone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message

from snapshotd.api.v1.admin_pb2 import GetStatusResponse
from snapshotd.api.v1.audit_pb2 import Event, ListEventsRequest, ListEventsResponse, WatchEventsRequest
from snapshotd.api.v1.snapshot_pb2 import ListSnapshotsResponse, Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import (
    ListVirtualMachinesRequest,
    ListVirtualMachinesResponse,
    VirtualMachine,
)
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
OTHER = "virtualMachines/11111111-2222-3333-4444-555555555502"
GONE = grpc.StatusCode.INVALID_ARGUMENT
"""Ends a watch in these tests."""


def event(position: int, **fields: str) -> Event:
    """Return an event."""
    made = Event(position=position, type="SnapshotCreated", actor="ann", event_id=f"e{position}", **fields)  # type: ignore[arg-type]
    made.time.FromSeconds(1_790_000_000 + position)
    return made


def test_filters_are_repeated(ctl: Ctl, service: FakeService) -> None:
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[event(1)])
    ctl("audit", "list", "--actor", "ann", "--actor", "bob", "--type", "VmRegistered", "--type", "VmDescribed")
    (asked,) = service.of(ListEventsRequest)
    assert list(asked.actors) == ["ann", "bob"]
    assert list(asked.types) == ["VmRegistered", "VmDescribed"]


def test_who_i_am_is_as_and_whose_events_is_actor(ctl: Ctl, service: FakeService) -> None:
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[event(1)])
    assert ctl("--as", "eve", "audit", "list", "--actor", "ann").code == 0
    wrong = ctl("host", "list", "--actor", "ann")
    assert (wrong.code, "unrecognized arguments: --actor" in wrong.err) == (2, True)


def test_csv_has_all_columns_whole_and_json_lines_one_event_each(ctl: Ctl, service: FakeService) -> None:
    said = "Snapshot 'a, \"b\"' of VM web01 was taken."
    subject = f"{VM}/snapshots/99999999-2222-3333-4444-555555555501"
    events = [event(n, summary=said, subject=subject, operation="operations/o.1-0a1b2c3d") for n in (1, 2)]
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=events)
    rows = list(csv.DictReader(io.StringIO(ctl("audit", "list", "-o", "csv", "--utc").out)))
    assert [row["position"] for row in rows] == ["1", "2"]
    assert rows[0]["detail"] == said
    assert rows[0]["subject"] == subject
    assert rows[0]["time"] == "2026-09-21T14:13:21.000000Z"
    assert list(rows[0]) == [
        *("position", "time", "actor", "what", "states", "of", "detail"),
        *("operation", "subject", "version", "request", "event"),
    ]
    chosen = ctl("audit", "list", "-o", "csv", "--columns", "actor,position").out
    assert chosen == "actor,position\nann,1\nann,2\n"
    lines = ctl("audit", "list", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["position"] for line in lines] == ["1", "2"]


def test_of_nothing_csv_has_its_head_and_json_lines_no_line(ctl: Ctl, service: FakeService) -> None:
    service.answers["ListEvents"] = lambda _: ListEventsResponse()
    assert ctl("audit", "list", "-o", "csv", "--columns", "actor").out == "actor\n"
    assert ctl("audit", "list", "-o", "jsonl").out == ""


def test_what_is_no_list_is_not_printed_as_csv(ctl: Ctl, service: FakeService) -> None:
    service.answers["GetStatus"] = lambda _: GetStatusResponse(version="1")
    said = ctl("status", "-o", "csv")
    assert (said.code, "Cannot print this as CSV: it is no list" in said.err) == (2, True)
    assert json.loads(ctl("status", "-o", "jsonl").out)["version"] == "1"


def test_a_tail_begins_with_the_last_events_and_goes_on_after_them(ctl: Ctl, service: FakeService) -> None:
    service.answers["ListEvents"] = lambda r: ListEventsResponse(
        events=[event(n) for n in range(9, 9 - r.page_size, -1)]
    )

    def watched(request: WatchEventsRequest) -> Iterator[Message]:
        assert (request.after_position, request.after_event_id) == (9, "e9")
        yield Event(position=11)
        yield event(12)
        raise Refuse(GONE, "Cannot go on.", "POSITION_UNKNOWN")

    service.streams["WatchEvents"] = watched
    said = ctl("audit", "tail", "--last", "3", "--type", "SnapshotCreated")
    assert [line.split()[0] for line in said.out.splitlines()] == ["POSITION", "7", "8", "9", "12"]
    assert (said.code, said.err) == (3, "snapshotctl: Cannot go on. [POSITION_UNKNOWN]\n")
    assert list(service.of(WatchEventsRequest)[0].types) == ["SnapshotCreated"]


@pytest.mark.parametrize(("flags", "position"), [(["--after", "0"], 0), (["--after", "5"], 5), (["--last", "0"], 7)])
def test_a_tail_begins_where_it_is_told_to(ctl: Ctl, service: FakeService, flags: list[str], position: int) -> None:
    def watched(_: WatchEventsRequest) -> Iterator[Message]:
        yield event(8)
        raise Refuse(GONE, "End.", "X")

    service.answers["GetStatus"] = lambda _: GetStatusResponse(log_head_position=7)
    service.streams["WatchEvents"] = watched
    lines = ctl("audit", "tail", *flags, "-o", "json").out.splitlines()
    assert [json.loads(line)["position"] for line in lines] == ["8"]
    (asked,) = service.of(WatchEventsRequest)
    assert (asked.after_position, asked.after_event_id) == (position, "")


def test_a_tail_goes_on_after_the_last_event_when_the_server_is_back(
    ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapshotd.client.following._PAUSE_S", 0.0)

    def watched(request: WatchEventsRequest) -> Iterator[Message]:
        if request.after_position == 0:
            yield event(1)
            raise Refuse(grpc.StatusCode.UNAVAILABLE, "Cannot serve it: the service is stopping.", "STOPPING")
        if len(service.of(WatchEventsRequest)) < 4:
            raise Refuse(grpc.StatusCode.UNAVAILABLE, "There is nobody.")
        yield event(2)
        raise Refuse(GONE, "End.", "X")

    service.streams["WatchEvents"] = watched
    said = ctl("audit", "tail", "--after", "0")
    assert [line.split()[0] for line in said.out.splitlines()] == ["POSITION", "1", "2"]
    lost, back, end = said.err.splitlines()
    assert lost.startswith(
        f"snapshotctl: Lost the server at {service.address} (STOPPING). Trying again until it is back"
    )
    assert back == f"snapshotctl: The server at {service.address} is back."
    assert end == "snapshotctl: End. [X]"
    assert [(r.after_position, r.after_event_id) for r in service.of(WatchEventsRequest)] == [(0, ""), *[(1, "e1")] * 3]


def test_a_tail_that_finds_no_server_at_first_says_so(ctl: Ctl, service: FakeService) -> None:
    def nobody(_: WatchEventsRequest) -> Iterator[Message]:
        raise Refuse(grpc.StatusCode.UNAVAILABLE)

    service.streams["WatchEvents"] = nobody
    said = ctl("audit", "tail", "--after", "0")
    assert (said.code, "Cannot reach a server" in said.err) == (6, True)


def vms(*those: VirtualMachine) -> ListVirtualMachinesResponse:
    """Return a list."""
    return ListVirtualMachinesResponse(virtual_machines=those)


def gone_vm(name: str, vm: str = VM) -> VirtualMachine:
    """Return a VM that was unregistered."""
    made = VirtualMachine(name=vm, uid=vm.partition("/")[2], display_name=name, host="hosts/hv01")
    made.unregister_time.FromSeconds(1_790_000_000)
    return made


def with_gone_vms(service: FakeService, *gone: VirtualMachine) -> None:
    """Let the service have no VM but those that were unregistered."""

    def listed(request: ListVirtualMachinesRequest) -> ListVirtualMachinesResponse:
        return vms(*gone) if request.show_unregistered else vms()

    service.answers |= {
        "ListVirtualMachines": listed,
        "ListEvents": lambda _: ListEventsResponse(events=[event(1)]),
    }


def test_a_vm_that_was_unregistered_is_found_by_name(ctl: Ctl, service: FakeService) -> None:
    with_gone_vms(service, gone_vm("web01"), gone_vm("db01", OTHER))
    assert ctl("audit", "list", "--vm", "WEB01").code == 0
    assert service.of(ListEventsRequest)[-1].virtual_machine == VM
    unknown = ctl("audit", "list", "--vm", "web02")
    assert (unknown.code, "Cannot find VM 'web02'" in unknown.err) == (4, True)


def test_several_that_were_unregistered_are_told_apart_by_their_ids(ctl: Ctl, service: FakeService) -> None:
    with_gone_vms(service, gone_vm("web01"), gone_vm("web01", OTHER))
    said = ctl("audit", "list", "--vm", "web01", "--utc")
    assert said.code == 3
    assert said.err.splitlines() == [
        "snapshotctl: Cannot choose: 2 VMs that were unregistered or destroyed were named 'web01'. Give the id of one:",
        *(f"  {vm.partition('/')[2]} on hv01, unregistered 2026-09-21 14:13:20Z" for vm in (VM, OTHER)),
    ]


def snapshot(n: int, name: str, state: Snapshot.State.ValueType = Snapshot.REMOVED) -> Snapshot:
    """Return a snapshot."""
    uid = f"99999999-2222-3333-4444-55555555550{n}"
    return Snapshot(name=f"{VM}/snapshots/{uid}", uid=uid, display_name=name, state=state)


def with_snapshots(service: FakeService, *those: Snapshot) -> None:
    """Let a VM have snapshots, also deleted ones."""
    service.answers |= {
        "ListVirtualMachines": lambda _: vms(VirtualMachine(name=VM, display_name="web01")),
        "ListSnapshots": lambda r: ListSnapshotsResponse(
            snapshots=[s for s in those if r.show_deleted or s.state != Snapshot.REMOVED]
        ),
        "GetSnapshotTree": lambda _: SnapshotTree(),
        "ListEvents": lambda _: ListEventsResponse(events=[event(1)]),
    }


def test_a_deleted_snapshot_is_found_by_name_unless_one_that_stands_has_it(ctl: Ctl, service: FakeService) -> None:
    deleted, other, stands = snapshot(1, "one"), snapshot(2, "two"), snapshot(3, "two", Snapshot.READY)
    with_snapshots(service, deleted, other, stands)
    for name, found in (("one", deleted), ("two", stands)):
        assert ctl("audit", "list", "--vm", "web01", "--snapshot", name).code == 0
        assert service.of(ListEventsRequest)[-1].snapshot == found.name
    with_snapshots(service, deleted, snapshot(4, "one"))
    said = ctl("audit", "list", "--vm", "web01", "--snapshot", "one")
    assert (said.code, "2 deleted snapshots were named 'one'" in said.err) == (3, True)
    assert deleted.uid in said.err


def test_a_snapshot_of_a_vm_that_was_unregistered_is_found_in_the_log(ctl: Ctl, service: FakeService) -> None:
    with_gone_vms(service, gone_vm("web01"))

    def not_registered(_: object) -> Message:
        raise Refuse(grpc.StatusCode.NOT_FOUND, "It is not on record.", "VIRTUAL_MACHINE_NOT_FOUND")

    service.answers |= {"ListSnapshots": not_registered, "GetSnapshotTree": not_registered}
    requested = event(5, subject=f"{VM}/snapshots/99999999-2222-3333-4444-555555555501")
    requested.data.update({"name": "one"})
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[requested])
    assert ctl("audit", "list", "--vm", "web01", "--snapshot", "one").code == 0
    assert service.of(ListEventsRequest)[-1].snapshot == requested.subject
    assert ctl("audit", "list", "--vm", "web01", "--snapshot", "two").code == 4
