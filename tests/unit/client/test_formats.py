"""Output for programs: whole documents in JSON and YAML, names one a line, chosen columns; errors in the same form."""

from __future__ import annotations

import json

import grpc
import pytest
import yaml
from google.longrunning.operations_pb2 import ListOperationsResponse, Operation
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from snapshotd.api.v1.admin_pb2 import GetStatusResponse, ProjectionState
from snapshotd.api.v1.audit_pb2 import Event, ListEventsResponse
from snapshotd.api.v1.host_pb2 import (
    DiscoveredVirtualMachine,
    DiscoverVirtualMachinesResponse,
    Drift,
    Host,
    ListHostsResponse,
    SyncHostResponse,
)
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.snapshot_pb2 import ListSnapshotsResponse, Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import ListVirtualMachinesResponse, VirtualMachine
from tests.unit.client.fake_service import Answer, Ctl, FakeService, Refuse

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
SNAPSHOT = f"{VM}/snapshots/99999999-2222-3333-4444-555555555501"
OPERATION = f"operations/{VM[-36:]}.7-0a1b2c3d"
EMPTY = {
    "hosts": (("host", "list"), "ListHosts", ListHostsResponse()),
    "virtual_machines": (("vm", "list"), "ListVirtualMachines", ListVirtualMachinesResponse()),
    "snapshots": (("snapshot", "list", VM), "ListSnapshots", ListSnapshotsResponse()),
    "operations": (("operation", "list"), "ListOperations", ListOperationsResponse()),
    "events": (("audit", "list"), "ListEvents", ListEventsResponse()),
}
"""Each list, by the field that holds it."""


def answers(message: Message) -> Answer:
    """Return what always answers the same."""
    return lambda _: message


@pytest.fixture(autouse=True)
def nothing(service: FakeService) -> None:
    for _, method, answer in EMPTY.values():
        service.answers[method] = answers(answer)
    service.answers["GetSnapshotTree"] = lambda _: SnapshotTree()


@pytest.mark.parametrize("field", EMPTY)
def test_an_empty_list_is_an_empty_list(ctl: Ctl, field: str) -> None:
    command = EMPTY[field][0]
    assert json.loads(ctl(*command, "-o", "json").out) == {field: []}
    assert yaml.safe_load(ctl(*command, "-o", "yaml").out) == {field: []}
    assert ctl(*command, "-o", "name").out == ""
    assert ctl(*command).out == "(none)\n"


def test_what_is_zero_or_false_is_written_and_fields_are_named_as_in_the_protos(ctl: Ctl, service: FakeService) -> None:
    event = Event(position=3, type="VmRegistered")
    event.data.update({"from_state": "", "cpu_count": 0})
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[event])
    for name in ("json", "yaml"):
        (written,) = yaml.safe_load(ctl("audit", "list", "-o", name).out)["events"]
        assert written["position"] == "3"
        assert written["omitted_data_bytes"] == "0"
        assert written["from_state"] == ""
        assert written["data"] == {"from_state": "", "cpu_count": 0}
    service.answers["GetSnapshot"] = lambda _: Snapshot(name=SNAPSHOT)
    snapshot = json.loads(ctl("snapshot", "show", VM, SNAPSHOT, "-o", "json").out)
    assert (snapshot["current"], snapshot["disks"], snapshot["labels"]) == (False, [], {})


def test_a_list_of_many_is_one_document_in_yaml(ctl: Ctl, service: FakeService) -> None:
    names = ["yes", "1e3", "a: b", "- x", "Jürgen\n漢 #", "", "x" * 500]
    hosts = [Host(name=f"hosts/h{n}", computer_name=name) for n, name in enumerate(names)]
    service.answers["ListHosts"] = lambda _: ListHostsResponse(hosts=hosts)
    told = yaml.safe_load(ctl("host", "list", "-o", "yaml").out)
    assert [host["computer_name"] for host in told["hosts"]] == names
    assert json.loads(ctl("host", "list", "-o", "json").out) == told


def test_an_operation_is_the_same_in_yaml_as_in_json(ctl: Ctl, service: FakeService) -> None:
    operation = Operation(name=OPERATION, done=True)
    operation.metadata.Pack(OperationMetadata(actor="ann", virtual_machine=VM))
    operation.response.Pack(Snapshot(name=SNAPSHOT))
    service.answers["GetOperation"] = lambda _: operation
    service.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=[operation])
    for command in (("operation", "show", OPERATION), ("operation", "list")):
        said = ctl(*command, "-o", "yaml")
        assert (said.code, said.err) == (0, "")
        assert yaml.safe_load(said.out) == json.loads(ctl(*command, "-o", "json").out)


def test_times_are_rfc_3339(ctl: Ctl, service: FakeService) -> None:
    host = Host(name="hosts/hv01")
    host.create_time.FromSeconds(1_790_000_000)
    service.answers["GetHost"] = lambda _: host
    assert json.loads(ctl("host", "show", "hv01", "-o", "json").out)["create_time"] == "2026-09-21T14:13:20Z"
    assert yaml.safe_load(ctl("host", "show", "hv01", "-o", "yaml").out)["create_time"] == "2026-09-21T14:13:20Z"


@pytest.mark.parametrize(
    ("command", "method", "answer", "names"),
    [
        (("host", "show", "hv01"), "GetHost", Host(name="hosts/hv01"), ["hosts/hv01"]),
        (("host", "remove", "hv01"), "RemoveHost", Empty(), ["hosts/hv01"]),
        (("vm", "unregister", VM), "UnregisterVirtualMachine", Empty(), [VM]),
        (("vm", "show", VM), "GetVirtualMachine", VirtualMachine(name=VM), [VM]),
        (("vm", "start", VM), "StartVirtualMachine", Operation(name=OPERATION), [OPERATION]),
        (
            ("host", "discover", "hv01"),
            "DiscoverVirtualMachines",
            DiscoverVirtualMachinesResponse(virtual_machines=[DiscoveredVirtualMachine(vm_id="v", display_name="n")]),
            ["v"],
        ),
        (
            ("host", "sync", "hv01"),
            "SyncHost",
            SyncHostResponse(host=Host(name="hosts/hv01"), drifts=[Drift(subject=VM)]),
            ["hosts/hv01"],
        ),
        (
            ("snapshot", "tree", VM),
            "GetSnapshotTree",
            SnapshotTree(nodes=[SnapshotTree.Node(id=SNAPSHOT), SnapshotTree.Node(id="checkpoints/c")]),
            [SNAPSHOT, "checkpoints/c"],
        ),
        (("audit", "list"), "ListEvents", ListEventsResponse(events=[Event(subject=VM, operation=OPERATION)]), [VM]),
        (
            ("operation", "list"),
            "ListOperations",
            ListOperationsResponse(operations=[Operation(name=OPERATION), Operation(name="operations/o.1")]),
            [OPERATION, "operations/o.1"],
        ),
    ],
)
def test_names_are_printed_one_a_line(
    ctl: Ctl, service: FakeService, command: tuple[str, ...], method: str, answer: Message, names: list[str]
) -> None:
    service.answers[method] = answers(answer)
    assert ctl(*command, "-o", "name").out.splitlines() == names


def test_what_is_about_no_resource_has_no_names(ctl: Ctl, service: FakeService) -> None:
    service.answers["GetStatus"] = lambda _: GetStatusResponse(projections=[ProjectionState(name="tree")])
    said = ctl("status", "-o", "name")
    assert (said.code, said.out, "Use -o json" in said.err) == (2, "", True)


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_an_error_is_one_document_on_stderr(ctl: Ctl, service: FakeService, output: str) -> None:
    def refuse(_: object) -> Message:
        raise Refuse(grpc.StatusCode.NOT_FOUND, "It is not on record.", "HOST_NOT_FOUND", {"host": "hv01"})

    service.answers["GetHost"] = refuse
    said = ctl("host", "show", "hv01", "-o", output)
    assert (said.code, said.out) == (4, "")
    assert yaml.safe_load(said.err) == {
        "error": {
            "code": "NOT_FOUND",
            "reason": "HOST_NOT_FOUND",
            "message": "It is not on record.",
            "hint": "",
            "metadata": {"host": "hv01"},
            "exit_code": 4,
        }
    }


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("host", "show"), "INVALID_ARGUMENT"),
        (("host", "list", "--port", "1"), "INVALID_ARGUMENT"),
        (("host", "list", "--server", "nowhere"), "INVALID_ARGUMENT"),
        (("vm", "show", "nobody"), "NOT_FOUND"),
        (("host", "list", "--server", "127.0.0.1:1"), "UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("form", [("-o", "json"), ("-ojson",), ("--output=json",)])
def test_what_the_client_finds_itself_is_a_document_too(
    ctl: Ctl, command: tuple[str, ...], code: str, form: tuple[str, ...]
) -> None:
    said = ctl(*form, *command)
    error = json.loads(said.err)["error"]
    assert (error["code"], error["exit_code"], said.out) == (code, said.code, "")


def test_an_operation_that_failed_is_the_document_and_nothing_is_beside_it(ctl: Ctl, service: FakeService) -> None:
    failed = Operation(name=OPERATION, done=True, error=Status(code=9, message="No room."))
    failed.metadata.Pack(OperationMetadata(state=OperationMetadata.FAILED))
    service.answers["WaitOperation"] = lambda _: failed
    said = ctl("operation", "wait", OPERATION, "-o", "json")
    told = json.loads(said.out)
    assert (said.code, said.err, told["error"]["message"]) == (1, "", "No room.")
    assert (told["metadata"]["state"], told["metadata"]["percent"]) == ("FAILED", 0)


def test_columns_are_chosen_by_name_and_in_order(ctl: Ctl, service: FakeService) -> None:
    host = Host(name="hosts/hv01", state=Host.REACHABLE, credential="hyperv")
    service.answers["ListHosts"] = lambda _: ListHostsResponse(hosts=[host])
    said = ctl("host", "list", "--columns", "credential, STATE,name")
    assert [line.split() for line in said.out.splitlines()] == [
        ["CREDENTIAL", "STATE", "HOST"],
        ["hyperv", "REACHABLE", "hv01"],
    ]
    assert "CREDENTIAL" not in ctl("host", "list").out
    service.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=[Operation(name=OPERATION)])
    assert ctl("operation", "list", "--columns", "percent,waits_for").out.splitlines()[0].split() == [
        "%",
        "WAITS",
        "FOR",
    ]


def test_a_column_that_there_is_not_is_an_error_that_names_those_that_there_are(ctl: Ctl) -> None:
    said = ctl("host", "list", "--columns", "name,colour")
    assert said.code == 2
    assert "Cannot show column 'colour'" in said.err
    assert "The columns are: host, address, state, vms, last_sync, why, credential" in said.err
    assert ctl("host", "list", "--columns", ",").code == 2
    assert "a table has columns" in ctl("host", "list", "--columns", "state", "-o", "json").err


@pytest.mark.parametrize("field", EMPTY)
def test_every_list_takes_columns(ctl: Ctl, field: str) -> None:
    said = ctl(*EMPTY[field][0], "--columns", "colour")
    assert (said.code, "Cannot show column 'colour'" in said.err) == (2, True)
