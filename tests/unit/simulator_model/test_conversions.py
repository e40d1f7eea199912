"""Conversions of disks by CIM, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError, JobView
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, truth, until


def leaf(host: SimulatedHyperV, vm: str) -> str:
    """Return the file that a VM's first disk writes to."""
    view = host.vm(vm)
    assert view is not None
    return view.drives[0].path


def test_a_leaf_becomes_a_disk_without_parent_and_stays_itself_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "new" / "copy.vhdx"
    with host_at(tmp_path / "host") as host:
        host.write_disk(DB, "SCSI:0:0", "1", "base")
        host.checkpoint_vm(Script(), DB, "c")
        host.write_disk(DB, "SCSI:0:0", "2", "leaf")
        before = Path(leaf(host, DB)).read_text()
        assert host.convert_disk(Script(), leaf(host, DB).upper(), str(target)) == ""
        assert Path(leaf(host, DB)).read_text() == before
        view = host.vhd(str(target))
        assert view is not None
        assert view.parent_path == ""
        sha = host.read_disk(DB, "SCSI:0:0")["sha256"]
    assert json.loads(target.read_text())["blocks"] == {"1": "base", "2": "leaf"}
    (done,) = [line for line in truth(tmp_path / "host") if line["effect"] == "disk_converted"]
    assert (done["vm"], done["detail"]["sha256"], done["detail"]["target"]) == (DB, sha, str(target))


def test_a_disk_of_no_vms_is_converted_too_and_is_on_record(tmp_path: Path) -> None:
    with host_at(tmp_path / "host") as host:
        host.convert_disk(Script(), leaf(host, DB), str(tmp_path / "one.vhdx"))
        host.convert_disk(Script(), str(tmp_path / "one.vhdx"), str(tmp_path / "two.vhdx"))
    lines = truth(tmp_path / "host")
    assert [(line["vm"], line["effect"], line["n"]) for line in lines] == [
        (DB, "disk_converted", 1),
        ("", "disk_converted", 2),
    ]
    with host_at(tmp_path / "host"):
        assert truth(tmp_path / "host") == lines


def test_a_conversion_is_a_job_of_disks_that_affects_no_vm_and_can_be_terminated(tmp_path: Path) -> None:
    target = tmp_path / "copy.vhdx"
    with host_at(tmp_path / "host", convert=600_000) as host:
        job_id = host.convert_disk(Script(), leaf(host, DB), str(target))
        assert host.job(job_id) == JobView(6, 0, 4, job_id, "", storage=True)
        assert host.jobs(DB) == []
        host.durations(convert=100)
        until(target.exists)
        host.durations(convert=600_000)
        host.terminate_job(Script(), job_id)
        found = host.job(job_id)
        assert found is not None
        assert found.state == 8
        assert host.vhd(str(target)) is None, "half of it is there, and it is no disk"
    assert truth(tmp_path / "host") == []


def test_what_is_there_or_in_use_fails_the_job_and_what_is_not_there_the_call(tmp_path: Path) -> None:
    (tmp_path / "taken.vhdx").write_text("")
    with host_at(tmp_path / "host") as host:
        for source, target, code in ((DB, "taken.vhdx", "0x80070050"), (WEB, "new.vhdx", "0x80070020")):
            found = host.job(host.convert_disk(Script(), leaf(host, source), str(tmp_path / target)))
            assert found is not None
            assert (found.state, code in found.error) == (10, True)
        with pytest.raises(HyperVError) as missing:
            host.convert_disk(Script(), "/nowhere.vhdx", str(tmp_path / "new.vhdx"))
        assert missing.value.error_id == "ObjectNotFound"
        for target in ("here.vhdx", str(tmp_path / "new.vhd")):
            with pytest.raises(HyperVError) as wrong:
                host.convert_disk(Script(), leaf(host, DB), target)
            method = "Msvm_ImageManagementService.ConvertVirtualHardDisk"
            assert wrong.value.fully_qualified == f"InvalidParameter,{method}"
    assert not (tmp_path / "new.vhdx").exists()
