"""New-VHD and Resize-VHD, and files that scripts delete and move themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError, ScriptKilled, VhdView
from snapshotd.simulator.journal import JournalEntry, write_journal
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, bring, host_at, of, truth
from tests.unit.simulator_model.test_drives import OLD, refused, view, volume

GIB = 1 << 30
MIB = 1 << 20


def vhd(host: SimulatedHyperV, path: str) -> VhdView:
    found = host.vhd(path)
    assert found is not None
    return found


def test_a_new_disk_tells_what_it_is(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        paths = {kind: f"{tmp_path}/{kind}.vhdx" for kind in ("dynamic", "fixed", "child", "larger")}
        host.new_vhd(Script(), paths["dynamic"], GIB)
        host.new_vhd(Script(), paths["fixed"], GIB, fixed=True)
        host.new_vhd(
            Script(), paths["child"], 0, parent=paths["dynamic"].upper().replace(str(tmp_path).upper(), str(tmp_path))
        )
        host.new_vhd(Script(), paths["larger"], 2 * GIB, parent=paths["dynamic"])
        seen = {kind: vhd(host, path) for kind, path in paths.items()}
        assert {kind: (v.vhd_type, v.size_bytes, v.parent_path) for kind, v in seen.items()} == {
            "dynamic": ("Dynamic", GIB, ""),
            "fixed": ("Fixed", GIB, ""),
            "child": ("Differencing", GIB, paths["dynamic"]),
            "larger": ("Differencing", 2 * GIB, paths["dynamic"]),
        }
        assert seen["fixed"].file_bytes == GIB
        assert seen["dynamic"].file_bytes < MIB
        identifiers = {kind: v.identifier for kind, v in seen.items()}
        assert identifiers["child"] == identifiers["dynamic"] != identifiers["fixed"]
        assert all(identifiers.values())
    assert [(e["effect"], e["detail"]["type"]) for e in truth(tmp_path)] == [
        ("disk_created", "Dynamic"),
        ("disk_created", "Fixed"),
        ("disk_created", "Differencing"),
        ("disk_created", "Differencing"),
    ]


def test_the_disks_of_a_chain_have_one_identifier_and_other_disks_have_others(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        (base,) = (d.path for d in view(host, WEB).drives)
        before = vhd(host, base).identifier
        host.checkpoint_vm(Script(), WEB, "c")
        (leaf,) = (d.path for d in view(host, WEB).drives)
        assert vhd(host, leaf).identifier == before
        assert before not in {vhd(host, d.path).identifier for d in view(host, DB).drives}
    with host_at(tmp_path) as host:
        assert vhd(host, base).identifier == before


@pytest.mark.parametrize(
    ("name", "size", "parent", "told"),
    [
        ("there.vhdx", GIB, "", "The file exists. (0x80070050)"),
        ("THERE.VHDX", GIB, "", "The file exists. (0x80070050)"),
        ("none/x.vhdx", GIB, "", "cannot find the path specified. (0x80070003)"),
        ("x.img", GIB, "", "is no path of a virtual hard disk"),
        ("x.vhdx", MIB, "", "are no size of a virtual hard disk"),
        ("x.vhdx", 65 << 40, "", "are no size of a virtual hard disk"),
        ("x.vhdx", 0, "none.vhdx", "failed to get information about the virtual hard disk"),
    ],
)
def test_a_disk_that_cannot_be_made_is_not(tmp_path: Path, name: str, size: int, parent: str, told: str) -> None:
    with host_at(tmp_path) as host:
        host.new_vhd(Script(), f"{tmp_path}/there.vhdx", GIB)
        before = sorted(tmp_path.iterdir())
        error = refused(
            lambda: host.new_vhd(Script(), f"{tmp_path}/{name}", size, parent=parent and f"{tmp_path}/{parent}")
        )
        assert told in str(error)
        assert error.fully_qualified.endswith(",Microsoft.Vhd.PowerShell.Cmdlets.NewVHD")
        assert "relative" in str(refused(lambda: host.new_vhd(Script(), "relative.vhdx", GIB)))
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("place", "made"), [("before", False), ("started", True), ("after", True)])
def test_a_script_can_be_killed_at_each_place(tmp_path: Path, place: str, made: bool) -> None:  # noqa: FBT001
    with host_at(tmp_path) as host:
        host.kill_script(f"New-VHD:{place}")
        with pytest.raises(ScriptKilled):
            host.new_vhd(Script(), f"{tmp_path}/x.vhdx", GIB)
        assert Path(f"{tmp_path}/x.vhdx").exists() == made


def test_an_effect_on_no_vm_is_of_the_one_step_that_is_begun(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        for vm, step in ((WEB, 3), (DB, 4)):
            entry = JournalEntry(vm=vm, id="j", operation=f"operations/{step}", step=step, phase="BEGUN")
            write_journal(host.journal_directory, entry, durable=False)
            volume(host, f"{step}")
    assert [(e["operation"], e["step"], e["by"]) for e in truth(tmp_path)] == [
        ("operations/3", 3, "script"),
        ("", 0, "script"),
    ]


@pytest.mark.parametrize("vm", [WEB, DB])
def test_a_scsi_disk_is_resized_whether_its_vm_runs_or_not(tmp_path: Path, vm: str) -> None:
    with host_at(tmp_path) as host:
        path = view(host, vm).drives[0].path
        for n in range(5):
            host.write_disk(vm, "SCSI:0:0", str(n), "x")
        before = host.read_disk(vm, "SCSI:0:0")
        host.resize_vhd(Script(), path, 2 * GIB)
        assert (vhd(host, path).size_bytes, vhd(host, path).minimum_bytes) == (2 * GIB, 5 * MIB)
        host.resize_vhd(Script(), path, 5 * MIB)
        assert of(host, vm)["disks"]["SCSI:0:0"]["size_bytes"] == 5 * MIB
        assert refused(lambda: host.resize_vhd(Script(), path, 5 * MIB - 1)).error_id == "InvalidParameter"
        assert host.read_disk(vm, "SCSI:0:0") == before
    with host_at(tmp_path) as host:
        assert vhd(host, path).size_bytes == 5 * MIB
    resized = [(e["vm"], e["decisive"], e["detail"]) for e in truth(tmp_path) if e["effect"] == "disk_resized"]
    assert resized == [
        (vm, True, {"path": path, "size_bytes": 2 * GIB, "was": GIB}),
        (vm, True, {"path": path, "size_bytes": 5 * MIB, "was": 2 * GIB}),
    ]


def test_a_disk_of_no_vm_is_resized(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        path = volume(host)
        host.resize_vhd(Script(), path, 2 * GIB)
        assert vhd(host, path).size_bytes == 2 * GIB
    assert [(e["effect"], e["vm"]) for e in truth(tmp_path)] == [("disk_created", ""), ("disk_resized", "")]


def test_an_ide_disk_is_resized_only_while_its_vm_is_off(tmp_path: Path) -> None:
    disks = [{"location": "IDE:0:0"}]
    with host_at(tmp_path, {"vms": [{"id": OLD, "name": "old01", "state": "Running", "disks": disks}]}) as host:
        path = view(host, OLD).drives[0].path
        assert refused(lambda: host.resize_vhd(Script(), path, 2 * GIB)).error_id == "ObjectInUse"
        bring(host, "Off", OLD)
        host.resize_vhd(Script(), path, 2 * GIB)


def test_what_others_stand_on_what_stands_on_others_and_what_a_saved_vm_knows_is_not_resized(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        base = view(host, WEB).drives[0].path
        host.checkpoint_vm(Script(), WEB, "c")
        leaf = view(host, WEB).drives[0].path
        old = f"{tmp_path}/old.vhd"
        host.new_vhd(Script(), old, 2 * GIB)
        saved = view(host, DB).drives[0].path
        host.start_vm(Script(), DB)
        host.save_vm(Script(), DB)
        for path, error_id in (
            (base, "OperationFailed"),
            (leaf, "OperationFailed"),
            (old, "OperationFailed"),
            (saved, "InvalidState"),
            (f"{tmp_path}/none.vhdx", "ObjectNotFound"),
        ):
            assert refused(lambda path=path: host.resize_vhd(Script(), path, GIB)).error_id == error_id


def test_a_script_deletes_files_that_nobody_has_open(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        path = volume(host)
        own = view(host, WEB).drives[0].path
        host.delete_file(path.upper().replace(str(host.storage_directory).upper(), str(host.storage_directory)))
        host.delete_file(path)  # is gone: no error
        assert (host.exists(path), host.vhd(path)) == (False, None)
        with pytest.raises(PermissionError):
            host.delete_file(own)
        with pytest.raises(FileNotFoundError):
            host.delete_file(f"{tmp_path}/none/x.vhdx")
        host.new_vhd(Script(), path, GIB)  # nothing of the old one is remembered
    assert [(e["effect"], e["by"], e["decisive"]) for e in truth(tmp_path)] == [
        ("disk_created", "script", True),
        ("file_deleted", "somebody", False),
        ("disk_created", "script", True),
    ]


def test_a_file_that_somebody_deletes_is_noticed_also_after_a_restart(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        paths = [volume(host, "one"), volume(host, "two")]
        host.add_drive(Script(), WEB, "SCSI:0:1", paths[1])
        host.remove_drive(Script(), WEB, "SCSI:0:1")
    Path(paths[0]).unlink()
    with host_at(tmp_path) as host:
        host.vms()
        Path(paths[1]).unlink()
        host.vms()
        host.vms()
    deleted = [e["detail"]["path"] for e in truth(tmp_path) if e["effect"] == "file_deleted"]
    assert deleted == paths


def test_a_folder_is_moved_and_deleted_with_all_that_is_in_it(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        (tmp_path / "a").mkdir()
        host.new_vhd(Script(), f"{tmp_path}/a/x.vhdx", GIB)
        host.move_folder(f"{tmp_path}/a", f"{tmp_path}/b")
        assert host.vhd(f"{tmp_path}/a/x.vhdx") is None
        assert vhd(host, f"{tmp_path}/b/x.vhdx").size_bytes == GIB
        refusals: list[tuple[Callable[[], object], type[OSError]]] = [
            (lambda: host.move_folder(f"{tmp_path}/none", f"{tmp_path}/c"), FileNotFoundError),
            (lambda: host.move_folder(f"{tmp_path}/b", str(host.storage_directory)), FileExistsError),
            (lambda: host.delete_folder(f"{tmp_path}/none"), FileNotFoundError),
            (lambda: host.delete_folder(str(Path(view(host, WEB).drives[0].path).parent)), PermissionError),
        ]
        for act, error in refusals:
            with pytest.raises(error):
                act()
        host.delete_folder(f"{tmp_path}/b")
        assert not host.exists(f"{tmp_path}/b")


def test_a_file_that_is_no_disk_is_none(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        (tmp_path / "x.vhdx").write_text("[]")
        assert host.vhd(f"{tmp_path}/x.vhdx") is None
        with pytest.raises(HyperVError):
            host.resize_vhd(Script(), f"{tmp_path}/x.vhdx", GIB)
