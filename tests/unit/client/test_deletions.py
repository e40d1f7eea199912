"""`snapshot delete` and `delete-all`: what is asked for, and what is said in the end; and cancelled operations."""

from __future__ import annotations

import json

import pytest
from google.longrunning.operations_pb2 import ListOperationsResponse, Operation
from google.rpc.code_pb2 import FAILED_PRECONDITION
from google.rpc.error_details_pb2 import ErrorInfo

from snapshotd.api.v1.operation_pb2 import Failure, OperationMetadata, Plan, Step
from snapshotd.api.v1.snapshot_pb2 import (
    DeleteAllSnapshotsRequest,
    DeleteAllSnapshotsResponse,
    DeleteSnapshotRequest,
    DeleteSnapshotResponse,
    ListSnapshotsResponse,
    Snapshot,
)
from snapshotd.api.v1.virtual_machine_pb2 import ListVirtualMachinesResponse
from tests.unit.client.fake_service import Ctl, FakeService

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
NAME = "operations/11111111-2222-3333-4444-555555555501.7-0a0b0c0d"
Scopes = DeleteSnapshotRequest


def sid(n: int) -> str:
    """Return the name of the n-th snapshot."""
    return f"{VM}/snapshots/aaaaaaaa-0000-4000-8000-{n:012d}"


def uid(n: int) -> str:
    """Return the id of the n-th snapshot."""
    return sid(n).rpartition("/")[2]


def known(n: int) -> Snapshot:
    """Return the n-th snapshot."""
    return Snapshot(name=sid(n), display_name=f"s{n}", state=Snapshot.REMOVED)


def metadata(state: OperationMetadata.State.ValueType, *removed: int, **more: object) -> OperationMetadata:
    """Return the metadata of a delete of three, of which so many are gone; the second was refused, if it is not."""
    steps = [Step(number=n, name=name, snapshot=sid(n // 2 + 1)) for n in range(6) for name in ["remove"]]
    if 2 not in removed and removed:
        steps[2].failure.CopyFrom(Failure(reason="HOST_ERROR", message="No."))
    return OperationMetadata(state=state, steps=steps, snapshots_removed=[sid(n) for n in removed], **more)  # type: ignore[arg-type]  # as they are named


def operation(told: OperationMetadata, *, done: bool = True, failed: str = "") -> Operation:
    """Return an operation."""
    made = Operation(name=NAME, done=done)
    made.metadata.Pack(told)
    if failed:
        made.error.code, made.error.message = FAILED_PRECONDITION, failed
        made.error.details.add().Pack(ErrorInfo(reason="SNAPSHOTS_NOT_DELETED", domain="snapshotd"))
        response = DeleteAllSnapshotsResponse(removed=told.snapshots_removed)
        response.failures[sid(2)].CopyFrom(Failure(reason="HOST_ERROR", message="No."))
        made.error.details.add().Pack(response)
    return made


@pytest.fixture
def deletes(service: FakeService) -> FakeService:
    """Return a service with three snapshots, that accepts deletes."""
    begun = operation(metadata(OperationMetadata.RUNNING), done=False)
    service.answers |= {
        "DeleteSnapshot": lambda _: begun,
        "DeleteAllSnapshots": lambda _: begun,
        "ListSnapshots": lambda _: ListSnapshotsResponse(snapshots=[known(n) for n in (1, 2, 3)]),
    }
    return service


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        ((), Scopes.ONE),
        (("--with-descendants",), Scopes.WITH_DESCENDANTS),
        (("--only-descendants",), Scopes.ONLY_DESCENDANTS),
    ],
)
def test_the_scope_is_asked_for(
    deletes: FakeService, ctl: Ctl, options: tuple[str, ...], scope: Scopes.Scope.ValueType
) -> None:
    said = ctl("snapshot", "delete", VM, sid(1), *options)
    assert (said.code, said.out) == (0, f"{NAME} accepted. To wait: snapshotctl operation wait {NAME}\n")
    (asked,) = deletes.of(DeleteSnapshotRequest)
    assert (asked.name, asked.scope, asked.validate_only) == (sid(1), scope, False)


def test_both_scopes_at_once_are_refused(deletes: FakeService, ctl: Ctl) -> None:
    said = ctl("snapshot", "delete", VM, sid(1), "--with-descendants", "--only-descendants")
    assert said.code == 2
    assert deletes.of(DeleteSnapshotRequest) == []


@pytest.mark.parametrize("memory", [False, True])
def test_all_or_those_with_memory_are_asked_for(deletes: FakeService, ctl: Ctl, *, memory: bool) -> None:
    assert ctl("snapshot", "delete-all", VM, *(["--with-memory"] if memory else [])).code == 0
    (asked,) = deletes.of(DeleteAllSnapshotsRequest)
    assert (asked.parent, asked.only_with_memory, bool(asked.request_id)) == (VM, memory, True)


def test_after_the_wait_it_says_which_are_gone(deletes: FakeService, ctl: Ctl) -> None:
    ended = operation(metadata(OperationMetadata.SUCCEEDED, 3, 1))
    ended.response.Pack(DeleteSnapshotResponse(removed=[sid(3), sid(1)], current_snapshot=sid(2)))
    deletes.answers |= {"WaitOperation": lambda _: ended, "GetSnapshot": lambda r: known(int(r.name[-1]))}
    said = ctl("snapshot", "delete", VM, sid(1), "--with-descendants", "--wait")
    assert said.code == 0
    assert said.out.splitlines() == [
        f"{NAME} succeeded.",
        f"Deleted: s3 ({uid(3)}), s1 ({uid(1)}). Current: s2 ({uid(2)}).",
    ]


def test_what_failed_is_said_as_the_server_says_it_and_nothing_twice(deletes: FakeService, ctl: Ctl) -> None:
    text = "Cannot delete 1 of 2. Deleted: s3."
    deletes.answers["WaitOperation"] = lambda _: operation(metadata(OperationMetadata.FAILED, 3), failed=text)
    said = ctl("snapshot", "delete-all", VM, "--wait")
    assert said.code == 1
    assert f"{NAME} did not succeed: {text} [SNAPSHOTS_NOT_DELETED]" in said.err


def test_one_that_was_cancelled_says_what_is_gone(deletes: FakeService, ctl: Ctl) -> None:
    ended = operation(metadata(OperationMetadata.CANCELLED, 3, 2), failed="It was cancelled.")
    deletes.answers |= {"WaitOperation": lambda _: ended, "GetSnapshot": lambda r: known(int(r.name[-1]))}
    said = ctl("snapshot", "delete-all", VM, "--wait")
    assert (said.code, f"It was cancelled. Deleted: s3 ({uid(3)}), s2 ({uid(2)})." in said.err) == (1, True)


def test_documents_hold_what_failed_and_no_text_for_people(deletes: FakeService, ctl: Ctl) -> None:
    ended = operation(metadata(OperationMetadata.FAILED, 3), failed="Cannot delete 2 of 3.")
    deletes.answers["WaitOperation"] = lambda _: ended
    said = ctl("snapshot", "delete-all", VM, "--wait", "-o", "json")
    assert said.code == 1
    details = json.loads(said.out)["error"]["details"]
    assert [d["failures"][sid(2)]["message"] for d in details if d.get("failures")] == ["No."]


def test_nothing_to_delete_is_said_at_once(deletes: FakeService, ctl: Ctl) -> None:
    deletes.answers["DeleteAllSnapshots"] = lambda _: operation(OperationMetadata(state=OperationMetadata.SUCCEEDED))
    for more in ((), ("--wait",)):
        said = ctl("snapshot", "delete-all", VM, *more)
        assert (said.code, said.out) == (0, f"{NAME} succeeded.\n")


def test_a_plan_for_several_says_at_each_step_whose_it_is(deletes: FakeService, ctl: Ctl) -> None:
    names = [("remove", Step.PIVOT, 2), ("merge", Step.WAIT, 2), ("remove", Step.FORWARD_ONLY, 1)]
    steps = [
        Step(number=n, name=name, step_class=kind, description="Do it.", host="hosts/hv01", snapshot=sid(about))
        for n, (name, kind, about) in enumerate(names, 1)
    ]
    plan = Plan(kind=OperationMetadata.DELETE_ALL_SNAPSHOTS, steps=steps, snapshots_discarded=[sid(2), sid(1)])
    made = Operation(done=True)
    made.response.Pack(plan)
    deletes.answers["DeleteAllSnapshots"] = lambda _: made
    said = ctl("snapshot", "delete-all", VM, "--dry-run")
    assert said.out.splitlines()[:4] == [
        f"Would delete all snapshots on {VM}:",
        "  1. remove     s2: Do it. [pivot, on hv01]",
        "  2. merge      s2: Do it. [wait, on hv01]",
        "  3. remove     s1: Do it. [forward-only, on hv01]",
    ]
    assert "Gone:    s2, s1" in said.out
    assert deletes.of(DeleteAllSnapshotsRequest)[0].validate_only


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("delete", VM, "s1"), "delete snapshot s1"),
        (("delete", VM, "s1", "--with-descendants"), "delete snapshot s1 and all below it"),
        (("delete", VM, "s1", "--only-descendants"), "delete all below snapshot s1"),
        (("delete-all", VM, "--with-memory"), "delete all snapshots with memory"),
    ],
)
def test_a_plan_says_what_it_is_of(deletes: FakeService, ctl: Ctl, command: tuple[str, ...], text: str) -> None:
    made = Operation(done=True)
    made.response.Pack(Plan(kind=OperationMetadata.DELETE_SNAPSHOT, snapshot=sid(1)))
    deletes.answers |= {"DeleteSnapshot": lambda _: made, "DeleteAllSnapshots": lambda _: made}
    assert ctl("snapshot", *command, "--dry-run").out.startswith(f"Would {text} on {VM}:\n")


@pytest.mark.parametrize(
    ("told", "state", "cancelled"),
    [
        (OperationMetadata(state=OperationMetadata.RUNNING), "RUNNING", ""),
        (
            OperationMetadata(state=OperationMetadata.RUNNING, cancel_requested=True),
            "CANCELLING",
            "requested; it ends at its next safe point",
        ),
        (OperationMetadata(state=OperationMetadata.CANCELLED, cancel_requested=True), "CANCELLED", "as requested"),
        (
            OperationMetadata(state=OperationMetadata.FAILED, cancel_requested=True),
            "FAILED",
            "requested, and it ended otherwise",
        ),
    ],
    ids=["not cancelled", "being cancelled", "cancelled", "failed all the same"],
)
def test_a_cancelled_operation_shows_that_it_was(
    service: FakeService, ctl: Ctl, told: OperationMetadata, state: str, cancelled: str
) -> None:
    active = told.state == OperationMetadata.RUNNING
    if not active:
        told.end_time.FromSeconds(1)
    shown = operation(told, done=not active)
    service.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=[shown])
    service.answers["ListVirtualMachines"] = lambda _: ListVirtualMachinesResponse()
    service.answers["GetOperation"] = lambda _: shown
    assert f" {state} " in ctl("operation", "list").out
    lines = ctl("operation", "show", NAME).out.splitlines()
    assert [line.partition(":")[2].strip() for line in lines if line.startswith("State:")] == [state]
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("Cancelled:")]
    assert found == ([cancelled] if cancelled else [])


def test_each_step_of_several_snapshots_shows_whose_it_is(service: FakeService, ctl: Ctl) -> None:
    service.answers["GetOperation"] = lambda _: operation(metadata(OperationMetadata.FAILED, 3), failed="No.")
    heads, *rows = ctl("operation", "show", NAME).out.splitlines()[-7:]
    assert heads.split()[:4] == ["STEP", "NAME", "SNAPSHOT", "STATE"]
    assert [row.split()[2] for row in rows] == [uid(n // 2 + 1) for n in range(6)]
