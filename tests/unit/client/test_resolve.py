"""What a VM or a snapshot is named by leads to that one, or to an error; never to another one."""

from __future__ import annotations

import json

import grpc
import pytest
from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.audit_pb2 import Event, ListEventsRequest, ListEventsResponse
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.virtual_machine_pb2 import (
    ListVirtualMachinesResponse,
    RegisterVirtualMachineRequest,
    UnregisterVirtualMachineRequest,
    VirtualMachine,
)
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

WEB01, DB01 = (f"virtualMachines/11111111-2222-3333-4444-55555555550{n}" for n in (1, 2))
SNAPSHOT = "99999999-2222-3333-4444-555555555501"
FOREIGN = "99999999-2222-3333-4444-5555555555ff"
REQUEST = "77777777-2222-3333-4444-555555555501"


@pytest.fixture(autouse=True)
def two_vms(service: FakeService) -> None:
    vms = [VirtualMachine(name=n, uid=n[-36:], display_name=d) for n, d in ((WEB01, "web01"), (DB01, "db01"))]
    accepted = Operation(name="operations/o.1")
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=vms),
        "DeleteSnapshot": lambda _: accepted,
        "RevertToSnapshot": lambda _: accepted,
        "ListSnapshots": lambda _: pb.ListSnapshotsResponse(),
        "GetSnapshotTree": lambda _: pb.SnapshotTree(),
    }


@pytest.mark.parametrize("command", ["delete", "revert", "show"])
@pytest.mark.parametrize("vm", ["web01", WEB01, WEB01[-36:]])
def test_a_full_name_of_another_vms_snapshot_is_refused(ctl: Ctl, service: FakeService, command: str, vm: str) -> None:
    said = ctl("snapshot", command, vm, f"{DB01}/snapshots/{SNAPSHOT}")
    assert (said.code, said.out) == (2, "")
    assert "is not a snapshot of" in said.err
    assert not service.of(pb.DeleteSnapshotRequest) + service.of(pb.RevertToSnapshotRequest)
    assert not service.of(pb.GetSnapshotRequest)


@pytest.mark.parametrize("vm", ["web01", WEB01, WEB01.upper().replace("VIRTUALMACHINES", "virtualMachines")])
def test_a_full_name_of_the_vms_own_snapshot_is_taken(ctl: Ctl, service: FakeService, vm: str) -> None:
    assert ctl("snapshot", "delete", vm, f"{WEB01}/snapshots/{SNAPSHOT}").code == 0
    (deleted,) = service.of(pb.DeleteSnapshotRequest)
    assert deleted.name == f"{WEB01}/snapshots/{SNAPSHOT}"


def test_with_a_request_id_a_name_also_means_the_last_one_that_bore_it(ctl: Ctl, service: FakeService) -> None:
    older, newer = (
        pb.Snapshot(name=f"{WEB01}/snapshots/{n}", display_name="a", state=pb.Snapshot.REMOVED) for n in "xy"
    )
    older.update_time.seconds, newer.update_time.seconds = 5, 6

    def listed(request: pb.ListSnapshotsRequest) -> pb.ListSnapshotsResponse:
        return pb.ListSnapshotsResponse(snapshots=[newer, older] if request.show_deleted else [])

    service.answers["ListSnapshots"] = listed
    assert ctl("snapshot", "delete", "web01", "a").code == 4
    assert ctl("snapshot", "delete", "web01", "a", "--request-id", REQUEST).code == 0
    (deleted,) = service.of(pb.DeleteSnapshotRequest)
    assert (deleted.name, deleted.request_id) == (newer.name, REQUEST)


def test_with_a_request_id_an_unregistered_vm_is_found_in_the_trail(ctl: Ctl, service: FakeService) -> None:
    event = Event(type="VmUnregistered", subject=WEB01, request_id=REQUEST)
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(),
        "ListEvents": lambda _: ListEventsResponse(events=[Event(request_id=REQUEST[::-1], subject=DB01), event]),
        "UnregisterVirtualMachine": lambda _: Empty(),
    }
    assert ctl("vm", "unregister", "web01").code == 4
    assert ctl("vm", "unregister", "web01", "--request-id", REQUEST).code == 0
    (repeated,) = service.of(UnregisterVirtualMachineRequest)
    assert (repeated.name, repeated.request_id) == (WEB01, REQUEST)
    (asked,) = service.of(ListEventsRequest)
    assert (asked.type, asked.actor) == ("VmUnregistered", "@me")


def test_a_vms_name_ignores_case_where_that_is_not_ambiguous(ctl: Ctl, service: FakeService) -> None:
    assert ctl("snapshot", "delete", "WEB01", SNAPSHOT).code == 0
    vms = [VirtualMachine(name=n, uid=n[-36:], display_name=d) for n, d in ((WEB01, "a"), (DB01, "A"))]
    service.answers["ListVirtualMachines"] = lambda _: ListVirtualMachinesResponse(virtual_machines=vms)
    assert ctl("snapshot", "delete", "A", SNAPSHOT).code == 0
    assert [d.name.split("/")[1] for d in service.of(pb.DeleteSnapshotRequest)] == [WEB01[-36:], DB01[-36:]]
    vms[1].display_name = "a"
    said = ctl("snapshot", "delete", "A", SNAPSHOT)
    assert (said.code, WEB01[-36:] in said.err, DB01[-36:] in said.err) == (3, True, True)


@pytest.mark.parametrize(("vm", "snapshot"), [("b\u00fcro", "M\u00e4rz"), ("BU\u0308RO", "Ma\u0308rz")])
def test_a_name_is_found_however_its_characters_are_composed(
    ctl: Ctl, service: FakeService, vm: str, snapshot: str
) -> None:
    vms = [VirtualMachine(name=WEB01, uid=WEB01[-36:], display_name="b\u00fcro")]
    taken = [pb.Snapshot(name=f"{WEB01}/snapshots/{SNAPSHOT}", display_name="Ma\u0308rz")]
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=vms),
        "ListSnapshots": lambda _: pb.ListSnapshotsResponse(snapshots=taken),
    }
    assert ctl("snapshot", "delete", vm, snapshot).code == 0
    assert [d.name for d in service.of(pb.DeleteSnapshotRequest)] == [taken[0].name]


@pytest.mark.parametrize("command", ["delete", "revert", "show"])
@pytest.mark.parametrize("text", ["by hand", FOREIGN, FOREIGN.upper(), FOREIGN[:8], f"{WEB01}/snapshots/{FOREIGN}"])
def test_a_checkpoint_in_the_tree_that_is_not_ours_is_told_as_that(
    ctl: Ctl, service: FakeService, command: str, text: str
) -> None:
    foreign = pb.ForeignCheckpoint(display_name="by hand", checkpoint_id=FOREIGN)
    nodes = [pb.SnapshotTree.Node(id=FOREIGN, foreign_checkpoint=foreign)]
    service.answers |= {
        "GetSnapshot": not_found,
        "ListSnapshots": lambda _: pb.ListSnapshotsResponse(),
        "GetSnapshotTree": lambda _: pb.SnapshotTree(nodes=nodes),
    }
    said = ctl("snapshot", command, "web01", text)
    assert said.code == 4
    assert "it is a checkpoint that is not ours" in said.err
    assert f"`snapshotctl snapshot adopt {WEB01[-36:]} {FOREIGN}` makes it a snapshot" in said.err
    absent = ctl("snapshot", command, "web01", "other")
    assert f"the VM has none of that name. See `snapshotctl snapshot list {WEB01[-36:]}`." in absent.err


def test_a_snapshot_that_got_a_name_tells_it(ctl: Ctl, service: FakeService) -> None:
    accepted = Operation(name="operations/o.1")
    accepted.metadata.Pack(OperationMetadata(snapshot=f"{WEB01}/snapshots/{SNAPSHOT}"))
    named = pb.Snapshot(display_name="web01_VS_20260101")
    service.answers |= {"CreateSnapshot": lambda _: accepted, "GetSnapshot": lambda _: named}
    assert ctl("snapshot", "create", "web01").out.splitlines()[0] == "The snapshot is named web01_VS_20260101."
    assert "The snapshot" not in ctl("snapshot", "create", "web01", "--name", "a").out
    assert json.loads(ctl("snapshot", "create", "web01", "-o", "json").out)["name"] == "operations/o.1"
    # The create is accepted even if its snapshot cannot be read just now.
    del service.answers["GetSnapshot"]
    unread = ctl("snapshot", "create", "web01")
    assert (unread.code, SNAPSHOT in unread.out) == (0, True)


def not_found(_: object) -> Message:
    """Refuse as the service does what is not on record."""
    raise Refuse(grpc.StatusCode.NOT_FOUND, "It is not on record.", "NOT_FOUND")


ODD = (
    WEB01,
    WEB01[-36:],
    WEB01[-36:].upper(),
    "virtualMachines/x",
    "virtualMachines/",
    f"{WEB01}/snapshots/{SNAPSHOT}",
)
"""Names with the form of something else."""


@pytest.mark.parametrize("odd", ODD)
def test_a_vm_is_found_by_its_name_whatever_form_that_has(ctl: Ctl, service: FakeService, odd: str) -> None:
    vms = [VirtualMachine(name=DB01, uid=DB01[-36:], display_name=odd)]
    service.answers |= {
        "GetVirtualMachine": not_found,
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=vms),
    }
    assert ctl("snapshot", "delete", odd, SNAPSHOT).code == 0
    (deleted,) = service.of(pb.DeleteSnapshotRequest)
    assert deleted.name == f"{DB01}/snapshots/{SNAPSHOT}"


@pytest.mark.parametrize("odd", [*ODD, SNAPSHOT, SNAPSHOT.upper(), f"{DB01}/snapshots/{SNAPSHOT}"])
def test_a_snapshot_is_found_by_its_name_whatever_form_that_has(ctl: Ctl, service: FakeService, odd: str) -> None:
    own = f"{WEB01}/snapshots/{SNAPSHOT[::-1]}"
    listed = pb.ListSnapshotsResponse(snapshots=[pb.Snapshot(name=own, display_name=odd)])
    service.answers |= {"GetSnapshot": not_found, "ListSnapshots": lambda _: listed}
    assert ctl("snapshot", "delete", "web01", odd).code == 0
    (deleted,) = service.of(pb.DeleteSnapshotRequest)
    assert deleted.name == own


def test_an_id_means_its_owner_even_if_another_is_named_so(ctl: Ctl, service: FakeService) -> None:
    vms = [VirtualMachine(name=DB01, uid=DB01[-36:], display_name=WEB01[-36:])]
    listed = pb.ListSnapshotsResponse(snapshots=[pb.Snapshot(name=f"{WEB01}/snapshots/x", display_name=SNAPSHOT)])
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=vms),
        "ListSnapshots": lambda _: listed,
    }
    assert ctl("snapshot", "delete", WEB01[-36:], SNAPSHOT).code == 0
    (deleted,) = service.of(pb.DeleteSnapshotRequest)
    assert deleted.name == f"{WEB01}/snapshots/{SNAPSHOT}"


def test_an_id_of_nothing_is_sent_as_it_is_and_the_service_tells(ctl: Ctl, service: FakeService) -> None:
    service.answers |= {"GetSnapshot": not_found, "DeleteSnapshot": not_found}
    said = ctl("snapshot", "delete", "web01", SNAPSHOT)
    assert (said.code, "It is not on record. [NOT_FOUND]" in said.err) == (4, True)


def test_what_a_stopped_view_hides_can_still_be_named_by_its_id(ctl: Ctl, service: FakeService) -> None:
    def stopped(_: object) -> Message:
        raise Refuse(grpc.StatusCode.UNAVAILABLE, "Cannot read the tree view.", "VIEW_STOPPED")

    service.answers |= {"GetVirtualMachine": stopped, "GetSnapshot": stopped}
    assert ctl("snapshot", "delete", WEB01, SNAPSHOT).code == 0


def test_the_history_of_a_vm_that_is_gone_is_found_by_ids(ctl: Ctl, service: FakeService) -> None:
    service.answers |= {"GetVirtualMachine": not_found, "GetSnapshot": not_found, "ListSnapshots": not_found}
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[Event()])
    gone = WEB01.replace("5501", "5599")
    assert ctl("audit", "list", "--vm", gone[-36:], "--snapshot", SNAPSHOT).code == 0
    assert ctl("audit", "list", "--snapshot", f"{gone}/snapshots/{SNAPSHOT}").code == 0
    assert ctl("audit", "list", "--snapshot", "virtualMachines/x").code == 2
    assert [r.snapshot for r in service.of(ListEventsRequest)] == [f"{gone}/snapshots/{SNAPSHOT}"] * 2


def test_a_vm_that_is_named_like_an_id_can_be_registered(ctl: Ctl, service: FakeService) -> None:
    def registered(request: RegisterVirtualMachineRequest) -> Message:
        if request.WhichOneof("identity") == "vm_id":
            raise Refuse(grpc.StatusCode.NOT_FOUND, "Host hv01 does not have it.", "VIRTUAL_MACHINE_NOT_FOUND")
        return VirtualMachine(name=WEB01, display_name=request.vm_name)

    service.answers["RegisterVirtualMachine"] = registered
    assert ctl("vm", "register", "hv01", SNAPSHOT).code == 0
    first, second = service.of(RegisterVirtualMachineRequest)
    assert (first.vm_id, second.vm_name, first.request_id) == (SNAPSHOT, SNAPSHOT, second.request_id)


def test_control_characters_in_a_name_are_escaped_once(ctl: Ctl, service: FakeService) -> None:
    assert r"Cannot find VM 'x\x1b[31m'" in ctl("vm", "show", "x\x1b[31m").err


def test_the_nearest_name_is_offered_for_one_that_is_not_there(ctl: Ctl, service: FakeService) -> None:
    said = ctl("snapshot", "tree", "wbe01")
    assert said.err.endswith("it is not registered. Did you mean 'web01'? See `snapshotctl vm list`.\n")
    assert "Did you mean" not in ctl("snapshot", "tree", "mail").err
    snapshot = pb.Snapshot(name=f"{WEB01}/snapshots/{SNAPSHOT}", uid=SNAPSHOT, display_name="installed")
    service.answers["ListSnapshots"] = lambda _: pb.ListSnapshotsResponse(snapshots=[snapshot])
    assert "none of that name. Did you mean 'installed'? See" in ctl("snapshot", "revert", "web01", "instaled").err
