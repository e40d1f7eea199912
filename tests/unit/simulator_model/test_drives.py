"""Drives by place: attached and detached while a VM runs or not, and what stands in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError, VmView
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, begun, bring, host_at, of, settled, truth

OLD = "11111111-2222-3333-4444-555555555509"
_OLD_VM = {
    "id": OLD,
    "name": "old01",
    "state": "Off",
    "disks": [{"location": "IDE:0:0"}, {"location": "SCSI:0:0"}],
}


def view(host: SimulatedHyperV, vm_id: str) -> VmView:
    found = host.vm(vm_id)
    assert found is not None
    return found


def volume(host: SimulatedHyperV, name: str = "data") -> str:
    """Make a disk that no VM has."""
    path = f"{host.storage_directory}/{name}.vhdx"
    host.new_vhd(Script(), path, 1 << 30)
    return path


def refused(act: object) -> HyperVError:
    assert callable(act)
    with pytest.raises(HyperVError) as error:
        act()
    return error.value


@pytest.mark.parametrize("vm", [WEB, DB])
def test_a_drive_is_attached_and_detached_whether_the_vm_runs_or_not(tmp_path: Path, vm: str) -> None:
    with host_at(tmp_path) as host:
        before = view(host, vm).drives
        path = volume(host)
        host.add_drive(Script(), vm, "SCSI:0:7", path)
        host.write_disk(vm, "SCSI:0:7", "1", "data")
        assert [(d.location, d.path) for d in view(host, vm).drives][-1] == ("SCSI:0:7", path)
    with host_at(tmp_path) as host:
        assert host.read_disk(vm, "SCSI:0:7")["blocks"] == {"1": "data"}
        host.remove_drive(Script(), vm, "SCSI:0:7")
        assert view(host, vm).drives == before
        assert Path(path).exists()
        host.add_drive(Script(), vm, "SCSI:3:63", path)
        assert host.read_disk(vm, "SCSI:3:63")["blocks"] == {"1": "data"}
    effects = [(e["effect"], e["decisive"], e["detail"].get("location"), e["vm"]) for e in truth(tmp_path)]
    assert effects == [
        ("disk_created", True, None, ""),
        ("drive_added", True, "SCSI:0:7", vm),
        ("disk_written", False, "SCSI:0:7", vm),
        ("drive_removed", True, "SCSI:0:7", vm),
        ("drive_added", True, "SCSI:3:63", vm),
    ]


def test_drives_are_listed_by_place(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        for location in ("SCSI:0:10", "SCSI:1:0", "SCSI:0:2"):
            host.add_drive(Script(), WEB, location, volume(host, location.replace(":", "-")))
        assert [d.location for d in view(host, WEB).drives] == ["SCSI:0:0", "SCSI:0:2", "SCSI:0:10", "SCSI:1:0"]


def test_ide_needs_a_vm_of_generation_1_that_is_off(tmp_path: Path) -> None:
    with host_at(tmp_path, {"vms": [_OLD_VM, {**_OLD_VM, "id": DB, "name": "db01", "disks": []}]}) as host:
        assert (view(host, OLD).generation, view(host, DB).generation) == (1, 2)
        path = volume(host)
        assert refused(lambda: host.add_drive(Script(), DB, "IDE:0:1", path)).error_id == "InvalidParameter"
        host.add_drive(Script(), OLD, "IDE:1:1", path)
        host.start_vm(Script(), OLD)
        for act in (
            lambda: host.remove_drive(Script(), OLD, "IDE:1:1"),
            lambda: host.add_drive(Script(), OLD, "IDE:0:1", volume(host, "other")),
        ):
            assert refused(act).error_id == "InvalidState"
        host.stop_vm(Script(), OLD, turn_off=True)
        host.remove_drive(Script(), OLD, "IDE:1:1")
        assert [d.location for d in view(host, OLD).drives] == ["IDE:0:0", "SCSI:0:0"]


@pytest.mark.parametrize(
    "location", ["", "SCSI", "SCSI:4:0", "SCSI:0:64", "IDE:2:0", "IDE:0:2", "scsi:0:1", "PMEM:0:0"]
)
def test_what_is_no_place_is_an_invalid_parameter(tmp_path: Path, location: str) -> None:
    with host_at(tmp_path, {"vms": [_OLD_VM]}) as host:
        path = volume(host)
        assert refused(lambda: host.add_drive(Script(), OLD, location, path)).error_id == "InvalidParameter"


def test_a_place_that_is_taken_and_a_file_that_is_missing_or_none_are_refused(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        path = volume(host)
        (own,) = (d.path for d in view(host, WEB).drives)
        Path(tmp_path / "text.vhdx").write_text("hello")
        before = of(host, WEB)
        for location, file, told in (
            ("SCSI:0:0", path, "has a drive at SCSI:0:0 already"),
            ("SCSI:0:1", f"{path}.none", "cannot find the file specified"),
            ("SCSI:0:1", str(tmp_path / "text.vhdx"), "corrupted"),
            ("SCSI:0:1", own, "is attached to 'web01' already"),
        ):
            error = refused(lambda at=location, file=file: host.add_drive(Script(), WEB, at, file))
            assert told in str(error)
            assert error.fully_qualified == "OperationFailed,Microsoft.HyperV.PowerShell.Commands.AddVMHardDiskDrive"
        assert refused(lambda: host.remove_drive(Script(), WEB, "SCSI:0:1")).error_id == "ObjectNotFound"
        assert of(host, WEB) == before


def test_a_saved_vm_and_one_that_is_busy_keep_their_drives(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        path = volume(host)
        bring(host, "Saved")
        assert refused(lambda: host.add_drive(Script(), WEB, "SCSI:0:1", path)).error_id == "InvalidState"
        assert refused(lambda: host.remove_drive(Script(), WEB, "SCSI:0:0")).error_id == "InvalidState"
        host.durations(start=600_000)
        begun(host, "Start-VM", lambda: host.start_vm(Script(), DB))
        assert refused(lambda: host.add_drive(Script(), DB, "SCSI:0:7", path)).error_id == "InvalidState"


def test_a_disk_of_another_vm_is_attached_and_the_second_of_them_does_not_start(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        bring(host, "Off")
        (path,) = (d.path for d in view(host, WEB).drives)
        host.add_drive(Script(), DB, "SCSI:0:7", path)
        host.start_vm(Script(), DB)
        error = refused(lambda: host.start_vm(Script(), WEB))
        assert error.fully_qualified == "OperationFailed,Microsoft.HyperV.PowerShell.Commands.StartVM"
        assert "0x80070020" in str(error)
        host.stop_vm(Script(), DB, turn_off=True)
        host.start_vm(Script(), WEB)
        assert refused(lambda: host.start_vm(Script(), DB)).error_id == "OperationFailed"


def test_a_disk_that_a_vm_has_open_is_not_attached_to_one_that_runs(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.start_vm(Script(), DB)
        (path,) = (d.path for d in view(host, WEB).drives)
        assert "0x80070020" in str(refused(lambda: host.add_drive(Script(), DB, "SCSI:0:7", path)))


def test_vms_with_one_image_run_at_once_but_nobody_writes_to_it_then(tmp_path: Path) -> None:
    disks = [{"location": "SCSI:0:0", "image": "golden"}]
    vms = [{"id": i, "name": n, "state": "Off", "disks": disks} for i, n in ((WEB, "web01"), (DB, "db01"))]
    with host_at(tmp_path, {"images": [{"name": "golden"}], "vms": [*vms, _OLD_VM]}) as host:
        host.start_vm(Script(), WEB)
        host.start_vm(Script(), DB)
        host.add_drive(Script(), OLD, "SCSI:0:5", of(host, WEB)["disks"]["SCSI:0:0"]["chain"][-1])
        assert refused(lambda: host.start_vm(Script(), OLD)).error_id == "OperationFailed"


def test_a_differencing_disk_is_attached_and_its_parent_is_never_merged(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        base = volume(host, "base")
        child = f"{host.storage_directory}/child.vhdx"
        host.new_vhd(Script(), child, 0, parent=base)
        host.add_drive(Script(), WEB, "SCSI:0:1", child)
        host.write_disk(WEB, "SCSI:0:1", "1", "mine")
        made = host.checkpoint_vm(Script(), WEB, "c")
        host.write_disk(WEB, "SCSI:0:1", "2", "later")
        host.remove_snapshot(Script(), made)
        assert settled(host, WEB)["disks"]["SCSI:0:1"]["chain"] == [child, base]
        assert host.read_disk(WEB, "SCSI:0:1")["blocks"] == {"1": "mine", "2": "later"}
        found = host.vhd(base)
        assert found is not None
        assert found.file_bytes == Path(base).stat().st_size


def test_a_detached_leaf_of_a_checkpoints_disk_stays_whatever_becomes_of_the_checkpoint(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        path = volume(host)
        host.add_drive(Script(), WEB, "SCSI:0:1", path)
        kept = host.checkpoint_vm(Script(), WEB, "kept")
        leaf = of(host, WEB)["disks"]["SCSI:0:1"]["chain"][0]
        host.remove_drive(Script(), WEB, "SCSI:0:1")
        settled(host, WEB)
    with host_at(tmp_path) as host:
        settled(host, WEB)
        assert Path(leaf).exists()
        host.remove_snapshot(Script(), kept)
        assert settled(host, WEB)["checkpoints"] == []
        assert (Path(leaf).exists(), Path(path).exists()) == (True, True)


def test_a_branch_point_that_is_left_with_one_child_by_a_detach_is_merged(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        root = host.checkpoint_vm(Script(), DB, "root")
        host.checkpoint_vm(Script(), DB, "left")
        host.restore_snapshot(Script(), root)
        host.remove_snapshot(Script(), root)
        before = settled(host, DB)["files"]
        host.remove_drive(Script(), DB, "SCSI:0:1")
        assert len(settled(host, DB)["files"]) < len(before)
    assert [line["effect"] for line in truth(tmp_path)][-2:] == ["drive_removed", "disk_merged"]


def test_a_file_of_a_vm_that_is_off_can_be_deleted_and_the_vm_then_does_not_start(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        path = volume(host)
        host.add_drive(Script(), DB, "SCSI:0:7", path)
        host.delete_file(path)
        assert host.vhd(path) is None
        assert "cannot find the file" in str(refused(lambda: host.start_vm(Script(), DB)))
