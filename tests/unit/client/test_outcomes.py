"""What is printed of an operation that has ended; and which snapshot `undo-revert` goes back to."""

from __future__ import annotations

import pytest
from google.longrunning.operations_pb2 import ListOperationsResponse, Operation
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo

from snapshotd.api.v1.executor_pb2 import STOPPED
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Step
from snapshotd.api.v1.snapshot_pb2 import (
    DeleteAllSnapshotsResponse,
    DeleteSnapshotResponse,
    RevertToSnapshotRequest,
    RevertToSnapshotResponse,
    Snapshot,
)
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from tests.unit.client.fake_service import Ctl, FakeService

VM_ID = "11111111-2222-3333-4444-555555555501"
VM = f"virtualMachines/{VM_ID}"
NAME = f"operations/{VM_ID}.1"
WEB = VirtualMachine(name=VM, display_name="web01", power=STOPPED)


def sid(n: int) -> str:
    """Return the n-th snapshot id."""
    return f"aaaaaaaa-0000-4000-8000-{n:012d}"


def snapshot(n: int) -> str:
    """Return the n-th snapshot's resource name."""
    return f"{VM}/snapshots/{sid(n)}"


def ended(response: Message | None, metadata: OperationMetadata, error: str = "") -> Operation:
    """Return an operation that has ended."""
    operation = Operation(name=NAME, done=True)
    operation.metadata.Pack(metadata)
    if response is not None:
        operation.response.Pack(response)
    if error:
        operation.error.message = error
        operation.error.details.add().Pack(ErrorInfo(reason="HOST_ERROR"))
    return operation


@pytest.fixture
def named(service: FakeService) -> FakeService:
    """Return a service whose snapshots are named by their numbers."""
    service.answers["GetSnapshot"] = lambda r: Snapshot(
        name=r.name, display_name=f"s{int(r.name[-3:])}", state=Snapshot.READY
    )
    return service


TAKEN = Snapshot(
    name=snapshot(1), display_name="one", kind=Snapshot.DISK_AND_MEMORY, requested_kind=Snapshot.DISK_AND_MEMORY
)
FELL_BACK = Snapshot(name=snapshot(1), display_name="one", kind=Snapshot.DISK_AND_MEMORY, requested_kind=Snapshot.DISK)
RESPONSES = [
    (TAKEN, f"Snapshot one ({sid(1)}) was taken (disk+memory)."),
    (
        FELL_BACK,
        f"Snapshot one ({sid(1)}) was taken (disk+memory, not disk: its guest could not be frozen).",
    ),
    (WEB, "VM web01 is STOPPED."),
    (
        RevertToSnapshotResponse(virtual_machine=WEB, snapshot=snapshot(3)),
        f"VM web01 is back at snapshot s3 ({sid(3)}), and STOPPED.",
    ),
    (
        DeleteSnapshotResponse(removed=[snapshot(3), snapshot(4)], current_snapshot=snapshot(1)),
        f"Deleted: s3 ({sid(3)}), s4 ({sid(4)}). Current: s1 ({sid(1)}).",
    ),
    (DeleteSnapshotResponse(removed=[snapshot(3)]), f"Deleted: s3 ({sid(3)}). Current: none."),
    (DeleteAllSnapshotsResponse(removed=[snapshot(3)]), f"Deleted: s3 ({sid(3)})."),
    (DeleteAllSnapshotsResponse(), "Deleted: none."),
]


@pytest.mark.parametrize(("response", "said"), RESPONSES)
def test_what_an_operation_led_to_is_printed(ctl: Ctl, named: FakeService, response: Message, said: str) -> None:
    metadata = OperationMetadata(virtual_machine=VM, steps=[Step(name="checkpoint"), Step(name="remove")])
    named.answers["WaitOperation"] = lambda _: ended(response, metadata)
    waited = ctl("operation", "wait", NAME)
    assert (waited.code, waited.out) == (0, f"{NAME} succeeded.\n{said}\n")


def test_memory_that_was_lost_and_the_safety_snapshot_are_told(ctl: Ctl, named: FakeService) -> None:
    metadata = OperationMetadata(
        virtual_machine=VM,
        outcome_detail="The memory was lost.",
        safety_snapshot=snapshot(8),
        steps=[Step(number=1, snapshot=snapshot(8), state=Step.DONE)],
    )
    named.answers["WaitOperation"] = lambda _: ended(None, metadata)
    assert ctl("operation", "wait", NAME).out.splitlines()[1:] == [
        "The memory was lost.",
        f"The state before is in snapshot s8 ({sid(8)}). To go back to it: snapshotctl snapshot undo-revert {VM_ID}",
    ]


@pytest.mark.parametrize(("state", "told"), [(Step.DONE, True), (Step.FAILED, False)])
def test_a_failure_is_told_with_what_came_of_it_all_the_same(
    ctl: Ctl, named: FakeService, state: Step.State.ValueType, *, told: bool
) -> None:
    metadata = OperationMetadata(
        virtual_machine=VM,
        outcome_detail="The VM was restarted.",
        safety_snapshot=snapshot(8),
        steps=[Step(number=1, snapshot=snapshot(8), state=state)],
    )
    named.answers["WaitOperation"] = lambda _: ended(None, metadata, "It failed.")
    waited = ctl("operation", "wait", NAME)
    assert waited.code == 1
    assert f"{NAME} did not succeed: It failed. The VM was restarted." in waited.err
    assert (f"The state before is in snapshot s8 ({sid(8)})." in waited.err) is told


def test_what_the_error_says_already_is_not_said_twice(ctl: Ctl, named: FakeService) -> None:
    metadata = OperationMetadata(virtual_machine=VM, outcome_detail="All changes were rolled back.")
    text = "The operation was cancelled. All changes were rolled back."
    named.answers["WaitOperation"] = lambda _: ended(None, metadata, text)
    assert ctl("operation", "wait", NAME).err.count("rolled back") == 1


def revert(
    to: int, safety: int = 0, state: OperationMetadata.State.ValueType = OperationMetadata.SUCCEEDED
) -> Operation:
    """Return a revert that has ended."""
    metadata = OperationMetadata(
        kind=OperationMetadata.REVERT_TO_SNAPSHOT,
        state=state,
        virtual_machine=VM,
        snapshot=snapshot(to),
        safety_snapshot=snapshot(safety) if safety else "",
    )
    return ended(None, metadata)


@pytest.mark.parametrize(
    ("done", "back_to"),
    [
        ((revert(1, 8),), 8),
        ((revert(2, 9), revert(1, 8)), 9),
        ((revert(8), revert(1, 8)), 8),
        ((revert(1, 8, OperationMetadata.FAILED),), 8),
        ((revert(2, 0, OperationMetadata.FAILED), revert(1, 8)), 8),
    ],
    ids=["the last", "the newest of two", "undone already", "a failed one", "past one that failed"],
)
def test_a_revert_is_undone_by_going_back_to_its_safety_snapshot(
    ctl: Ctl, named: FakeService, done: tuple[Operation, ...], back_to: int
) -> None:
    named.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=done)
    named.answers["RevertToSnapshot"] = lambda _: Operation(name=NAME)
    assert ctl("snapshot", "undo-revert", VM, "--power-after", "as-before", "--safety-snapshot").code == 0
    (request,) = named.of(RevertToSnapshotRequest)
    assert (request.name, request.power_after) == (snapshot(back_to), RevertToSnapshotRequest.AS_BEFORE)
    assert request.safety_snapshot


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ((), "there was none"),
        ((revert(1),), "no snapshot was taken before it"),
        ((revert(1, 404),), "none is READY"),
        ((revert(2), revert(1, 8)), f"snapshotctl snapshot revert {VM} {sid(8)}"),
    ],
    ids=["no revert", "none taken", "deleted since", "of an earlier one only"],
)
def test_a_revert_that_cannot_be_undone_is_refused_with_why(
    ctl: Ctl, named: FakeService, done: tuple[Operation, ...], said: str
) -> None:
    named.answers["ListOperations"] = lambda _: ListOperationsResponse(operations=done)
    whole = named.answers["GetSnapshot"]
    gone = Snapshot(state=Snapshot.REMOVED)
    named.answers["GetSnapshot"] = lambda r: gone if r.name == snapshot(404) else whole(r)
    refused = ctl("snapshot", "undo-revert", VM)
    assert refused.code == 3
    assert said in refused.err
    assert named.of(RevertToSnapshotRequest) == []


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), RevertToSnapshotRequest(power_after=RevertToSnapshotRequest.AS_SNAPSHOT)),
        (
            ("--safety-snapshot-name", "x", "--require-memory", "--power-after", "running"),
            RevertToSnapshotRequest(
                safety_snapshot=True,
                safety_snapshot_name="x",
                require_memory=True,
                power_after=RevertToSnapshotRequest.RUNNING,
            ),
        ),
    ],
)
def test_a_revert_is_asked_for_with_its_options(
    ctl: Ctl, named: FakeService, options: tuple[str, ...], asked: RevertToSnapshotRequest
) -> None:
    named.answers["RevertToSnapshot"] = lambda _: Operation(name=NAME)
    assert ctl("snapshot", "revert", VM, snapshot(1), *options).code == 0
    (request,) = named.of(RevertToSnapshotRequest)
    asked.name, asked.power_state_change = snapshot(1), RevertToSnapshotRequest.ALLOW
    request.request_id = ""
    assert request == asked
