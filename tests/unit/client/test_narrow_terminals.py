"""Every list, and the tree, fits a terminal of 80 columns, however long the names; elsewhere nothing is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.longrunning.operations_pb2 import ListOperationsResponse, Operation
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1.admin_pb2 import ExecutorState, GetStatusResponse, HostState, OverdueOperation, Problem
from snapshotd.api.v1.audit_pb2 import Event, ListEventsResponse
from snapshotd.api.v1.executor_pb2 import RUNNING
from snapshotd.api.v1.host_pb2 import (
    DiscoveredVirtualMachine,
    DiscoverVirtualMachinesResponse,
    Drift,
    Host,
    ListHostsResponse,
    SkippedVirtualMachine,
    SyncHostResponse,
)
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Wait
from snapshotd.api.v1.snapshot_pb2 import ListSnapshotsResponse, Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import ListVirtualMachinesResponse, VirtualMachine
from snapshotd.client.render import width_of
from tests.unit.client.fake_service import Ctl, FakeService

LONG = "database-server-of-the-accounting-department"
VM_ID = "11111111-2222-3333-4444-555555555501"
VM = f"virtualMachines/{VM_ID}"
SNAPSHOT = f"{VM}/snapshots/99999999-2222-3333-4444-555555555501"
OPERATION = f"operations/{VM_ID}.123-0a1b2c3d"
SUMMARY = (
    "Snapshot 'nightly' of VM web01 was taken (disks and memory), below 'the first of all', by a step of an operation."
)
NOW = Timestamp(seconds=1_790_000_000)
STATES = OperationMetadata


def operation() -> Operation:
    """Return an operation that waits."""
    made = Operation(name=OPERATION)
    made.metadata.Pack(
        OperationMetadata(
            virtual_machine=VM,
            kind=STATES.REVERT_TO_SNAPSHOT,
            state=STATES.RUNNING,
            current_step="checkpoint",
            current_step_number=2,
            step_count=4,
            create_time=NOW,
            wait=Wait(reason="FOREIGN_INSTALLATION"),
            actor=LONG,
        )
    )
    return made


def snapshot() -> Snapshot:
    """Return a snapshot with a long name."""
    return Snapshot(
        name=SNAPSHOT, uid=SNAPSHOT[-36:], display_name=LONG, state=Snapshot.READY, create_time=NOW, size_bytes=1 << 40
    )


def event() -> Event:
    """Return an event whose details are long."""
    made = Event(
        position=12_345_678,
        time=NOW,
        actor=LONG,
        type="SnapshotStateChanged",
        from_state="CREATING",
        to_state="READY",
        subject=SNAPSHOT,
        summary=SUMMARY,
    )
    made.data.update({"reason": LONG})
    return made


def status() -> GetStatusResponse:
    """Return a status with trouble."""
    overdue = OverdueOperation(operation=OPERATION, display_name=LONG, kind=STATES.REVERT_TO_SNAPSHOT, since=NOW)
    overdue.message = "The host does not answer. " * 5
    made = GetStatusResponse(
        problems=[
            Problem(subject=f"VM {VM_ID}", reason="FOREIGN_INSTALLATION", since=NOW, message="It is foreign. " * 9)
        ],
        hosts=[HostState(host=f"hosts/{LONG}", executor="ex-0123456789ab", last_sync_time=NOW)],
        executors=[
            ExecutorState(
                executor_id="ex-0123456789ab", signed_in_as="executor:ex1", serves=[LONG], hosts=[f"hosts/{LONG}"]
            )
        ],
        overdue_operations=[overdue],
    )
    failed = made.recent_failures.latest.add(operation=OPERATION, display_name=LONG, actor=LONG)
    failed.failure.reason = "OUTCOME_UNDETERMINED"
    failed.failure.time.CopyFrom(NOW)
    return made


def synced() -> SyncHostResponse:
    """Return a sync that found something, and left something out."""
    why = SkippedVirtualMachine(name=VM, display_name=LONG, reason="UNREADABLE", message="It is locked. " * 9)
    return SyncHostResponse(
        virtual_machines_compared=1,
        drifts=[Drift(kind="FOREIGN_CHECKPOINT", subject=SNAPSHOT, message="It is new. " * 9)],
        virtual_machines_skipped=[VM],
        skip_reasons=[why],
    )


LISTS: dict[str, tuple[str, Callable[[], Message]]] = {
    "host list": (
        "ListHosts",
        lambda: ListHostsResponse(
            hosts=[
                Host(
                    name=f"hosts/{LONG}",
                    address=f"{LONG}.example.com",
                    port=5985,
                    state=Host.UNREACHABLE,
                    last_sync_time=NOW,
                    wait=Wait(reason="AUTHENTICATION_FAILED"),
                )
            ]
        ),
    ),
    "host discover hv01": (
        "DiscoverVirtualMachines",
        lambda: DiscoverVirtualMachinesResponse(
            virtual_machines=[
                DiscoveredVirtualMachine(
                    vm_id=VM_ID,
                    display_name=LONG,
                    power=RUNNING,
                    disk_count=12,
                    snapshot_blockers=["PASS_THROUGH_DISK", "REPLICA"],
                )
            ]
        ),
    ),
    "vm list": (
        "ListVirtualMachines",
        lambda: ListVirtualMachinesResponse(
            virtual_machines=[
                VirtualMachine(
                    name=VM,
                    uid=VM_ID,
                    display_name=LONG,
                    state=VirtualMachine.RUNNING,
                    host=f"hosts/{LONG}",
                    owner=LONG,
                    active_operations=[OPERATION],
                    conditions=[
                        VirtualMachine.Condition(reason="FOREIGN_INSTALLATION"),
                        VirtualMachine.Condition(reason="VM_CRITICAL"),
                    ],
                )
            ]
        ),
    ),
    f"snapshot list {VM}": (
        "GetSnapshotTree",
        lambda: SnapshotTree(
            nodes=[SnapshotTree.Node(id=SNAPSHOT, snapshot=snapshot()), SnapshotTree.Node(id="x", parent=SNAPSHOT)]
        ),
    ),
    f"snapshot tree {VM}": (
        "GetSnapshotTree",
        lambda: SnapshotTree(nodes=[SnapshotTree.Node(id=SNAPSHOT, snapshot=snapshot())]),
    ),
    "operation list": ("ListOperations", lambda: ListOperationsResponse(operations=[operation()])),
    "status": ("GetStatus", status),
    "host sync hv01": ("SyncHost", synced),
    "audit list": ("ListEvents", lambda: ListEventsResponse(events=[event()])),
}


@pytest.fixture(autouse=True)
def known(service: FakeService) -> None:
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(),
        "ListSnapshots": lambda _: ListSnapshotsResponse(),
    }


@pytest.mark.parametrize("command", LISTS)
def test_a_list_fits_eighty_columns(
    ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    method, make = LISTS[command]
    service.answers[method] = lambda _: make()
    whole = ctl(*command.split())
    assert LONG in whole.out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    said = ctl(*command.split())
    assert said.code == 0, said
    assert max(map(width_of, said.out.splitlines())) <= 80, said.out
    assert "…" in said.out
    assert OPERATION not in said.out


@pytest.mark.parametrize(
    ("width", "asked", "heads"),
    [
        ("80", [], ["TIME", "ACTOR", "DETAIL"]),
        ("80", ["--columns", "position,detail"], ["POSITION", "DETAIL"]),
        ("200", [], ["POSITION", "TIME", "ACTOR", "WHAT", "STATES", "OF", "DETAIL"]),
    ],
)
def test_a_sentence_of_the_trail_can_be_read_on_any_terminal(
    ctl: Ctl, service: FakeService, monkeypatch: pytest.MonkeyPatch, width: str, asked: list[str], heads: list[str]
) -> None:
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[event()])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", width)
    first, *lines = ctl("audit", "list", *asked).out.splitlines()
    assert first.split() == heads
    at = first.index("DETAIL")
    assert " ".join(line[at:].strip() for line in lines) == SUMMARY
