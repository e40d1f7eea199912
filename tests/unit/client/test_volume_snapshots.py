"""`volume-snapshot`: what is asked for, how copies are named, listed and shown, and what is said in the end."""

from __future__ import annotations

import json

import pytest
from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message

from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from snapshotd.api.v1.virtual_machine_pb2 import (
    DeleteVolumeSnapshotRequest,
    GetVolumeSnapshotRequest,
    ListVirtualMachinesRequest,
    ListVirtualMachinesResponse,
    ListVolumeSnapshotsRequest,
    ListVolumeSnapshotsResponse,
    TakeVolumeSnapshotRequest,
    VirtualMachine,
    VolumeSnapshot,
)
from tests.unit.client.fake_service import Ctl, FakeService

WEB, OLD = (f"virtualMachines/11111111-2222-3333-4444-55555555550{n}" for n in (1, 2))
FIRST, SECOND, GONE = (f"{n}-2222-3333-4444-555555555501" for n in ("aaaa1111", "aaaa2222", "bbbb3333"))
NAME = "operations/11111111-2222-3333-4444-555555555501.7-0a0b0c0d"
ETAG = "0123456789abcdef"
REQUEST = "77777777-2222-3333-4444-555555555501"


def copy(uid: str, name: str, state: VolumeSnapshot.State.ValueType, time: int, vm: str = WEB) -> VolumeSnapshot:
    """Return a volume snapshot."""
    made = VolumeSnapshot(
        name=f"{vm}/volumeSnapshots/{uid}",
        uid=uid,
        display_name=name,
        location="SCSI:0:1",
        state=state,
        path=f"S:\\copies\\{name}.vhdx",
        size_bytes=1 << 30 if state == VolumeSnapshot.READY else 0,
        consistency=VolumeSnapshot.APPLICATION,
        disk_identifier="0d15",
        actor="ann",
        host="hosts/hv01",
    )
    made.create_time.FromSeconds(time)
    return made


@pytest.fixture(autouse=True)
def copies(service: FakeService) -> list[VolumeSnapshot]:
    """Have the service know three copies, of which one is deleted."""
    known = [
        copy(FIRST, "monday", VolumeSnapshot.READY, 1_790_000_000),
        copy(SECOND, "tuesday", VolumeSnapshot.ERROR, 1_790_000_100),
        copy(GONE, "sunday", VolumeSnapshot.REMOVED, 1_780_000_000),
    ]
    known[1].failure.reason = "DISK_FULL"

    def listed(request: ListVolumeSnapshotsRequest) -> Message:
        shown = [s for s in known if request.show_deleted or s.state != VolumeSnapshot.REMOVED]
        return ListVolumeSnapshotsResponse(volume_snapshots=shown)

    def vms(request: ListVirtualMachinesRequest) -> Message:
        web = VirtualMachine(name=WEB, uid=WEB[-36:], display_name="web01")
        old = VirtualMachine(name=OLD, uid=OLD[-36:], display_name="old01")
        old.unregister_time.FromSeconds(1_790_000_000)
        found = [web, old] if request.show_unregistered else [web]
        return ListVirtualMachinesResponse(
            virtual_machines=[vm for vm in found if not request.filter or f'"{vm.display_name}"' in request.filter]
        )

    service.answers |= {
        "ListVolumeSnapshots": listed,
        "ListVirtualMachines": vms,
        "GetVolumeSnapshot": lambda r: next(s for s in known if s.name == r.name),
        "TakeVolumeSnapshot": lambda _: accepted(),
        "DeleteVolumeSnapshot": lambda _: accepted(),
    }
    return known


def accepted() -> Operation:
    """Return an operation about the first copy that goes on."""
    operation = Operation(name=NAME)
    operation.metadata.Pack(OperationMetadata(volume_snapshot=f"{WEB}/volumeSnapshots/{FIRST}"))
    return operation


def test_one_disk_is_copied_under_a_name(ctl: Ctl, service: FakeService) -> None:
    said = ctl("volume-snapshot", "take", "web01", "scsi:0:1", "--name", "monday", "--allow-fallback")
    assert (said.code, said.out) == (0, f"{NAME} accepted. To wait: snapshotctl operation wait {NAME}\n")
    (asked,) = service.of(TakeVolumeSnapshotRequest)
    assert (asked.parent, asked.volume_snapshot) == (WEB, VolumeSnapshot(display_name="monday", location="SCSI:0:1"))
    assert (asked.allow_fallback, asked.validate_only, bool(asked.request_id)) == (True, False, True)


def test_the_name_that_it_got_by_itself_is_told(ctl: Ctl) -> None:
    assert ctl("volume-snapshot", "take", "web01", "SCSI:0:1").out.splitlines()[0] == (
        "The volume snapshot is named monday."
    )


def test_a_plan_is_of_the_disk_and_of_the_copy(ctl: Ctl, service: FakeService) -> None:
    planned = Operation(done=True)
    planned.response.Pack(Plan(kind=OperationMetadata.TAKE_VOLUME_SNAPSHOT, etag=ETAG))
    service.answers |= dict.fromkeys(("TakeVolumeSnapshot", "DeleteVolumeSnapshot"), lambda _: planned)
    take = ctl("volume-snapshot", "take", "web01", "SCSI:0:1", "--dry-run").out.splitlines()
    assert take[0] == "Would copy the disk at SCSI:0:1 of web01:"
    assert take[-1] == f"To do just this: snapshotctl volume-snapshot take web01 SCSI:0:1 --expect {ETAG}"
    delete = ctl("volume-snapshot", "delete", "web01", "aaaa1", "--dry-run").out.splitlines()
    assert delete[0] == "Would delete volume snapshot monday of web01:"
    assert [r.validate_only for r in service.of(DeleteVolumeSnapshotRequest)] == [True]


def test_where_the_copy_is_is_said_in_the_end(ctl: Ctl, service: FakeService, copies: list[VolumeSnapshot]) -> None:
    ended = Operation(name=NAME, done=True)
    ended.response.Pack(copies[0])
    service.answers["WaitOperation"] = lambda _: ended
    said = ctl("volume-snapshot", "take", "web01", "SCSI:0:1", "--name", "monday", "--wait")
    assert said.out.splitlines() == [
        f"{NAME} succeeded.",
        f"Volume snapshot monday ({FIRST}) is in S:\\copies\\monday.vhdx (1.0 GiB).",
    ]


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("monday", FIRST),
        ("tuesday", SECOND),
        ("aaaa2", SECOND),
        (FIRST.upper(), FIRST),
        (GONE, GONE),
        ("bbbb", GONE),
        (f"{WEB}/volumeSnapshots/{FIRST}", FIRST),
    ],
)
def test_a_copy_is_found_by_name_by_id_and_by_the_beginning_of_one(
    ctl: Ctl, service: FakeService, text: str, uid: str
) -> None:
    assert ctl("volume-snapshot", "show", "web01", text).code == 0
    assert [r.name for r in service.of(GetVolumeSnapshotRequest)] == [f"{WEB}/volumeSnapshots/{uid}"]


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("aaaa", 3, f"{FIRST} monday (READY)"),
        ("sunday", 4, f"See `snapshotctl volume-snapshot list {WEB[-36:]} --deleted`."),
        (f"{OLD}/volumeSnapshots/{FIRST}", 2, "is not a volume snapshot of"),
        (SECOND[::-1], 4, "none of that name"),
    ],
)
def test_what_means_none_or_several_is_an_error(ctl: Ctl, service: FakeService, text: str, code: int, why: str) -> None:
    said = ctl("volume-snapshot", "delete", "web01", text)
    assert (said.code, why in said.err, service.of(DeleteVolumeSnapshotRequest)) == (code, True, []), said


def test_with_a_request_id_a_name_also_means_the_last_one_that_had_it(ctl: Ctl, service: FakeService) -> None:
    assert ctl("volume-snapshot", "delete", "web01", "sunday", "--request-id", REQUEST).code == 0
    assert [r.name for r in service.of(DeleteVolumeSnapshotRequest)] == [f"{WEB}/volumeSnapshots/{GONE}"]


def test_copies_of_a_vm_that_was_unregistered_can_be_listed_and_deleted(
    ctl: Ctl, service: FakeService, copies: list[VolumeSnapshot]
) -> None:
    copies[:] = [copy(FIRST, "monday", VolumeSnapshot.READY, 1_790_000_000, OLD)]
    assert ctl("volume-snapshot", "list", "old01").code == 0
    assert service.of(ListVolumeSnapshotsRequest)[-1].parent == OLD
    assert ctl("volume-snapshot", "delete", "old01", "monday").code == 0


def test_the_list_has_short_ids_and_columns_and_those_of_all_vms(ctl: Ctl, service: FakeService) -> None:
    heads, first, second = ctl("volume-snapshot", "list", "web01").out.splitlines()
    assert heads.split("  ")[0] == "VOLUME SNAPSHOT"
    assert first.split()[:3] == ["monday", "READY", "SCSI:0:1"]
    assert (first.split()[-1], second.split()[1:3]) == (FIRST[:8], ["ERROR", "(DISK_FULL)"])
    assert len(ctl("volume-snapshot", "list", "web01", "--deleted").out.splitlines()) == 4
    some = ctl("volume-snapshot", "list", "web01", "--columns", "name,file,consistency", "--filter", 'state = "READY"')
    assert some.out.splitlines()[1].split() == ["monday", "S:\\copies\\monday.vhdx", "application"]
    assert service.of(ListVolumeSnapshotsRequest)[-1].filter == 'state = "READY"'
    every = ctl("volume-snapshot", "list")
    assert every.out.splitlines()[1].split()[0] == "web01"
    assert service.of(ListVolumeSnapshotsRequest)[-1].parent == "virtualMachines/-"
    assert len(json.loads(ctl("volume-snapshot", "list", "-o", "json").out)["volume_snapshots"]) == 2
    assert ctl("volume-snapshot", "list", "-o", "name").out.splitlines()[0] == f"{WEB}/volumeSnapshots/{FIRST}"


def test_one_is_shown_with_its_file_and_what_it_holds(ctl: Ctl, copies: list[VolumeSnapshot]) -> None:
    lines = ctl("volume-snapshot", "show", "web01", "monday", "--utc").out.splitlines()
    assert [line.split(":", 1)[0] for line in lines] == [
        "Volume snapshot",
        "Name",
        "State",
        "Disk",
        "Holds",
        "File",
        "Host",
        "Size",
        "Identity",
        "Requested by",
        "Requested at",
    ]
    assert "Holds:           its guest had frozen file systems and applications" in lines
    copies[1].failure.message = "No room."
    assert "Why:             DISK_FULL: No room." in ctl("volume-snapshot", "show", "web01", "tuesday").out
