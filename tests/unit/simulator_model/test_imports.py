"""Compare-VM and Import-VM: an exported VM comes to a host in place, under its id, with its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, INVENTORY, Script, begun, host_at, of, settled, truth, until

EMPTY: dict[str, Any] = {"host": {"name": "hv02", "switches": ["lan"]}, "vms": []}
SHARE = "share"


def exported(host: SimulatedHyperV, at: Path, vm: str = DB) -> Path:
    """Export a VM to a share, and give the folder its final name; return its configuration."""
    half = at / SHARE / f"{vm}.1.partial"
    host.export_vm(Script(), vm, str(half), snapshots=0, subdirectory=False)
    half.rename(at / SHARE / vm)
    return at / SHARE / vm / "Virtual Machines" / f"{vm.upper()}.vmcx"


def test_a_vm_comes_with_its_checkpoints_and_goes_on_there(tmp_path: Path) -> None:
    with host_at(tmp_path / "one") as one:
        one.write_disk(DB, "SCSI:0:0", "1", "old")
        first = one.checkpoint_vm(Script(), DB, "first")
        one.write_disk(DB, "SCSI:0:0", "1", "new")
        second = one.checkpoint_vm(Script(), DB, "second")
        one.write_disk(DB, "SCSI:0:1", "2", "leaf")
        vmcx = exported(one, tmp_path)
        before = of(one, DB)
    with host_at(tmp_path / "two", EMPTY) as two:
        view = two.compare_vm(str(vmcx))
        assert (view.vm_id, view.name, view.incompatibilities) == (DB, "db01", ())
        assert two.import_vm(Script(), str(vmcx)) == DB
        after = of(two, DB)
        kept = ("name", "state", "checkpoints", "current", "checkpoint_type", "memory", "offering")
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
        assert two.read_disk(DB, "SCSI:0:1")["blocks"] == {"2": "leaf"}
        assert all(file.startswith(str(tmp_path / SHARE / DB)) for file in after["files"])
        with pytest.raises(HyperVError, match="same identifier already exists"):
            two.import_vm(Script(), str(vmcx))
        with pytest.raises(HyperVError, match="same identifier already exists"):
            two.compare_vm(str(vmcx))
        assert two.compare_vm(str(vmcx), copy=True).incompatibilities == ()
        assert two.compare_vm(str(vmcx), copy=True).vm_id != DB
    with host_at(tmp_path / "two") as two:
        two.start_vm(Script(), DB)
        two.write_disk(DB, "SCSI:0:0", "1", "newest")
        two.remove_snapshot(Script(), second)
        settled(two, DB)
        assert two.read_disk(DB, "SCSI:0:0")["blocks"] == {"1": "newest"}
        two.restore_snapshot(Script(), first)
        assert two.read_disk(DB, "SCSI:0:0")["blocks"] == {"1": "old"}
    (line,) = [line for line in truth(tmp_path / "two") if line["effect"] == "vm_imported"]
    assert (line["vm"], line["decisive"], line["detail"]) == (DB, True, {"configuration": str(vmcx)})


def test_a_saved_vm_is_saved_there_too_and_can_go_back(tmp_path: Path) -> None:
    with host_at(tmp_path / "one") as one, host_at(tmp_path / "two", EMPTY) as two:
        one.start_vm(Script(), DB)
        one.save_vm(Script(), DB)
        memory = of(one, DB)["memory"]
        vmcx = exported(one, tmp_path)
        two.import_vm(Script(), str(vmcx))
        two.start_vm(Script(), DB)
        assert of(two, DB)["memory"] == memory
        two.stop_vm(Script(), DB, turn_off=True)
        one.move_out("db01")
        back = tmp_path / SHARE / "back"
        two.export_vm(Script(), DB, str(back), snapshots=0, subdirectory=False)
        one.import_vm(Script(), str(next(back.glob("*/*.vmcx"))))
        assert of(one, DB)["state"] == "Off"
    numbers = [line["vm_n"] for line in truth(tmp_path / "one") if line["vm"] == DB]
    assert numbers == sorted(set(numbers)), "its effects are numbered on"


def test_what_is_left_to_be_merged_is_merged_there(tmp_path: Path) -> None:
    with host_at(tmp_path / "one", merge=600_000) as one:
        made = one.checkpoint_vm(Script(), DB, "c")
        one.write_disk(DB, "SCSI:0:0", "1", "data")
        one.remove_snapshot(Script(), made)
        vmcx = exported(one, tmp_path)
    with host_at(tmp_path / "two", EMPTY) as two:
        two.import_vm(Script(), str(vmcx))
        vm = settled(two, DB)
        assert len(vm["disks"]["SCSI:0:0"]["chain"]) == 1
        assert two.read_disk(DB, "SCSI:0:0")["blocks"] == {"1": "data"}


LOSSES: dict[int, Callable[[Path], object]] = {
    40010: lambda folder: next((folder / "Virtual Hard Disks").glob("*.vhdx")).unlink(),
    40012: lambda folder: next((folder / "Snapshots").glob("*.vmcx")).unlink(),
}


@pytest.mark.parametrize("number", LOSSES)
def test_what_is_missing_of_an_export_is_told_and_stops_the_import(tmp_path: Path, number: int) -> None:
    with host_at(tmp_path / "one") as one, host_at(tmp_path / "two", EMPTY) as two:
        one.checkpoint_vm(Script(), DB, "c")
        vmcx = exported(one, tmp_path)
        LOSSES[number](tmp_path / SHARE / DB)
        assert {found for found, _ in one.compare_vm(str(vmcx), copy=True).incompatibilities} == {number}
        assert {found for found, _ in two.compare_vm(str(vmcx)).incompatibilities} == {number}
        with pytest.raises(HyperVError, match="use Compare-VM"):
            two.import_vm(Script(), str(vmcx))
        assert two.vms() == []


def test_half_a_disk_is_a_missing_one(tmp_path: Path) -> None:
    with host_at(tmp_path / "one") as one:
        vmcx = exported(one, tmp_path)
        disk = next((tmp_path / SHARE / DB / "Virtual Hard Disks").iterdir())
        disk.write_text(disk.read_text()[:10])
        assert [found for found, _ in one.compare_vm(str(vmcx), copy=True).incompatibilities] == [40010]


@pytest.mark.parametrize(("switch", "found"), [("lan", []), ("dmz", [33012])])
def test_a_switch_that_a_host_does_not_have_is_told(tmp_path: Path, switch: str, found: list[int]) -> None:
    vms = [{**vm, "switch": switch} for vm in INVENTORY["vms"]]
    with host_at(tmp_path / "one", {"host": {"name": "hv01"}, "vms": vms}) as one:
        vmcx = exported(one, tmp_path)
        assert one.compare_vm(str(vmcx), copy=True).incompatibilities == ()
        view = one.vm(DB)
        assert view is not None
        assert view.switch == switch
    with host_at(tmp_path / "two", EMPTY):
        pass
    with host_at(tmp_path / "two") as two:
        assert [number for number, _ in two.compare_vm(str(vmcx)).incompatibilities] == found


def test_a_vm_on_a_share_that_is_down_does_not_start_and_its_merges_wait(tmp_path: Path) -> None:
    share = tmp_path / SHARE
    with host_at(tmp_path / "one") as one, host_at(tmp_path / "two", EMPTY) as two:
        two.import_vm(Script(), str(exported(one, tmp_path)))
        made = two.checkpoint_vm(Script(), DB, "c")
        two.share(str(share), up=False)
        two.remove_snapshot(Script(), made)
        with pytest.raises(HyperVError, match="cannot find the file"):
            two.start_vm(Script(), DB)
        with pytest.raises(LookupError, match="is no folder"):
            two.share(str(share), up=False)
        assert of(two, DB)["merging"]
        two.share(str(share), up=True)
        settled(two, DB)
        two.start_vm(Script(), DB)
        with pytest.raises(ValueError, match="absolute"):
            two.share("here", up=True)


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with host_at(tmp_path / "one") as one, host_at(tmp_path / "two", EMPTY) as two:
        vmcx = exported(one, tmp_path)
        with pytest.raises(HyperVError, match="was not found"):
            two.import_vm(Script(), str(tmp_path / "nowhere.vmcx"))
        for text in ("{", "[]", json.dumps({"checkpoints": [], "machine": {}})):
            vmcx.write_text(text)
            with pytest.raises(HyperVError, match="corrupt"):
                two.compare_vm(str(vmcx))
        two.fail("Compare-VM", "OperationFailed", "told to")
        with pytest.raises(HyperVError, match="told to"):
            two.compare_vm(str(vmcx))
        (tmp_path / SHARE).rename(tmp_path / f"{SHARE}.away")
        with pytest.raises(HyperVError, match="0x80070035"):
            two.compare_vm(str(vmcx))


def test_an_import_goes_on_without_its_script_and_two_at_once_are_one(tmp_path: Path) -> None:
    with host_at(tmp_path / "one") as one, host_at(tmp_path / "two", EMPTY) as two:
        two.durations(**{"import": 600_000})
        vmcx = str(exported(one, tmp_path))
        begun(two, "Import-VM", lambda: two.import_vm(Script(), vmcx))
        with pytest.raises(HyperVError, match="current state"):
            two.import_vm(Script(), vmcx)
        assert two.vms() == []
        two.durations(**{"import": 0})
        until(lambda: two.vm(DB) is not None)
    assert [line["effect"] for line in truth(tmp_path / "two")] == ["vm_imported"]


def test_its_files_can_go_while_it_comes(tmp_path: Path) -> None:
    with host_at(tmp_path / "one") as one, host_at(tmp_path / "two", EMPTY) as two:
        two.durations(**{"import": 600_000})
        vmcx = exported(one, tmp_path)
        begun(two, "Import-VM", lambda: two.import_vm(Script(), str(vmcx)))
        (tmp_path / SHARE / DB).rename(tmp_path / SHARE / "gone")
        two.durations(**{"import": 0})
        with pytest.raises(HyperVError, match="not found"):
            two.import_vm(Script(), str(vmcx))
        assert two.vms() == []
    assert truth(tmp_path / "two") == []
