"""Trees and lists of operations that are shown again after each change: on a terminal, into a pipe, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

import grpc
import pytest
from google.longrunning.operations_pb2 import ListOperationsResponse, Operation
from google.protobuf.message import Message

from snapshotd.api.v1.operation_pb2 import OperationMetadata, WatchOperationsRequest, WatchOperationsResponse
from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree, WatchSnapshotTreeRequest
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
END = Refuse(grpc.StatusCode.NOT_FOUND, "It is not registered any more.", "VIRTUAL_MACHINE_NOT_FOUND")
LOST = Refuse(grpc.StatusCode.UNAVAILABLE, "There is nobody.")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapshotd.client.following._PAUSE_S", 0.0)


def tree(*names: str, version: int = 1) -> SnapshotTree:
    """Return a tree."""
    nodes = [
        SnapshotTree.Node(id=name, snapshot=Snapshot(display_name=name, uid=name, state=Snapshot.READY))
        for name in names
    ]
    return SnapshotTree(virtual_machine=VM, display_name="web01", nodes=nodes, version=version)


def sends(service: FakeService, method: str, *streams: Sequence[Message | Refuse]) -> None:
    """Let a method send so, call by call."""
    calls = iter(streams)

    def sent(_: object) -> Iterator[Message]:
        for answer in next(calls):
            if isinstance(answer, Refuse):
                raise answer
            yield answer

    service.streams[method] = sent


def test_into_a_pipe_each_tree_is_printed_after_a_blank_line(ctl: Ctl, service: FakeService) -> None:
    sends(service, "WatchSnapshotTree", [tree(), tree("one", version=2), END])
    said = ctl("snapshot", "tree", VM, "--watch")
    first, second = said.out.split("\n\n")
    assert first.splitlines()[1] == "(no snapshots)"
    assert second.splitlines()[2].startswith("one ")
    assert (said.code, said.err) == (4, "snapshotctl: It is not registered any more. [VIRTUAL_MACHINE_NOT_FOUND]\n")


def test_into_a_pipe_no_tree_is_printed_twice_because_of_what_is_not_drawn(ctl: Ctl, service: FakeService) -> None:
    busy, old = tree("one", version=2), tree("one", version=3)
    busy.nodes[0].snapshot.active_operation = "operations/o.1"
    old.nodes[0].snapshot.description = "said later"
    sends(service, "WatchSnapshotTree", [tree("one"), busy, old, tree("one", "two"), busy, END])
    shown = ctl("snapshot", "tree", VM, "--watch").out.split("\n\n")
    assert [text.count("READY") for text in shown] == [1, 2, 1]


def test_a_tree_is_not_watched_as_csv(ctl: Ctl, service: FakeService) -> None:
    said = ctl("snapshot", "tree", VM, "--watch", "-o", "csv")
    assert (said.code, "Use -o json" in said.err) == (2, True)
    assert not service.of(WatchSnapshotTreeRequest)


def test_a_server_that_is_back_with_the_same_tree_shows_nothing_new(ctl: Ctl, service: FakeService) -> None:
    sends(service, "WatchSnapshotTree", [tree("one"), LOST], [tree("one", version=7), tree("one", "two"), END])
    said = ctl("snapshot", "tree", VM, "--watch", "-o", "json")
    assert [len(json.loads(line)["nodes"]) for line in said.out.splitlines()] == [1, 2]
    assert "Lost the server" in said.err
    assert "is back" in said.err
    assert len(service.of(WatchSnapshotTreeRequest)) == 2


def test_on_a_terminal_the_tree_is_redrawn(ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    sends(service, "WatchSnapshotTree", [tree("one"), tree("one", "two"), END])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    screens = ctl("snapshot", "tree", VM, "--watch").out.split("\x1b[H\x1b[2J")
    assert [screen.count("READY") for screen in screens] == [0, 1, 2]
    assert screens[1].endswith("Ctrl-C ends this.\n")


def operation(n: int, state: str = "RUNNING") -> Operation:
    """Return an operation."""
    metadata = OperationMetadata(state=OperationMetadata.State.Value(state), virtual_machine=VM)
    metadata.create_time.FromSeconds(1_790_000_000 + n)
    made = Operation(name=f"operations/o.{n}-0a1b2c3{n}", done=state != "RUNNING")
    made.metadata.Pack(metadata)
    return made


def answer(one: Operation | None = None, *, complete: bool = True) -> WatchOperationsResponse:
    """Return a part of the answer; without an operation, a heartbeat."""
    return WatchOperationsResponse(operation=one, complete=complete)


@pytest.fixture
def listed(service: FakeService) -> FakeService:
    """Let the service list two operations."""
    service.answers["GetVirtualMachine"] = lambda asked: VirtualMachine(name=asked.name, display_name="web01")
    service.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=[operation(2), operation(1)])
    return service


def states(text: str) -> list[tuple[str, str]]:
    """Return the operation and the state of each line but the head."""
    return [(line.split()[0], line.split()[2]) for line in text.splitlines() if line.startswith("0a1b2c3")]


def test_operations_are_printed_and_each_again_when_it_has_changed(ctl: Ctl, listed: FakeService) -> None:
    first: list[Message | Refuse] = [
        answer(operation(2), complete=False),
        answer(operation(1), complete=False),
        answer(),
    ]
    later: list[Message | Refuse] = [answer(operation(1, "SUCCEEDED")), answer(), answer(operation(3)), LOST]
    again: list[Message | Refuse] = [
        answer(operation(3), complete=False),
        answer(),
        answer(operation(3, "FAILED")),
        END,
    ]
    sends(listed, "WatchOperations", first + later, again)
    said = ctl("operation", "list", "--watch", "--columns", "operation,vm,state")
    assert states(said.out) == [
        ("0a1b2c32", "RUNNING"),
        ("0a1b2c31", "RUNNING"),
        ("0a1b2c31", "SUCCEEDED"),
        ("0a1b2c33", "RUNNING"),
        ("0a1b2c33", "FAILED"),
    ]
    (asked, _) = listed.of(WatchOperationsRequest)
    assert asked.filter == 'create_time >= "2026-09-21T14:13:21Z"'


def test_on_a_terminal_the_newest_operations_are_redrawn(
    ctl: Ctl, listed: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[Message | Refuse] = [answer(operation(2), complete=False), answer(operation(1), complete=False)]
    later: list[Message | Refuse] = [answer(), answer(operation(1, "FAILED")), answer(operation(3)), END]
    sends(listed, "WatchOperations", first + later)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    said = ctl("operation", "list", "--watch", "--limit", "2", "--active", "--columns", "operation,vm,state")
    screens = [states(screen) for screen in said.out.split("\x1b[H\x1b[2J")]
    assert screens == [
        [],
        [("0a1b2c32", "RUNNING"), ("0a1b2c31", "RUNNING")],
        [("0a1b2c32", "RUNNING"), ("0a1b2c31", "FAILED")],
        [("0a1b2c33", "RUNNING"), ("0a1b2c32", "RUNNING")],
    ]
    assert listed.of(WatchOperationsRequest)[0].filter.startswith('done = "false" AND create_time >= ')


def test_without_any_operation_all_that_come_are_watched(ctl: Ctl, listed: FakeService) -> None:
    listed.answers["ListOperations"] = lambda _: ListOperationsResponse()
    sends(listed, "WatchOperations", [answer(), answer(operation(1)), END])
    said = ctl("operation", "list", "--watch", "-o", "jsonl")
    assert [json.loads(line)["name"] for line in said.out.splitlines()] == ["operations/o.1-0a1b2c31"]
    assert listed.of(WatchOperationsRequest)[0].filter == ""
