"""What the control port asks of the model, and the nonsense that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.hypervisor import HyperVError, ScriptKilled
from snapshotd.simulator.journal import JournalEntry, journal_path, write_journal
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, is_refused, of, settled, truth, until


def test_an_administrator_does_by_hand_what_a_script_does(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        first = host.admin("checkpoint", "web01", name="by hand")["checkpoint"]
        second = host.admin("checkpoint", "web01", name="by itself", automatic=True)["checkpoint"]
        host.admin("rename", "web01", checkpoint=first, name="renamed")
        host.admin("set_checkpoint_type", "web01", type="Standard")
        assert [(c["name"], c["parent"], c["automatic"]) for c in of(host, WEB)["checkpoints"]] == [
            ("renamed", "", False),
            ("by itself", first, True),
        ]
        host.admin("apply", "web01", checkpoint=first)
        host.admin("start", "web01")
        host.admin("turn_off", "web01")
        host.admin("remove", "web01", checkpoint=second)
        assert [c["id"] for c in of(host, WEB)["checkpoints"]] == [first]
    by = {line["by"] for line in truth(tmp_path) if line["effect"] != "disk_merged"}
    assert by == {"administrator"}


def test_an_administrator_changes_drives_by_hand(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        path = f"{host.storage_directory}/by hand.vhdx"
        host.admin("attach", "web01", location="SCSI:0:5", path=path, size_bytes=8 << 20)
        host.admin("resize", "web01", location="SCSI:0:5", size_bytes=9 << 20)
        host.admin("detach", "web01", location="SCSI:0:5")
        host.admin("attach", "db01", location="SCSI:0:6", path=path)
        view, db = host.vhd(path), host.vm(DB)
        assert view is not None
        assert db is not None
        assert (view.size_bytes, [(d.location, d.path) for d in db.drives][-1]) == (9 << 20, ("SCSI:0:6", path))
        for arguments, told in (
            ({"do": "attach", "location": "SCSI:0:6"}, "path is missing"),
            ({"do": "resize", "location": "SCSI:0:6"}, "size_bytes must be a whole number: 0"),
            ({"do": "resize", "location": "SCSI:0:6", "size_bytes": "9"}, "size_bytes must be a whole number: '9'"),
            ({"do": "detach", "location": "SCSI:0:9"}, "ObjectNotFound"),
            ({"do": "detach"}, "location is missing"),
        ):
            with pytest.raises(ValueError, match=told):
                host.admin(vm="db01", **arguments)
    assert [(line["effect"], line["by"]) for line in truth(tmp_path)] == [
        (effect, "administrator")
        for effect in ("disk_created", "drive_added", "disk_resized", "drive_removed", "drive_added")
    ]


def test_nothing_planned_for_scripts_meets_an_administrator(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.kill_script("Checkpoint-VM:before")
        host.fail("Checkpoint-VM", "OperationFailed", "No room.")
        assert host.admin("checkpoint", WEB, name="c")["checkpoint"]


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_planned_failure_meets_so_many_calls(tmp_path: Path, *, after_effect: bool) -> None:
    with host_at(tmp_path) as host:
        host.fail("Checkpoint-VM", "Odd,Some.Where", "No room.", 2, after_effect=after_effect)
        for made in (1, 2):
            with pytest.raises(HyperVError, match="No room") as failed:
                host.checkpoint_vm(Script(), WEB, "c")
            assert failed.value.fully_qualified == "Odd,Some.Where"
            assert len(of(host, WEB)["checkpoints"]) == (made if after_effect else 0)
        host.checkpoint_vm(Script(), WEB, "c")


def test_a_plan_is_taken_back_with_count_0(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.fail("Start-VM", "OperationFailed", count=3)
        host.fail("Start-VM", "OperationFailed", count=0)
        host.kill_script("Start-VM:before", 3)
        host.kill_script("Start-VM:before", 0)
        assert host.start_vm(Script(), DB)


def test_a_plan_to_kill_says_how_many_have_not_come(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        assert host.kill_script("Start-VM:before", 2) == {"left": 0}
        with pytest.raises(ScriptKilled):
            host.start_vm(Script(), DB)
        assert host.kill_script("Start-VM:after", 0) == {"left": 0}
        assert host.kill_script("Start-VM:before", 0) == {"left": 1}
        assert host.kill_script("Start-VM:before", 0) == {"left": 0}


def test_a_lost_journal_is_gone_and_on_record(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        write_journal(host.journal_directory, JournalEntry(vm=WEB, id="j"), durable=False)
        host.lose_journal("web01")
        assert not journal_path(host.journal_directory, WEB).exists()
    assert [line["effect"] for line in truth(tmp_path)] == ["journal_lost"]


def test_a_write_is_what_the_guest_sees_and_on_record_with_its_digest(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.write_disk("db01", "SCSI:0:1", "7", "data")
        seen = host.read_disk(DB, "SCSI:0:1")
        assert seen["blocks"] == {"7": "data"}
        assert host.read_disk(DB, "SCSI:0:0")["blocks"] == {}
        (line,) = truth(tmp_path)
        assert (line["effect"], line["disks"]["SCSI:0:1"]) == ("disk_written", seen["sha256"])
        host.save_vm(Script(), WEB)
        with pytest.raises(ValueError, match="web01 is Saved"):
            host.write_disk(WEB, "SCSI:0:0", "1", "nobody writes")


def test_status_and_list_lag_behind_if_told_to(tmp_path: Path) -> None:
    with host_at(tmp_path, merge=60_000, status_delay=60_000, listing_delay=60_000) as host:
        first = host.checkpoint_vm(Script(), WEB, "first")
        view = host.vm(WEB)
        assert view is not None
        assert (view.checkpoints, view.parent_snapshot_id) == ((), "")
        host.durations(listing_delay=0)
        host.remove_snapshot(Script(), first)
        view = host.vm(WEB)
        assert view is not None
        assert view.secondary_status == ()
        assert [job.job_type for job in host.jobs(WEB)] == [50]
        host.durations(status_delay=0)
        view = host.vm(WEB)
        assert view is not None
        assert view.secondary_status == ("MergingDisks",)


def test_a_checkpoint_from_before_the_hosts_clock_was_set_back_is_listed_for_all_the_listing_delay(
    tmp_path: Path,
) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "from the future")
    file = tmp_path / "state" / "machines" / f"{WEB}.json"
    machine = json.loads(file.read_text())
    machine["checkpoints"][made]["created_at"] = "2999-01-01T00:00:00Z"
    file.write_text(json.dumps(machine))
    with host_at(tmp_path, listing_delay=60_000) as host:
        view = host.vm(WEB)
        assert view is not None
        assert [c.checkpoint_id for c in view.checkpoints] == [made] == [view.parent_snapshot_id]
        host.checkpoint_vm(Script(), WEB, "new")
        view = host.vm(WEB)
        assert view is not None
        assert [c.checkpoint_id for c in view.checkpoints] == [made] == [view.parent_snapshot_id]


def test_merges_of_one_vm_wait_for_no_other_and_end_sooner_when_told(tmp_path: Path) -> None:
    with host_at(tmp_path, merge=15_000) as host:
        for vm in (DB, WEB):
            made = host.checkpoint_vm(Script(), vm, "c")
            host.remove_snapshot(Script(), made)
        for vm in (DB, WEB):
            view = host.vm(vm)
            assert view is not None
            assert view.secondary_status == ("MergingDisks",)
        assert host.start_vm(Script(), DB)
        until(lambda: all(host.jobs(vm)[0].percent > 0 for vm in (DB, WEB)))
        host.durations(merge=0)
        settled(host, WEB)
        settled(host, DB)
    merged = [line["vm"] for line in truth(tmp_path) if line["effect"] == "disk_merged"]
    assert sorted(merged) == [WEB, DB, DB]


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (lambda host: host.write_disk("nobody", "SCSI:0:0", "1", "x"), LookupError, "no VMs are named 'nobody'"),
        (lambda host: host.write_disk(WEB, "SCSI:9:9", "1", "x"), LookupError, "no disk at 'SCSI:9:9'"),
        (lambda host: host.write_disk(WEB, ["SCSI:0:0"], "1", "x"), LookupError, "no disk at"),
        (lambda host: host.write_disk(WEB, "SCSI:0:0", 1, "x"), ValueError, "block and data are texts"),
        (lambda host: host.kill_script("Start-VM:never"), ValueError, "no action 'Start-VM:never'"),
        (lambda host: host.kill_script(7), ValueError, "no action 7"),
        (lambda host: host.kill_script("Start-VM:before", -1), ValueError, "count must be a whole number"),
        (lambda host: host.fail("Get-VM", "X"), ValueError, "no cmdlet 'Get-VM'"),
        (lambda host: host.fail("Start-VM", ""), ValueError, "error_id '' is none"),
        (lambda host: host.fail("Start-VM", "X", 7), ValueError, "message is no text: 7"),
        (lambda host: host.fail("Start-VM", "X", "", True), ValueError, "count must be a whole number"),
        (lambda host: host.fail("Start-VM", "X", after_effect="no"), ValueError, "after_effect must be true or false"),
        (lambda host: host.set_guest(WEB, vss="no"), ValueError, "vss must be true or false"),
        (lambda host: host.set_guest(WEB, sleeps=True), ValueError, "no ability 'sleeps'"),
        (lambda host: host.admin("dance", WEB), ValueError, "does not 'dance'"),
        (lambda host: host.admin("start", WEB, force=True), ValueError, "start takes no force"),
        (lambda host: host.admin("remove", WEB), ValueError, "checkpoint is missing"),
        (lambda host: host.admin("remove", WEB, checkpoint="x"), LookupError, "web01 has no checkpoint 'x'"),
        (lambda host: host.admin("set_checkpoint_type", WEB, type="Some"), ValueError, "is not a CheckpointType"),
        (lambda host: host.lose_journal(7), LookupError, "no VMs are named 7"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    tmp_path: Path, act: Callable[[SimulatedHyperV], Any], error: type[Exception], told: str
) -> None:
    is_refused(tmp_path, act, error, told)


def test_a_checkpoint_of_another_vm_is_none_of_this_one(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        with pytest.raises(LookupError, match="db01 has no checkpoint"):
            host.admin("remove", DB, checkpoint=made)
        assert len(of(host, WEB)["checkpoints"]) == 1


def test_a_name_that_two_vms_have_has_to_be_an_id(tmp_path: Path) -> None:
    vms = [{"id": i, "name": "twin", "state": "Running", "disks": []} for i in (WEB, DB)]
    with host_at(tmp_path, {"vms": vms}) as host:
        with pytest.raises(LookupError, match="2 VMs are named 'twin'"):
            host.admin("turn_off", "twin")
        host.admin("turn_off", WEB.upper())
        assert [vm.state for vm in host.vms()] == ["Off", "Running"]
