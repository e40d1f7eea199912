"""Exports by CIM: what is in the folder, the job that writes it, and how it ends early."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.hypervisor import HyperVError, JobView, ScriptKilled
from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.model.disks import digest
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, of, truth, until

ALL, NONE, ONE, ONE_FOR_BACKUP = range(4)
LONG = 600_000


def export(
    host: SimulatedHyperV,
    target: Path,
    vm: str = WEB,
    snapshots: int = ALL,
    **more: Any,  # noqa: ANN401  (as the port)
) -> str:
    """Begin an export."""
    return host.export_vm(Script(), vm, str(target), snapshots=snapshots, **{"subdirectory": False, **more})


def job(host: SimulatedHyperV, job_id: str) -> JobView:
    """Return a job that is there."""
    found = host.job(job_id)
    assert found is not None
    return found


def files(folder: Path) -> list[str]:
    """Return the files of a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def guest_sees(host: SimulatedHyperV, path: Path) -> dict[str, str]:
    """Return the blocks of a disk file of nobody's, through its chain."""
    document = json.loads(path.read_text())
    parent = document["parent"]
    below = guest_sees(host, path.parent / parent) if parent else {}
    return {**below, **document["blocks"]}


def effects(at: Path) -> list[str]:
    """Return the effects on record that exports have."""
    return [line["effect"] for line in truth(at) if "export" in line["effect"]]


def test_an_export_of_all_has_the_vm_its_checkpoints_and_the_whole_chains(tmp_path: Path) -> None:
    target = tmp_path / "out" / "attempt"
    with host_at(tmp_path / "host") as host:
        host.write_disk(DB, "SCSI:0:0", "1", "base")
        first = host.checkpoint_vm(Script(), DB, "first")
        host.write_disk(DB, "SCSI:0:0", "1", "since first")
        host.write_disk(DB, "SCSI:0:1", "9", "other disk")
        assert export(host, target, DB) == ""
        seen = {at: host.read_disk(DB, at)["blocks"] for at in ("SCSI:0:0", "SCSI:0:1")}
        frozen = of(host, DB)["checkpoints"][0]["disks"]
    vmcx = json.loads((target / "Virtual Machines" / f"{DB.upper()}.vmcx").read_text())
    assert vmcx["checkpoints"] == [first]
    assert {at: guest_sees(host, target / path) for at, path in vmcx["machine"]["disks"].items()} == seen
    checkpoint = json.loads((target / "Snapshots" / f"{first.upper()}.vmcx").read_text())
    assert {at: digest(guest_sees(host, target / p)) for at, p in checkpoint["disks"].items()} == frozen
    assert len(list((target / "Virtual Hard Disks").iterdir())) == 4
    (done,) = [line for line in truth(tmp_path / "host") if line["effect"] == "exported"]
    assert done["detail"]["contents"] == done["disks"]
    assert done["by"] == "script"
    assert effects(tmp_path / "host") == ["export_begun", "exported"]


def test_one_checkpoint_becomes_new_disks_without_parents_and_those_excluded_are_left_out(tmp_path: Path) -> None:
    with host_at(tmp_path / "host") as host:
        host.write_disk(DB, "SCSI:0:1", "1", "frozen")
        made = host.checkpoint_vm(Script(), DB, "c")
        host.write_disk(DB, "SCSI:0:1", "1", "since")
        target = tmp_path / "one"
        export(host, target, DB, ONE, snapshot_id=made.upper(), excluded=["SCSI:0:0"], differential=False)
        (disk,) = (target / "Virtual Hard Disks").iterdir()
        assert disk.suffix == ".vhdx"
        assert guest_sees(host, disk) == {"1": "frozen"}
        assert json.loads(disk.read_text())["parent"] == ""
        (view,) = [host.vhd(str(disk))]
        assert view is not None
        assert (view.parent_path, view.size_bytes) == ("", 1 << 30)
        assert not (target / "Snapshots").exists()
        assert (target / "Virtual Machines" / f"{made.upper()}.vmcx").exists()
        export(host, tmp_path / "two", DB, ONE_FOR_BACKUP, snapshot_id=made, excluded=["SCSI:0:0"])
        assert (tmp_path / "two" / "Virtual Machines" / f"{DB.upper()}.vmcx").exists()
        # What is left out has a differencing disk over the original, unless that is asked not to be.
        endings = sorted(path.suffix for path in (tmp_path / "two" / "Virtual Hard Disks").iterdir())
        assert endings == [".avhdx", ".vhdx"]


def test_without_checkpoints_the_disks_are_merged_and_the_vm_has_a_subdirectory_if_asked(tmp_path: Path) -> None:
    with host_at(tmp_path / "host") as host:
        host.checkpoint_vm(Script(), WEB, "c")
        host.write_disk(WEB, "SCSI:0:0", "1", "now")
        export(host, tmp_path / "out", WEB, NONE, subdirectory=True)
        (disk,) = (tmp_path / "out" / "web01" / "Virtual Hard Disks").iterdir()
        assert guest_sees(host, disk) == {"1": "now"}
        export(host, tmp_path / "out2", WEB, NONE, storage=False)
        assert not (tmp_path / "out2" / "Virtual Hard Disks").exists()


@pytest.mark.parametrize(
    ("live", "runtime", "state"),
    [(0, 1, "Off"), (1, 1, "Saved"), (2, 1, "Off"), (1, 0, "Saved")],
)
def test_what_a_running_vm_holds_in_memory_is_exported_if_asked(
    tmp_path: Path, live: int, runtime: int, state: str
) -> None:
    with host_at(tmp_path / "host") as host:
        export(host, tmp_path / "out", capture_live_state=live, runtime=bool(runtime))
    vmcx = json.loads((tmp_path / "out" / "Virtual Machines" / f"{WEB.upper()}.vmcx").read_text())
    assert vmcx["machine"]["state"] == state
    assert (tmp_path / "out" / "Virtual Machines" / f"{WEB.upper()}.VMRS").exists() == (state == "Saved")


@pytest.mark.parametrize("runtime", [1, 0])
def test_a_saved_state_is_exported_as_runtime_information(tmp_path: Path, runtime: int) -> None:
    with host_at(tmp_path / "host") as host:
        host.save_vm(Script(), WEB)
        export(host, tmp_path / "out", runtime=bool(runtime))
    assert sum(name.endswith(".VMRS") for name in files(tmp_path / "out")) == runtime


def test_an_export_runs_on_when_its_script_dies_and_its_progress_counts_up(tmp_path: Path) -> None:
    with host_at(tmp_path, export=LONG) as host:
        host.kill_script("ExportSystemDefinition:started")
        with pytest.raises(ScriptKilled):
            export(host, tmp_path / "out")
        (found,) = host.jobs(WEB)
        assert (found.job_type, found.state, found.percent) == (62, 4, 0)
        assert of(host, WEB)["job"] == "ExportingVirtualMachine"
        assert job(host, found.job_id.lower()) == JobView(62, 0, 4, found.job_id)
        with pytest.raises(HyperVError, match="current state"):
            host.checkpoint_vm(Script(), WEB, "c")
        until_percent(host, found.job_id, 1, duration=5_000)
        host.durations(export=0)
        until(lambda: job(host, found.job_id).state == 7)
        assert job(host, found.job_id).percent == 100
        assert host.jobs(WEB) == []
        host.durations(job_kept=0)
        assert host.job(found.job_id) is None
    assert effects(tmp_path) == ["export_begun", "exported"]


def until_percent(host: SimulatedHyperV, job_id: str, percent: int, duration: int) -> None:
    """Let a job last so long, and wait until it has come so far."""
    host.durations(export=duration)
    until(lambda: job(host, job_id).percent >= percent)


def test_a_terminated_export_leaves_a_part_of_its_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with host_at(tmp_path / "host", export=LONG) as host:
        job_id = export(host, target, DB)
        host.durations(export=2_000)
        until(target.exists)
        host.durations(export=LONG, terminate=LONG)
        host.terminate_job(Script(), job_id)
        assert job(host, job_id).state == 6
        with pytest.raises(HyperVError, match="returned 32775"):
            host.terminate_job(Script(), job_id)
        host.durations(terminate=0)
        until(lambda: job(host, job_id).state == 8)
        assert "0x800704C7" in job(host, job_id).error
        assert job(host, job_id).percent < 100
        assert len(files(target)) < 4
        with pytest.raises(HyperVError, match="returned 32775"):
            host.terminate_job(Script(), job_id)
        assert host.start_vm(Script(), DB)
        with pytest.raises(HyperVError, match="no job"):
            host.terminate_job(Script(), "nothing")
    (end,) = [line for line in truth(tmp_path / "host") if line["effect"] == "export_ended"]
    assert end["detail"] == {"job": job_id, "reason": "terminated"}


def test_a_host_that_restarts_knows_no_job_any_more_and_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    with host_at(tmp_path / "host", export=LONG) as host:
        job_id = export(host, tmp_path / "out")
        host.durations(export=2_000)
        until((tmp_path / "out").exists)
        host.durations(export=LONG)
        host.restart_host()
        assert host.job(job_id) is None
        assert host.jobs(WEB) == []
    assert effects(tmp_path / "host") == ["export_begun", "export_ended"]
    assert 0 < len(files(tmp_path / "out")) < 4


def spoiled_by(what: str, target: Path) -> None:
    """Make a target one that cannot be exported to."""
    match what:
        case "a file":
            target.parent.mkdir(parents=True)
            target.write_text("")
        case "away":
            target.parent.with_name(f"{target.parent.name}.away").mkdir()
        case _:
            (target / "Virtual Machines").mkdir(parents=True)


@pytest.mark.parametrize(("what", "code"), [("a file", "0x80070003"), ("away", "0x80070035"), ("used", "0x80070050")])
def test_an_export_that_cannot_be_written_is_a_job_that_fails(tmp_path: Path, what: str, code: str) -> None:
    target = tmp_path / "share" / "attempt"
    spoiled_by(what, target)
    with host_at(tmp_path / "host") as host:
        found = job(host, export(host, target))
        assert (found.state, found.job_type) == (10, 62)
        assert code in found.error
        assert of(host, WEB)["job"] == ""
    assert effects(tmp_path / "host") == ["export_begun", "export_ended"]


def test_a_share_that_goes_down_ends_an_export_with_an_error(tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    with host_at(tmp_path / "host", export=LONG) as host:
        job_id = export(host, share / "attempt", DB)
        host.durations(export=5_000)
        until((share / "attempt").exists)
        host.share(str(share), up=False)
        host.durations(export=0)
        until(lambda: job(host, job_id).state == 10)
        assert "0x80070035" in job(host, job_id).error
    assert not share.exists()


WRONG: dict[str, Callable[[SimulatedHyperV, Path], str]] = {
    "CopySnapshotConfiguration 4": lambda host, at: export(host, at, snapshots=4),
    "CaptureLiveState 3": lambda host, at: export(host, at, capture_live_state=3),
    "has no checkpoint ''": lambda host, at: export(host, at, snapshots=ONE),
    "no disk is at SCSI:9:9": lambda host, at: export(host, at, snapshots=NONE, excluded=["SCSI:0:0", "SCSI:9:9"]),
    "no disk can be excluded": lambda host, at: export(host, at, excluded=["SCSI:0:0"]),
    "is not fully qualified": lambda host, _: export(host, Path("here")),
}


@pytest.mark.parametrize("told", WRONG)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, told: str) -> None:
    with host_at(tmp_path) as host:
        with pytest.raises(HyperVError, match=told) as refused:
            WRONG[told](host, tmp_path / "out")
        assert refused.value.error_id == "InvalidParameter"
        assert host.jobs(WEB) == []
    assert truth(tmp_path) == []


def test_a_disk_that_is_missing_fails_the_job(tmp_path: Path) -> None:
    with host_at(tmp_path / "host") as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        host.set_checkpoint("web01", made, files=False)
        found = job(host, export(host, tmp_path / "out"))
        assert "0x80070002" in found.error
    assert not (tmp_path / "out").exists()
