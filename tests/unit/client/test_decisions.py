"""What a person decides about snapshots and checkpoints, as it is typed and shown."""

from __future__ import annotations

import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.virtual_machine_pb2 import ListVirtualMachinesResponse, VirtualMachine
from tests.unit.client.fake_service import Ctl, FakeService

WEB01 = "virtualMachines/11111111-2222-3333-4444-555555555501"
NIGHTLY = f"{WEB01}/snapshots/99999999-2222-3333-4444-555555555501"
HELD = pb.Snapshot(
    name=NIGHTLY,
    display_name="nightly",
    state=pb.Snapshot.READY,
    hold=pb.Snapshot.Hold(actor="ann", reason="audit", time=Timestamp(seconds=1_700_000_000)),
)


@pytest.fixture(autouse=True)
def one_vm(service: FakeService) -> None:
    vm = VirtualMachine(name=WEB01, uid=WEB01[-36:], display_name="web01")
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=[vm]),
        "ListSnapshots": lambda _: pb.ListSnapshotsResponse(snapshots=[HELD]),
        "GetSnapshotTree": lambda _: pb.SnapshotTree(),
        "GetSnapshot": lambda _: HELD,
    }


def test_a_snapshot_is_held_with_a_reason_and_released(ctl: Ctl, service: FakeService) -> None:
    service.answers |= {
        "HoldSnapshot": lambda _: HELD,
        "ReleaseSnapshot": lambda _: pb.Snapshot(display_name="nightly"),
    }
    said = ctl("snapshot", "hold", "web01", "nightly", "--reason", "audit")
    assert (said.code, said.out) == (0, "Nobody deletes nightly until it is released.\n")
    (asked,) = service.of(pb.HoldSnapshotRequest)
    assert (asked.name, asked.reason, len(asked.request_id)) == (NIGHTLY, "audit", 36)
    assert json.loads(ctl("snapshot", "hold", "web01", "nightly", "-o", "json").out)["hold"]["actor"] == "ann"
    said = ctl("snapshot", "release", "web01", "nightly")
    assert (said.code, said.out) == (0, "nightly can be deleted again.\n")


def test_a_hold_is_shown(ctl: Ctl) -> None:
    assert "by ann since 2023-11-14 22:13:20Z: audit" in ctl("snapshot", "show", "web01", "nightly", "--utc").out
