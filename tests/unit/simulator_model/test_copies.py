"""Import-VM -Copy: an exported VM comes to a host with files of its own, under its id or a new one."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, Script, host_at, no_file_is_left_over, of, settled, truth
from tests.unit.simulator_model.test_imports import EMPTY, exported

NEW = "99999999-2222-4333-8444-555555555555"


def grown(host: SimulatedHyperV) -> None:
    """Give the VM two checkpoints, with other contents before, between and after them."""
    for name in ("first", "second", ""):
        host.write_disk(DB, "SCSI:0:0", "1", f"before {name or 'now'}")
        if name:
            host.checkpoint_vm(Script(), DB, name)


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files in a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_lives_beside_its_original_and_shares_nothing_with_it(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        grown(host)
        vmcx = exported(host, tmp_path)
        export = contents(vmcx.parents[1])
        assert host.import_vm(Script(), str(vmcx), copy=True, new_id=NEW) == NEW
        original, copy = of(host, DB), of(host, NEW)
        assert [c["name"] for c in copy["checkpoints"]] == ["first", "second"]
        assert [c["disks"] for c in copy["checkpoints"]] == [c["disks"] for c in original["checkpoints"]]
        assert copy["checkpoints"][1]["parent"] == copy["checkpoints"][0]["id"]
        assert copy["current"] == copy["checkpoints"][1]["id"]
        assert {c["id"] for c in copy["checkpoints"]}.isdisjoint(c["id"] for c in original["checkpoints"])
        assert all(Path(file).parent == host.storage_directory / NEW for file in copy["files"])

        host.start_vm(Script(), NEW)
        host.write_disk(NEW, "SCSI:0:0", "1", "the copy's own")
        host.remove_snapshot(Script(), copy["checkpoints"][1]["id"])
        assert settled(host, NEW)["disks"] != original["disks"]
        host.restore_snapshot(Script(), copy["checkpoints"][0]["id"])
        assert host.read_disk(NEW, "SCSI:0:0")["blocks"] == {"1": "before first"}
        no_file_is_left_over(settled(host, NEW), host)
        assert of(host, DB) == original
        assert contents(vmcx.parents[1]) == export
    (line,) = [line for line in truth(tmp_path) if line["effect"] == "vm_imported"]
    assert (line["vm"], line["detail"]) == (NEW, {"configuration": str(vmcx), "copy": True})
    with host_at(tmp_path) as again:
        assert again.read_disk(NEW, "SCSI:0:0")["blocks"] == {"1": "before first"}


def test_a_copy_keeps_its_id_unless_it_gets_another_and_goes_where_it_is_told_to(tmp_path: Path) -> None:
    with host_at(tmp_path / "one") as one, host_at(tmp_path / "two", EMPTY) as two:
        grown(one)
        vmcx = str(exported(one, tmp_path))
        with pytest.raises(HyperVError, match="same identifier"):
            one.import_vm(Script(), vmcx, copy=True)
        folders = {"folder": str(tmp_path / "vm"), "disks": str(tmp_path / "vhds")}
        assert two.import_vm(Script(), vmcx, copy=True, **folders) == DB
        view = two.vm(DB)
        assert view is not None
        assert view.folder == folders["folder"]
        assert {Path(drive.path).parent for drive in view.drives} == {tmp_path / "vhds"}
        before = contents(tmp_path / "vhds")
        with pytest.raises(HyperVError, match="0x80070050"):
            two.import_vm(Script(), vmcx, copy=True, new_id=str(uuid.uuid4()), disks=folders["disks"])
        assert contents(tmp_path / "vhds") == before
        assert [vm.vm_id for vm in two.vms()] == [DB]


def test_a_copy_that_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        grown(host)
        vmcx = str(exported(host, tmp_path))
        (tmp_path / "vhds").mkdir()
        host.free_space(str(tmp_path / "vhds"), free_bytes=300)
        with pytest.raises(HyperVError, match="0x80070070"):
            host.import_vm(Script(), vmcx, copy=True, new_id=NEW, disks=str(tmp_path / "vhds"))
        assert contents(tmp_path / "vhds") == {}
        assert host.vm(NEW) is None
