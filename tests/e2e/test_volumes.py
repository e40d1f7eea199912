"""Volumes over a real server and a simulated host: attached, refused, detached, resized, undone, and changed by hand.

After each of these the contents of the disks, as the guest sees them, are what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import CancelOperationRequest, Operation

from snapshotd.api.v1 import audit_pb2, host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from tests.e2e.system import System, metadata_of, refusal, until

pytestmark = pytest.mark.slow

MIB = 1 << 20
REFUSED = grpc.StatusCode.FAILED_PRECONDITION
VMS = ("web01", "db01", "snap01", "theirs01", "off01", "undo01", "hand01", "thief01")
OFF = {"off01": "Off"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), VMS, states=OFF) as running:
        yield running


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for volumes."""
    return tmp_path_factory.mktemp("shelf")


def blocks(system: System, vm: str, location: str) -> dict[str, str]:
    """Return what a guest reads at a place."""
    told: dict[str, str] = system.host.control("read_disk", vm=vm, location=location)["blocks"]
    return told


def write(system: System, vm: str, location: str, data: str) -> None:
    """Have a guest write."""
    system.host.control("write_disk", vm=vm, location=location, block="1", data=data)


def disks(system: System, vm: str) -> dict[str, tuple[str, int]]:
    """Return the path and the size of each disk on record, by place; they are the host's."""
    name = f"virtualMachines/{system.ids[vm]}"
    told = system.client.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name))
    there = system.truth_of(system.ids[vm])["disks"]
    assert {d.location: d.size_bytes for d in told.disks} == {at: d["size_bytes"] for at, d in there.items()}
    assert {d.location: d.path for d in told.disks} == {at: d["chain"][0] for at, d in there.items()}
    return {d.location: (d.path, d.size_bytes) for d in told.disks}


def sync(system: System) -> list[str]:
    """Compare the host with the record; return the kinds of the drift."""
    return [d.kind for d in system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01")).drifts]


def accepted(ask: Callable[[], Operation]) -> Operation:
    """Return what is asked for once it is accepted: a refusal by an old look at the host is not repeated for long."""
    asked: list[Operation] = []

    def goes() -> bool:
        try:
            asked.append(ask())
        except grpc.RpcError:
            return False
        return True

    until(goes)
    return asked[0]


def effects(system: System, operation: str) -> list[tuple[str, int]]:
    """Return what the host did for an operation, with the steps."""
    return [(line["effect"], line["step"]) for line in system.host.truth() if line["operation"] == operation]


def test_a_volume_belongs_to_one_vm_from_its_making_to_its_removal(system: System, shelf: Path) -> None:
    client, web, db = system.client, system.ids["web01"], system.ids["db01"]
    path = f"{shelf}/data.vhdx"
    made = client.succeeded(client.attach(web, path, size_bytes=64 * MIB))
    vm = vm_pb2.VirtualMachine()
    assert made.response.Unpack(vm)
    assert [(d.location, d.path) for d in vm.disks][-1] == ("SCSI:0:2", path)
    assert disks(system, "web01")["SCSI:0:2"] == (path, 64 * MIB)
    assert blocks(system, "web01", "SCSI:0:2") == {}
    write(system, "web01", "SCSI:0:2", "precious")

    for spelt in (path, path.upper(), path.replace("/data", "/./data"), "\\\\?\\" + path.replace("/", "\\")):
        for fields in ({}, {"size_bytes": 64 * MIB}, {"validate_only": True}):
            code, reason, message = refusal(lambda s=spelt, f=fields: client.attach(db, s, **f))  # type: ignore[misc]
            assert (code, reason) == (REFUSED, "VOLUME_IN_USE"), (spelt, fields)
            assert f"Cannot attach {spelt}: it is a file of VM web01 on host hv01" in message
    assert refusal(lambda: client.attach(web, path))[1] == "VOLUME_ATTACHED"
    assert refusal(lambda: client.attach(web, f"{shelf}/b.vhdx", "SCSI:0:2"))[1] == "PLACE_TAKEN"

    client.succeeded(client.detach(web, "SCSI:0:2"))
    assert "SCSI:0:2" not in disks(system, "web01")
    assert refusal(lambda: client.detach(web, "SCSI:0:2"))[1] == "VOLUME_NOT_FOUND"
    client.succeeded(client.attach(db, path, "scsi:1:7"))
    assert blocks(system, "db01", "SCSI:1:7") == {"1": "precious"}
    assert refusal(lambda: client.attach(web, path))[2].startswith(f"Cannot attach {path}: it is a file of VM db01")
    write(system, "db01", "SCSI:1:7", "more")
    client.succeeded(client.detach(db, "SCSI:1:7"))
    client.succeeded(client.attach(web, path))
    assert blocks(system, "web01", "SCSI:0:2") == {"1": "more"}
    claims = audit_pb2.ListEventsRequest(virtual_machine=f"virtualMachines/{db}", type="VolumeReleased")
    assert [event.stream for event in client.audit.ListEvents(claims).events] == [
        "volume/" + path.replace("/", "\\").lower()
    ]


def test_a_volume_grows_and_shrinks_with_what_is_on_it(system: System, shelf: Path) -> None:
    client, web, path = system.client, system.ids["web01"], f"{shelf}/sized.vhdx"
    client.succeeded(client.attach(web, path, "SCSI:0:9", size_bytes=64 * MIB))
    for block in range(5):
        system.host.control("write_disk", vm="web01", location="SCSI:0:9", block=str(block), data="precious")
    kept = blocks(system, "web01", "SCSI:0:9")
    assert len(kept) == 5
    client.succeeded(client.resize(web, "SCSI:0:9", 128 * MIB))
    assert (disks(system, "web01")["SCSI:0:9"], blocks(system, "web01", "SCSI:0:9")) == ((path, 128 * MIB), kept)
    code, reason, message = refusal(lambda: client.resize(web, "SCSI:0:9", 32 * MIB))
    assert (code, reason, "--allow-shrink" in message) == (REFUSED, "VOLUME_NOT_RESIZABLE", True)
    code, reason, message = refusal(lambda: client.resize(web, "SCSI:0:9", 4 * MIB, allow_shrink=True))
    assert (code, reason) == (REFUSED, "VOLUME_NOT_RESIZABLE")
    assert f"its partitions need {5 * MIB:,} bytes, and {4 * MIB:,} is less" in message
    plan = Plan()
    assert client.resize(web, "SCSI:0:9", 8 * MIB, allow_shrink=True, validate_only=True).response.Unpack(plan)
    client.succeeded(client.resize(web, "SCSI:0:9", 8 * MIB, allow_shrink=True, expected_plan=plan.etag))
    assert (disks(system, "web01")["SCSI:0:9"], blocks(system, "web01", "SCSI:0:9")) == ((path, 8 * MIB), kept)
    stale = refusal(lambda: client.resize(web, "SCSI:0:9", 16 * MIB, expected_plan=plan.etag))
    assert stale[1] == "PLAN_CHANGED"


def test_nothing_is_changed_while_the_vm_has_a_snapshot_which_is_named(system: System, shelf: Path) -> None:
    client, snap = system.client, system.ids["snap01"]
    client.succeeded(client.attach(snap, f"{shelf}/snap.vhdx", size_bytes=64 * MIB))
    client.succeeded(client.create(snap, "before the update"))
    for ask in (
        lambda: client.attach(snap, f"{shelf}/other.vhdx", size_bytes=64 * MIB),
        lambda: client.attach(snap, f"{shelf}/other.vhdx", size_bytes=64 * MIB, validate_only=True),
        lambda: client.detach(snap, "SCSI:0:2"),
        lambda: client.resize(snap, "SCSI:0:2", 128 * MIB),
    ):
        code, reason, message = refusal(ask)
        assert (code, reason) == (REFUSED, "VM_HAS_SNAPSHOTS")
        assert "it has snapshots (before the update)" in message
    assert not (shelf / "other.vhdx").exists()
    (snapshot,) = client.list_snapshots(snap)
    write(system, "snap01", "SCSI:0:2", "since")
    client.succeeded(client.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=snapshot.name)))
    client.succeeded(client.resize(snap, "SCSI:0:2", 128 * MIB))
    assert blocks(system, "snap01", "SCSI:0:2") == {"1": "since"}
    client.succeeded(client.detach(snap, "SCSI:0:2"))


def test_nothing_is_changed_while_the_vm_has_a_checkpoint_of_others_which_is_named(system: System, shelf: Path) -> None:
    client, theirs = system.client, system.ids["theirs01"]
    made = system.host.control("admin", do="checkpoint", vm="theirs01", name="a backup's")["checkpoint"]
    sync(system)
    for ask in (
        lambda: client.attach(theirs, f"{shelf}/other.vhdx", size_bytes=64 * MIB),
        lambda: client.detach(theirs, "SCSI:0:1"),
        lambda: client.resize(theirs, "SCSI:0:1", 64 << 30),
    ):
        code, reason, message = refusal(ask)
        assert (code, reason) == (REFUSED, "FOREIGN_CHECKPOINTS")
        assert f'"a backup\'s", {made}' in message
    system.host.control("admin", do="remove", vm="theirs01", checkpoint=made)
    until(lambda: not system.truth_of(theirs)["merging"])
    client.succeeded(accepted(lambda: client.attach(theirs, f"{shelf}/other.vhdx", size_bytes=64 * MIB)))


def test_a_checkpoint_that_somebody_takes_after_the_request_fails_it_and_leaves_nothing_of_it(
    system: System, shelf: Path
) -> None:
    client, theirs = system.client, system.ids["theirs01"]
    system.host.control("admin", do="checkpoint", vm="theirs01", name="quick")
    ended = client.wait(client.attach(theirs, f"{shelf}/late.vhdx", size_bytes=64 * MIB))
    assert ended.HasField("error")
    assert "it has checkpoints that are not ours ('quick'" in ended.error.message
    assert {effect for effect, _ in effects(system, ended.name)} <= {"disk_created", "file_deleted"}
    assert not (shelf / "late.vhdx").exists()
    assert list(disks(system, "theirs01")) == ["SCSI:0:0", "SCSI:0:1", "SCSI:0:2"]


def test_a_disk_on_ide_needs_the_vm_to_be_off(system: System, shelf: Path) -> None:
    client, off = system.client, system.ids["off01"]
    code, reason, message = refusal(lambda: client.attach(system.ids["web01"], f"{shelf}/ide.vhdx", "IDE:0:0"))
    assert (code, reason) == (REFUSED, "WRONG_POWER_STATE"), message
    # The simulated VM is of generation 2, so that its host refuses IDE: nothing is left of the attempt.
    ended = client.wait(client.attach(off, f"{shelf}/ide.vhdx", "IDE:0:0", size_bytes=64 * MIB))
    assert "has no IDE controllers" in ended.error.message
    assert not (shelf / "ide.vhdx").exists()
    client.succeeded(client.attach(off, f"{shelf}/scsi.vhdx", size_bytes=64 * MIB))
    assert disks(system, "off01")["SCSI:0:2"] == (f"{shelf}/scsi.vhdx", 64 * MIB)


@pytest.mark.parametrize("new", [True, False])
def test_the_undo_of_a_failed_attach_deletes_a_file_only_if_it_has_made_it(
    system: System, shelf: Path, *, new: bool
) -> None:
    client, undo, path = system.client, system.ids["undo01"], f"{shelf}/undo-{new}.vhdx"
    size = {"size_bytes": 64 * MIB} if new else {}
    if not new:
        client.succeeded(client.attach(undo, path, "SCSI:0:7", size_bytes=64 * MIB))
        write(system, "undo01", "SCSI:0:7", "precious")
        client.succeeded(client.detach(undo, "SCSI:0:7"))
    system.host.control("fail", cmdlet="Add-VMHardDiskDrive", error_id="OperationFailed", message="Odd.", count=50)
    ended = client.wait(client.attach(undo, path, "SCSI:0:7", **size))
    system.host.control("fail", cmdlet="Add-VMHardDiskDrive", error_id="OperationFailed", count=0)
    assert "Odd." in ended.error.message
    metadata = metadata_of(ended)
    assert metadata.state == OperationMetadata.FAILED
    assert "SCSI:0:7" not in disks(system, "undo01")
    assert Path(path).exists() is not new
    other = client.attach(system.ids["thief01"], path, "SCSI:0:7", **size)
    client.succeeded(other)
    assert blocks(system, "thief01", "SCSI:0:7") == ({} if new else {"1": "precious"})
    client.succeeded(client.detach(system.ids["thief01"], "SCSI:0:7"))


def test_an_attach_that_is_cancelled_on_the_way_leaves_neither_the_disk_nor_the_file_that_it_made(
    system: System, shelf: Path
) -> None:
    client, undo, path = system.client, system.ids["undo01"], f"{shelf}/cancelled.vhdx"
    system.host.control("fail", cmdlet="Add-VMHardDiskDrive", error_id="ObjectInUse", message="Odd.", count=50)
    asked = client.attach(undo, path, "SCSI:0:8", size_bytes=64 * MIB)
    until(lambda: Path(path).exists())
    system.executor.kill()
    client.operations.CancelOperation(CancelOperationRequest(name=asked.name))
    system.host.control("fail", cmdlet="Add-VMHardDiskDrive", error_id="ObjectInUse", count=0)
    system.executor.start()
    ended = client.wait(asked)
    assert metadata_of(ended).state == OperationMetadata.CANCELLED
    assert "SCSI:0:8" not in disks(system, "undo01")
    assert not Path(path).exists()


def test_a_file_of_that_name_that_is_there_is_neither_used_nor_deleted(system: System, shelf: Path) -> None:
    (shelf / "there.vhdx").write_text("mine")
    ended = system.client.wait(system.client.attach(system.ids["undo01"], f"{shelf}/there.vhdx", size_bytes=64 * MIB))
    assert ended.error.message == (
        f"Cannot make {shelf}/there.vhdx: there is a file of that name already. Name another, or attach that one."
    )
    assert (shelf / "there.vhdx").read_text() == "mine"
    assert effects(system, ended.name) == []


def test_a_new_disk_in_a_folder_that_is_not_there_fails_soon_and_holds_nothing_up(system: System, shelf: Path) -> None:
    client, vm_id = system.client, system.ids["undo01"]
    ended = client.wait(client.attach(vm_id, f"{shelf}/nowhere/new.vhdx", size_bytes=64 * MIB))
    assert metadata_of(ended).state == OperationMetadata.FAILED
    assert "nowhere/new.vhdx" in ended.error.message
    assert not client.wait(client.attach(vm_id, f"{shelf}/soon_after.vhdx", size_bytes=64 * MIB)).HasField("error")


def test_what_an_administrator_does_to_drives_by_hand_is_drift_and_followed(system: System, shelf: Path) -> None:
    client, path = system.client, f"{shelf}/hand.vhdx"

    def by_hand(do: str, **arguments: object) -> list[str]:
        system.host.control("admin", do=do, vm="hand01", **arguments)
        return sync(system)

    sync(system)
    assert by_hand("attach", location="SCSI:0:5", path=path, size_bytes=64 * MIB) == ["VOLUME_ATTACHED"]
    assert disks(system, "hand01")["SCSI:0:5"] == (path, 64 * MIB)
    assert by_hand("resize", location="SCSI:0:5", size_bytes=65 * MIB) == ["VOLUME_RESIZED"]
    assert disks(system, "hand01")["SCSI:0:5"] == (path, 65 * MIB)
    system.host.control("admin", do="detach", vm="hand01", location="SCSI:0:5")
    assert by_hand("attach", location="SCSI:0:6", path=path) == ["VOLUME_DETACHED", "VOLUME_ATTACHED"]
    assert refusal(lambda: client.attach(system.ids["thief01"], path))[1] == "VOLUME_IN_USE"
    assert by_hand("detach", location="SCSI:0:6") == ["VOLUME_DETACHED"]
    assert sync(system) == []
    client.succeeded(client.attach(system.ids["thief01"], path))
    client.succeeded(client.detach(system.ids["thief01"], "SCSI:0:2"))


def test_a_file_that_was_detached_by_hand_is_free_though_no_sync_has_seen_that_yet(system: System, shelf: Path) -> None:
    client, path = system.client, f"{shelf}/free.vhdx"
    client.succeeded(client.attach(system.ids["hand01"], path, "SCSI:0:9", size_bytes=64 * MIB))
    write(system, "hand01", "SCSI:0:9", "precious")
    system.host.control("admin", do="detach", vm="hand01", location="SCSI:0:9")
    client.succeeded(accepted(lambda: client.attach(system.ids["thief01"], path, "SCSI:0:9")))
    assert blocks(system, "thief01", "SCSI:0:9") == {"1": "precious"}
