"""After each operation the contents of every disk, as the guest sees them, are what a small reference model says.

The table is `ROWS`: a function for each thing that can be asked for, which asks for it and tells the model (an oracle
that knows no files) what it means. Each row is tried on VMs of its own: the guest writes, and the operation is carried
out. Then the disks, those of every checkpoint, and the files that no VM has any more are compared with the model; then
the guest writes to each disk again. A new kind of operation needs a new function with `@row`: the last test says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.api.v1 import host_pb2, snapshot_pb2, virtual_machine_pb2
from snapshotd.api.v1.virtual_machine_pb2 import ExportVirtualMachineResponse
from snapshotd.operations.catalogue import KINDS
from tests.e2e import test_volume_snapshots as copies
from tests.e2e.guest import DATA, FIRST, MIB, READER, ROWS, Guest, row
from tests.e2e.system import System, until

pytestmark = pytest.mark.slow


# --- power


@row("START_VIRTUAL_MACHINE", "Off")
def start(guest: Guest) -> None:
    """Start it."""
    request = virtual_machine_pb2.StartVirtualMachineRequest(name=guest.name)
    guest.done(guest.system.client.vms.StartVirtualMachine(request))


@row("STOP_VIRTUAL_MACHINE", "Running", tree=True)
def stop(guest: Guest) -> None:
    """Stop it."""
    request = virtual_machine_pb2.StopVirtualMachineRequest(name=guest.name)
    guest.done(guest.system.client.vms.StopVirtualMachine(request))


@row("RESTART_VIRTUAL_MACHINE", "Running", tree=True)
def restart(guest: Guest) -> None:
    """Restart it."""
    request = virtual_machine_pb2.RestartVirtualMachineRequest(name=guest.name)
    guest.done(guest.system.client.vms.RestartVirtualMachine(request))


# --- snapshots


@row("CREATE_SNAPSHOT", tree=True)
def take_a_snapshot(guest: Guest) -> None:
    """Take one."""
    guest.take("d")


@row("CREATE_SNAPSHOT", "Running", tree=True)
def take_a_snapshot_with_memory(guest: Guest) -> None:
    """Take one."""
    guest.take("d", memory=True)


@row("CREATE_SNAPSHOT")
def take_the_first_snapshot(guest: Guest) -> None:
    """Take one, over a volume that was attached before."""
    guest.take("a")


def revert(guest: Guest, to: str) -> None:
    """Revert to a snapshot."""
    request = snapshot_pb2.RevertToSnapshotRequest(name=guest.snapshot(to).name)
    guest.done(guest.system.client.snapshots.RevertToSnapshot(request))
    guest.oracle.apply(guest.checkpoint(to))


@row("REVERT_TO_SNAPSHOT", tree=True)
def revert_to_the_first_snapshot(guest: Guest) -> None:
    """Go back."""
    revert(guest, "a")


@row("REVERT_TO_SNAPSHOT", tree=True)
def revert_to_one_with_memory(guest: Guest) -> None:
    """Go back, and start or stop as it needs."""
    revert(guest, "b")


@row("REVERT_TO_SNAPSHOT", tree=True)
def revert_to_the_current_snapshot(guest: Guest) -> None:
    """Throw away what was written since."""
    revert(guest, "c")


@row("REVERT_TO_SNAPSHOT", tree=True)
def revert_with_a_safety_snapshot_and_undo_that(guest: Guest) -> None:
    """Go back, and forward again to what the safety snapshot holds."""
    name = guest.snapshot("a").name
    request = snapshot_pb2.RevertToSnapshotRequest(name=name, safety_snapshot=True, safety_snapshot_name="mine")
    guest.done(guest.system.client.snapshots.RevertToSnapshot(request))
    guest.oracle.take(guest.checkpoint("mine"))
    guest.oracle.apply(guest.checkpoint("a"))
    guest.compare()
    revert(guest, "mine")


def delete(guest: Guest, name: str) -> None:
    """Delete a snapshot."""
    snapshot = guest.snapshot(name)
    guest.done(guest.system.client.snapshots.DeleteSnapshot(snapshot_pb2.DeleteSnapshotRequest(name=snapshot.name)))
    guest.oracle.remove(snapshot.checkpoint_id)


@row("DELETE_SNAPSHOT", tree=True)
def delete_a_snapshot_in_the_middle(guest: Guest) -> None:
    """Delete it: its child stays."""
    delete(guest, "b")


@row("DELETE_SNAPSHOT", tree=True)
def delete_the_current_snapshot(guest: Guest) -> None:
    """Delete it: what was written since stays."""
    delete(guest, "c")


@row("DELETE_SNAPSHOT", tree=True)
def delete_a_snapshot_that_has_two_children(guest: Guest) -> None:
    """Delete it: both branches stay."""
    revert(guest, "a")
    guest.write()
    guest.take("d")
    delete(guest, "a")


@row("DELETE_SNAPSHOT", tree=True)
def delete_a_snapshot_with_its_descendants(guest: Guest) -> None:
    """Delete both, leaves first."""
    gone = [guest.checkpoint(name) for name in "cb"]
    name, scope = guest.snapshot("b").name, snapshot_pb2.DeleteSnapshotRequest.WITH_DESCENDANTS
    request = snapshot_pb2.DeleteSnapshotRequest(name=name, scope=scope)
    guest.done(guest.system.client.snapshots.DeleteSnapshot(request))
    for checkpoint in gone:
        guest.oracle.remove(checkpoint)


@row("DELETE_ALL_SNAPSHOTS", tree=True)
def delete_all_snapshots(guest: Guest) -> None:
    """Delete the tree."""
    gone = [guest.checkpoint(name) for name in "cba"]
    request = snapshot_pb2.DeleteAllSnapshotsRequest(parent=guest.name)
    guest.done(guest.system.client.snapshots.DeleteAllSnapshots(request))
    for checkpoint in gone:
        guest.oracle.remove(checkpoint)


@row("UPDATE_SNAPSHOT", tree=True)
def rename_a_snapshot(guest: Guest) -> None:
    """Rename it, there too."""
    snapshot = snapshot_pb2.Snapshot(name=guest.snapshot("b").name, display_name="other")
    guest.done(guest.system.client.snapshots.UpdateSnapshot(snapshot_pb2.UpdateSnapshotRequest(snapshot=snapshot)))


@row("ADOPT_CHECKPOINT", tree=True)
def adopt_a_checkpoint_of_others(guest: Guest) -> None:
    """Make a snapshot of it."""
    made = guest.by_hand("admin", do="checkpoint", name="by hand")["checkpoint"]
    guest.oracle.take(made)
    guest.write()
    sync(guest)
    request = snapshot_pb2.AdoptCheckpointRequest(parent=guest.name, checkpoint_id=made)
    guest.done(guest.system.client.snapshots.AdoptCheckpoint(request))


@row("FORGET_SNAPSHOT", tree=True)
def forget_a_snapshot_whose_checkpoint_others_have_removed(guest: Guest) -> None:
    """Take it off the record."""
    snapshot = guest.snapshot("b")
    guest.by_hand("admin", do="remove", checkpoint=snapshot.checkpoint_id)
    guest.oracle.remove(snapshot.checkpoint_id)
    sync(guest)
    request = snapshot_pb2.DeleteSnapshotRequest(name=snapshot.name, forget=True)
    guest.done(guest.system.client.snapshots.DeleteSnapshot(request))


def sync(guest: Guest) -> None:
    """Compare the host with the record, as soon as nothing merges."""
    until(lambda: not guest.there()["merging"])
    guest.system.client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))


# --- volumes


@row("ATTACH_VOLUME")
def attach_a_new_volume(guest: Guest) -> None:
    """Attach one more, which is empty."""
    request = virtual_machine_pb2.AttachVolumeRequest(
        name=guest.name, path=f"{guest.shelf}/{guest.vm}-more.vhdx", size_bytes=128 * MIB
    )
    guest.done(guest.system.client.vms.AttachVolume(request))
    guest.oracle.attach("SCSI:0:3", 128 * MIB)


@row("ATTACH_VOLUME")
def attach_a_file_that_is_there(guest: Guest) -> None:
    """Attach what was detached, at another place."""
    path = guest.path
    guest.detach()
    guest.compare()
    guest.done(guest.system.client.attach(guest.vm_id, path, "SCSI:2:5"))
    guest.oracle.attach("SCSI:2:5", 64 * MIB, guest.loose.pop(path))


@row("ATTACH_VOLUME")
def attach_what_the_host_refuses(guest: Guest) -> None:
    """Have a file attached in vain: it stays as it is."""
    path = guest.path
    guest.detach()
    guest.system.host.control("fail", cmdlet="Add-VMHardDiskDrive", error_id="OperationFailed", count=50)
    try:
        assert guest.ended(guest.system.client.attach(guest.vm_id, path)).HasField("error")
    finally:
        guest.system.host.control("fail", cmdlet="Add-VMHardDiskDrive", error_id="OperationFailed", count=0)


@row("DETACH_VOLUME")
def detach_a_volume(guest: Guest) -> None:
    """Detach it: its file stays."""
    guest.detach()


@row("RESIZE_VOLUME")
def grow_a_volume(guest: Guest) -> None:
    """Grow it."""
    guest.done(guest.system.client.resize(guest.vm_id, DATA, 128 * MIB))
    guest.oracle.sizes[DATA] = 128 * MIB


@row("RESIZE_VOLUME")
def shrink_a_volume(guest: Guest) -> None:
    """Shrink it, to what the guest has written."""
    guest.done(guest.system.client.resize(guest.vm_id, DATA, 8 * MIB, allow_shrink=True))
    guest.oracle.sizes[DATA] = 8 * MIB


# --- processors and memory


@row("CHANGE_SERVICE_OFFERING", "Running", tree=True)
def change_the_processors_which_discards_memory(guest: Guest) -> None:
    """Give it other processors, once it is off: the snapshot with memory goes first."""
    stop(guest)
    gone = guest.checkpoint("b")
    offering = virtual_machine_pb2.ServiceOffering(cpu_count=6)
    request = virtual_machine_pb2.ChangeServiceOfferingRequest(name=guest.name, service_offering=offering)
    guest.done(guest.system.client.vms.ChangeServiceOffering(request))
    guest.oracle.remove(gone)
    guest.oracle.offering["cpu_count"] = 6


@row("REVERT_TO_SNAPSHOT", "Running", tree=True)
def revert_to_a_snapshot_with_another_offering(guest: Guest) -> None:
    """Bring the processors of its moment back."""
    before = guest.there()["offering"]["cpu_count"]
    for checkpoint in (guest.checkpoint(name) for name in "ac"):
        guest.oracle.checkpoints[checkpoint][0].offering["cpu_count"] = before
    change_the_processors_which_discards_memory(guest)
    guest.compare()
    revert(guest, "a")


# --- copies of disks


@row("TAKE_VOLUME_SNAPSHOT", tree=True)
def copy_a_disk(guest: Guest) -> None:
    """Copy one of its disks: what the guest writes from then on is not in the copy."""
    content = dict(guest.oracle.now["SCSI:0:1"])
    guest.loose[copies.result(guest.ended(copies.take(guest.system.client, guest.vm_id, "SCSI:0:1"))).path] = content
    guest.write()


@row("DELETE_VOLUME_SNAPSHOT", tree=True)
def delete_one_copy_of_two(guest: Guest) -> None:
    """Delete it: the other one, and the disks, stay."""
    copy_a_disk(guest)
    gone = copies.result(guest.ended(copies.take(guest.system.client, guest.vm_id, "SCSI:0:0")))
    guest.done(copies.delete(guest.system.client, gone.name))
    assert not Path(gone.path).exists()


# --- the whole VM


@row("EXPORT_VIRTUAL_MACHINE")
def export_it(guest: Guest) -> None:
    """Export it: what the guest writes from then on is not in the export."""
    exports = guest.shelf.parent / "exports"
    exports.mkdir(exist_ok=True)
    request = virtual_machine_pb2.ExportVirtualMachineRequest(name=guest.name, directory=str(exports))
    ended, made = guest.ended(guest.system.client.vms.ExportVirtualMachine(request)), ExportVirtualMachineResponse()
    assert ended.response.Unpack(made), ended.error.message
    disks = Path(made.directory) / "Virtual Hard Disks"
    for at, disk in guest.there()["disks"].items():
        guest.loose[str(disks / Path(disk["chain"][0]).name)] = dict(guest.oracle.now[at])
    guest.write()


@row("EXPORT_VIRTUAL_MACHINE", tree=True)
def export_it_with_its_snapshots(guest: Guest) -> None:
    """Export it with three snapshots: nothing about it changes."""
    export_it(guest)


def destroy(guest: Guest, *, disks: bool) -> dict[str, str]:
    """Destroy it, with its disks or without; return the files of its disks, by place, without those of checkpoints."""
    vm = guest.system.client.vms.GetVirtualMachine(virtual_machine_pb2.GetVirtualMachineRequest(name=guest.name))
    files = {disk.location: first_file(disk.path) for disk in vm.disks}
    request = virtual_machine_pb2.DestroyVirtualMachineRequest(name=guest.name, delete_disks=disks)
    guest.done(guest.system.client.vms.DestroyVirtualMachine(request))
    guest.gone = True
    return files


def first_file(path: str) -> str:
    """Return the file at the end of a chain."""
    parent = json.loads(Path(path).read_text(encoding="utf-8"))["parent"]
    return first_file(parent) if parent else path


@row("DESTROY_VIRTUAL_MACHINE", tree=True)
def destroy_it(guest: Guest) -> None:
    """Destroy it: its disks keep what the guest saw last."""
    files = destroy(guest, disks=False)
    guest.loose |= {files[at]: content for at, content in guest.oracle.now.items()}
    assert not [file for path in files.values() for file in Path(path).parent.glob("*.avhdx")]


@row("DESTROY_VIRTUAL_MACHINE")
def destroy_it_with_its_disks(guest: Guest) -> None:
    """Destroy it, and all of its disks; what was detached before stays."""
    path = guest.path
    guest.detach()
    files = destroy(guest, disks=True)
    assert (set(files), any(Path(file).exists() for file in files.values())) == (set(FIRST), False)
    assert set(guest.loose) == {path}


# --- the tests

TRIED = {f"vm{number:02}": (row, state) for number, (row, state) in enumerate((r, s) for r in ROWS for s in r.states)}
"""By VM: the row that is tried on it, and the state that it is in."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    states = {READER: "Off"} | {vm: state for vm, (_, state) in TRIED.items()}
    options = ["--volume-snapshots-directory", str(tmp_path_factory.mktemp("copies"))]
    with System(tmp_path_factory.mktemp("system"), (*TRIED, READER), (), states, options) as running:
        reader = f"virtualMachines/{running.ids[READER]}"
        running.client.vms.UnregisterVirtualMachine(virtual_machine_pb2.UnregisterVirtualMachineRequest(name=reader))
        yield running


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for volumes."""
    return tmp_path_factory.mktemp("shelf")


@pytest.mark.parametrize("vm", TRIED, ids=lambda vm: f"{TRIED[vm][0].name}, {TRIED[vm][1]}")
def test_the_contents_of_all_disks_are_what_the_model_says(vm: str, system: System, shelf: Path) -> None:
    tried, _ = TRIED[vm]
    guest = Guest(system, vm, shelf)
    guest.write()
    guest.grow() if tried.tree else guest.attach_first()
    guest.compare()
    tried.act(guest)
    assert tried.kind in guest.kinds
    guest.compare()
    guest.write()
    guest.compare()


def test_no_kind_of_operation_is_missing_in_the_table() -> None:
    assert {row.kind for row in ROWS} == set(KINDS)
