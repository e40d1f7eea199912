"""The beginning of an id is enough, in what is shown and in what is taken; and words stand for snapshots."""

from __future__ import annotations

import json
import re

import grpc
import pytest
from google.longrunning.operations_pb2 import (
    CancelOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    ListOperationsResponse,
    Operation,
    WaitOperationRequest,
)
from google.protobuf.message import Message

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.admin_pb2 import SettleOperationRequest
from snapshotd.api.v1.audit_pb2 import Event, ListEventsRequest, ListEventsResponse
from snapshotd.api.v1.host_pb2 import DiscoveredVirtualMachine, DiscoverVirtualMachinesResponse
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.virtual_machine_pb2 import (
    GetVirtualMachineRequest,
    ListVirtualMachinesRequest,
    ListVirtualMachinesResponse,
    RegisterVirtualMachineRequest,
    VirtualMachine,
)
from snapshotd.client.columns import short_ids
from snapshotd.server.listing import AnyCase, Fields, Id, matcher
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

WEB, DB = "11112222-2222-3333-4444-555555555501", "1111cccc-2222-3333-4444-555555555502"
OLD, NEW, GONE = (f"{n}-2222-3333-4444-555555555501" for n in ("aaaa1111", "aaaa2222", "bbbb3333"))
FIRST, SECOND = (f"operations/{WEB}.{n}" for n in ("1-abcd0001", "2-abcd0002"))
VM_FIELDS: Fields[VirtualMachine] = {
    "uid": lambda vm: Id(vm.uid),
    "any_case_name": lambda vm: AnyCase(vm.display_name),
}
SNAPSHOT_FIELDS: Fields[pb.Snapshot] = {"uid": lambda s: Id(s.uid)}
OPERATION_FIELDS: Fields[Operation] = {
    "tag": lambda o: Id(o.name.rpartition("-")[2]),
    "done": lambda o: str(o.done).lower(),
    "actor": lambda o: metadata(o).actor,
    "virtual_machine": lambda o: metadata(o).virtual_machine,
}


def metadata(operation: Operation) -> OperationMetadata:
    """Return the metadata of an operation."""
    found = OperationMetadata()
    operation.metadata.Unpack(found)
    return found


def operation(name: str, actor: str, *, done: bool) -> Operation:
    """Return an operation on web01."""
    made = Operation(name=name, done=done)
    made.metadata.Pack(OperationMetadata(actor=actor, virtual_machine=f"virtualMachines/{WEB}"))
    return made


class Record:
    """What is on record. Lists are filtered by the service's own filters."""

    def __init__(self, service: FakeService) -> None:
        self.vms = [
            VirtualMachine(name=f"virtualMachines/{i}", uid=i, display_name=n) for i, n in ((WEB, "w"), (DB, "d"))
        ]
        states = pb.Snapshot
        self.snapshots = [
            pb.Snapshot(name=f"virtualMachines/{WEB}/snapshots/{i}", uid=i, display_name=name, state=state)
            for i, name, state in (
                (OLD, "old", states.READY),
                (NEW, "new", states.READY),
                (GONE, "gone", states.REMOVED),
            )
        ]
        for n, snapshot in enumerate(self.snapshots):
            snapshot.create_time.seconds = n + 1
        self.snapshots[1].parent = self.snapshots[0].name
        self.operations = [operation(SECOND, "bob", done=False), operation(FIRST, "ann", done=True)]
        self.service = service
        service.answers |= {
            "GetVirtualMachine": self.vm,
            "ListVirtualMachines": self.list_vms,
            "GetSnapshot": self.snapshot,
            "ListSnapshots": self.list_snapshots,
            "GetSnapshotTree": lambda _: pb.SnapshotTree(),
            "ListOperations": self.list_operations,
            "GetOperation": lambda request: Operation(name=request.name),
            "WaitOperation": lambda request: operation(request.name, "ann", done=True),
            "CancelOperation": lambda _: Operation(),
            "ListEvents": lambda _: ListEventsResponse(events=[Event()]),
        }

    def vm(self, request: GetVirtualMachineRequest) -> Message:
        return next((vm for vm in self.vms if vm.name == request.name), None) or missing()

    def list_vms(self, request: ListVirtualMachinesRequest) -> Message:
        return ListVirtualMachinesResponse(virtual_machines=filter(matcher(request.filter, VM_FIELDS), self.vms))

    def snapshot(self, request: pb.GetSnapshotRequest) -> Message:
        return next((s for s in self.snapshots if s.name == request.name), None) or missing()

    def list_snapshots(self, request: pb.ListSnapshotsRequest) -> Message:
        shown = [s for s in self.snapshots if request.show_deleted or s.state != pb.Snapshot.REMOVED]
        return pb.ListSnapshotsResponse(snapshots=filter(matcher(request.filter, SNAPSHOT_FIELDS), shown))

    def list_operations(self, request: ListOperationsRequest) -> Message:
        me = self.service.came_with[-1]["x-snapshotd-actor"]
        matches = matcher(request.filter.replace('"@me"', f'"{me}"'), OPERATION_FIELDS)
        return ListOperationsResponse(operations=list(filter(matches, self.operations))[: request.page_size])


def missing() -> Message:
    """Refuse as the service does what is not on record."""
    raise Refuse(grpc.StatusCode.NOT_FOUND, "It is not on record.", "NOT_FOUND")


@pytest.fixture(autouse=True)
def record(service: FakeService) -> Record:
    return Record(service)


def shown_name(ctl: Ctl, *arguments: str) -> str:
    """Run a command that shows something; return its resource name."""
    said = ctl(*arguments, "-o", "name")
    assert said.code == 0, said
    return said.out.rstrip("\n").rpartition("/")[2]


@pytest.mark.parametrize("text", ["11112", "11112222", WEB[:20], WEB[:35], "w", "W", WEB, WEB.upper()])
def test_a_vm_is_found_by_the_beginning_of_its_id(ctl: Ctl, text: str) -> None:
    assert shown_name(ctl, "vm", "show", text) == WEB


def test_fewer_than_four_characters_of_an_id_are_a_name(ctl: Ctl) -> None:
    said = ctl("vm", "show", "111")
    assert (said.code, "it is not registered" in said.err) == (4, True)


def test_a_beginning_of_several_ids_is_refused_with_the_candidates(ctl: Ctl) -> None:
    said = ctl("vm", "show", "1111")
    assert said.code == 3
    assert "Cannot choose: 2 VMs have ids that begin with '1111'. Give the id of one:" in said.err
    assert re.search(f"{WEB} w on .*\n  {DB} d on ", said.err)
    ambiguous = ctl("snapshot", "show", "w", "aaaa")
    assert (ambiguous.code, OLD in ambiguous.err, NEW in ambiguous.err) == (3, True, True)
    both = ctl("operation", "show", "abcd")
    assert (both.code, FIRST in both.err, SECOND in both.err) == (3, True, True)


@pytest.mark.parametrize("name", ["1111c", "1111C"])
def test_a_name_that_looks_like_the_beginning_of_an_id_is_the_name(ctl: Ctl, record: Record, name: str) -> None:
    record.vms[0].display_name = name
    assert shown_name(ctl, "vm", "show", "1111c") == WEB
    record.snapshots[0].display_name = "aaaa2"
    assert shown_name(ctl, "snapshot", "show", "w" if name == "w" else WEB, "aaaa2") == OLD


def test_no_command_reads_all_vms_to_find_one(ctl: Ctl, service: FakeService) -> None:
    for text in ("w", "11112", WEB):
        assert ctl("vm", "show", text).code == 0
    assert all(request.filter for request in service.of(ListVirtualMachinesRequest))


def test_a_name_with_quotes_in_it_is_found(ctl: Ctl, record: Record) -> None:
    record.vms[0].display_name = 'a "b" \\ c'
    assert shown_name(ctl, "vm", "show", 'a "b" \\ c') == WEB
    assert ctl("vm", "show", "x" * 5000).code == 4


def test_a_snapshot_is_found_by_the_beginning_of_its_id_a_deleted_one_too(ctl: Ctl, service: FakeService) -> None:
    assert shown_name(ctl, "snapshot", "show", "w", "aaaa2") == NEW
    assert shown_name(ctl, "snapshot", "show", "w", "BBBB3333-2") == GONE
    assert ctl("audit", "list", "--vm", "11112", "--snapshot", "bbbb").code == 0
    assert service.of(ListEventsRequest)[-1].snapshot.endswith(GONE)
    assert ctl("snapshot", "show", "w", "cccc").code == 4


@pytest.mark.parametrize(
    "text", ["abcd0002", "abcd0002".upper(), "abcd0002"[:8], "2-abcd", "2-abcd0002", SECOND, SECOND[11:]]
)
def test_an_operation_is_found_by_its_tag(ctl: Ctl, service: FakeService, text: str) -> None:
    for command in ("show", "cancel"):
        assert ctl("operation", command, text).code == 0
    assert ctl("operation", "wait", text).code == 0
    asked = [*service.of(GetOperationRequest), *service.of(CancelOperationRequest), *service.of(WaitOperationRequest)]
    assert {request.name for request in asked} == {SECOND}


def test_a_tag_of_no_operation_is_told_with_the_command_that_lists_them(ctl: Ctl) -> None:
    for text in ("ffff", "1-abcd0002"):
        said = ctl("operation", "show", text)
        assert (said.code, "See `snapshotctl operation list`." in said.err) == (4, True)


def test_the_last_operation_is_the_callers_own(ctl: Ctl, service: FakeService) -> None:
    for command in ("show", "wait", "cancel"):
        assert ctl("operation", command, "--last").code == 0
    asked = [*service.of(GetOperationRequest), *service.of(CancelOperationRequest), *service.of(WaitOperationRequest)]
    assert {request.name for request in asked} == {FIRST}
    assert shown_name(ctl, "operation", "show", "--last", "--as", "bob") == SECOND.rpartition("/")[2]
    nobody = ctl("operation", "show", "--last", "--as", "eve")
    assert (nobody.code, "you have requested none" in nobody.err) == (4, True)


@pytest.mark.parametrize("which", [(), (SECOND, "--last"), ("--last", "--vm", "w")])
def test_one_operation_is_named_in_one_way(ctl: Ctl, service: FakeService, which: tuple[str, ...]) -> None:
    assert (ctl("operation", "wait", *which).code, service.asked) == (2, [])


def test_what_is_active_on_a_vm_is_waited_for(ctl: Ctl, service: FakeService, record: Record) -> None:
    assert ctl("operation", "wait", "--vm", "w").out == f"{SECOND} succeeded.\n"
    assert {request.name for request in service.of(WaitOperationRequest)} == {SECOND}
    idle = ctl("operation", "wait", "--vm", "d")
    assert (idle.code, idle.out, idle.err) == (0, "No operation is active on d.\n", "")
    assert json.loads(ctl("operation", "wait", "--vm", "d", "-o", "json").out)["operations"] == []
    record.operations[1].done = False
    both = ctl("operation", "wait", "--vm", "w", "-o", "name")
    assert both.out.splitlines() == [FIRST, SECOND]


@pytest.mark.parametrize("command", [("cancel",), ("settle", "given-up", "--reason", "the host burnt")])
def test_an_operation_is_ended_by_its_vm_or_as_the_last_one(
    ctl: Ctl, service: FakeService, record: Record, command: tuple[str, ...]
) -> None:
    service.answers["SettleOperation"] = lambda request: operation(request.name, "ann", done=True)
    for which in (("--vm", "w"), ("--last",), (SECOND.rpartition("-")[2],)):
        verb, *more = command
        assert ctl("operation", verb, *which, *more).code == 0
    asked = [*service.of(CancelOperationRequest), *service.of(SettleOperationRequest)]
    assert [request.name for request in asked] == [SECOND, FIRST, SECOND]
    idle = ctl("operation", *command, "--vm", "d")
    assert (idle.code, idle.err) == (
        4,
        "snapshotctl: Cannot find an operation: none is active on d. See `snapshotctl operation list --vm d`.\n",
    )
    record.operations[1].done = False
    several = ctl("operation", *command, "--vm", "w")
    assert (several.code, FIRST in several.err, SECOND in several.err) == (3, True, True)


def test_words_stand_for_snapshots(ctl: Ctl, record: Record) -> None:
    record.snapshots[1].current = True
    for word, uid in (("current", NEW), ("latest", NEW), ("parent", OLD)):
        assert shown_name(ctl, "snapshot", "show", "w", word) == uid
    record.snapshots[1].state = pb.Snapshot.ERROR
    assert shown_name(ctl, "snapshot", "show", "w", "latest") == OLD


def test_a_word_that_stands_for_nothing_says_why(ctl: Ctl, record: Record) -> None:
    record.snapshots[0].current = True
    assert "the VM's current snapshot has no parent" in ctl("snapshot", "revert", "w", "parent").err
    record.snapshots.clear()
    for word, why in (("current", "no snapshot of the VM is current"), ("latest", "no snapshot that was taken")):
        said = ctl("snapshot", "revert", "w", word)
        assert (said.code, why in said.err) == (4, True)


def test_a_snapshot_that_is_named_like_a_word_is_meant_by_it(ctl: Ctl, record: Record) -> None:
    record.snapshots[1].current = True
    record.snapshots[0].display_name = "current"
    assert shown_name(ctl, "snapshot", "show", "w", "current") == OLD


def test_tables_show_ids_by_their_first_characters(ctl: Ctl) -> None:
    assert [line.split()[-1] for line in ctl("vm", "list").out.splitlines()[1:]] == [WEB[:8], DB[:8]]
    assert [line.split()[-1] for line in ctl("vm", "list", "--full-ids").out.splitlines()[1:]] == [WEB, DB]
    listed = ctl("operation", "list", "--columns", "operation").out.splitlines()[1:]
    assert listed == ["abcd0002", "abcd0001"]
    assert ctl("operation", "list", "--columns", "operation", "--full-ids").out.splitlines()[1:] == [SECOND, FIRST]


def test_short_ids_are_long_enough_to_tell_them_apart() -> None:
    one, other = "aaaaaaaa-bb11-4444-4444-555555555501", "aaaaaaaa-bb22-4444-4444-555555555501"
    assert short_ids([one, f"snapshot {other}", "", "aaaaaaaa", one]) == [
        "aaaaaaaa-bb1",
        "snapshot aaaaaaaa-bb2",
        "",
        "aaaaaaaa",
        "aaaaaaaa-bb1",
    ]
    assert short_ids([f"{FIRST}, {SECOND}"]) == ["abcd0001, abcd0002"]
    assert short_ids(["operations/o.1", "no id"]) == ["operations/o.1", "no id"]


def test_a_vm_is_registered_by_the_beginning_of_the_id_that_discovery_shows(ctl: Ctl, service: FakeService) -> None:
    def registered(request: RegisterVirtualMachineRequest) -> Message:
        if request.vm_id not in (WEB, DB):
            raise Refuse(grpc.StatusCode.NOT_FOUND, "Host hv01 does not have it.", "VIRTUAL_MACHINE_NOT_FOUND")
        return VirtualMachine(name=f"virtualMachines/{request.vm_id}")

    found = [DiscoveredVirtualMachine(vm_id=uid, display_name="x") for uid in (WEB, DB)]
    service.answers |= {
        "RegisterVirtualMachine": registered,
        "DiscoverVirtualMachines": lambda _: DiscoverVirtualMachinesResponse(virtual_machines=found),
    }
    assert [line.split()[-1] for line in ctl("host", "discover", "hv01").out.splitlines()[1:]] == [WEB[:8], DB[:8]]
    assert shown_name(ctl, "vm", "register", "hv01", DB[:8]) == DB
    assert ctl("vm", "register", "hv01", "1111").code == 3
    assert ctl("vm", "register", "hv01", "ffff").code == 4
