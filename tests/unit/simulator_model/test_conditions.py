"""The conditions that a test puts a host in, what Get-VM shows of them, and what cmdlets make of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.hypervisor import HyperVError, VmView
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import (
    DB,
    WEB,
    Script,
    begun,
    bring,
    host_at,
    is_refused,
    no_file_is_left_over,
    of,
    settled,
    truth,
    until,
)


def view(host: SimulatedHyperV, vm_id: str) -> VmView:
    """Return a VM as Get-VM shows it."""
    found = host.vm(vm_id)
    assert found is not None
    return found


def effects(at: Path) -> list[tuple[str, str]]:
    """Return what is on record: effect and VM."""
    return [(line["effect"], line["vm"]) for line in truth(at)]


def test_hidden_vms_are_not_listed_without_an_error(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.hide()
        assert list(host.vms()) == []
        assert host.vm(WEB) is None
        host.hide([DB, "web01"], hidden=False)
        assert [vm.name for vm in host.vms()] == ["db01", "web01"]
        host.hide(["web01"])
        assert [vm.name for vm in host.vms()] == ["db01"]
    with host_at(tmp_path) as host:
        assert [vm.name for vm in host.vms()] == ["db01"]
        assert of(host, WEB)["hidden"] is True
    assert effects(tmp_path) == [
        ("vm_hidden", WEB),
        ("vm_hidden", DB),
        ("vm_shown", DB),
        ("vm_shown", WEB),
        ("vm_hidden", WEB),
    ]


@pytest.mark.parametrize(
    "act",
    [
        lambda host, _: host.jobs(WEB),
        lambda host, _: host.set_checkpoint_type(Script(), WEB, "Standard"),
        lambda host, _: host.checkpoint_vm(Script(), WEB, "c"),
        lambda host, made: host.rename_snapshot(Script(), made, "n"),
        lambda host, made: host.restore_snapshot(Script(), made),
        lambda host, made: host.remove_snapshot(Script(), made),
        lambda host, _: host.start_vm(Script(), WEB),
        lambda host, _: host.stop_vm(Script(), WEB, turn_off=False),
        lambda host, _: host.stop_vm(Script(), WEB, turn_off=True),
    ],
)
def test_no_cmdlet_of_a_script_finds_a_hidden_vm(tmp_path: Path, act: Callable[[SimulatedHyperV, str], object]) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        host.hide(["web01"])
        before = of(host, WEB)
        with pytest.raises(HyperVError, match="unable to find") as unseen:
            act(host, made)
        assert unseen.value.error_id == "ObjectNotFound"
        assert of(host, WEB) == before


def test_an_administrator_still_acts_on_a_hidden_vm(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.hide(["web01"])
        made = host.admin("checkpoint", "web01")["checkpoint"]
        host.admin("remove", "web01", checkpoint=made)
        host.admin("turn_off", "web01")
        assert of(host, WEB)["state"] == "Off"


@pytest.mark.parametrize("state", ["Running", "Off", "Saved", "Paused"])
def test_a_critical_vm_has_the_critical_form_of_its_state(tmp_path: Path, state: str) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        host.critical("web01")
        assert view(host, WEB).state == f"{state}Critical"
        assert view(host, DB).state == "Off"
    with host_at(tmp_path) as host:
        assert view(host, WEB).state == f"{state}Critical"
        host.critical("web01", critical=False)
        assert view(host, WEB).state == state
    assert effects(tmp_path)[-2:] == [("vm_critical", WEB), ("vm_not_critical", WEB)]


def test_a_critical_vm_is_turned_off_started_and_freed_of_checkpoints_and_gets_none(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        host.critical("web01")
        for refused in (
            lambda: host.checkpoint_vm(Script(), WEB, "d"),
            lambda: host.save_vm(Script(), WEB),
            lambda: host.restore_snapshot(Script(), made),
        ):
            with pytest.raises(HyperVError) as failed:
                refused()
            assert failed.value.error_id == "OperationFailed"
        assert [c["id"] for c in of(host, WEB)["checkpoints"]] == [made]
        assert view(host, WEB).state == "RunningCritical"
        assert host.stop_vm(Script(), WEB, turn_off=True)
        assert view(host, WEB).state == "OffCritical"
        host.remove_snapshot(Script(), made)
        assert settled(host, WEB)["checkpoints"] == []
        assert host.start_vm(Script(), WEB)
        assert view(host, WEB).state == "RunningCritical"


def test_a_critical_vm_in_between_two_states_shows_both(tmp_path: Path) -> None:
    with host_at(tmp_path, turn_off=60_000) as host:
        host.critical("web01")
        begun(host, "Stop-VM", lambda: host.stop_vm(Script(), WEB, turn_off=True))
        assert view(host, WEB).state == "StoppingCritical"


def test_a_checkpoint_can_be_of_any_type_from_its_making_or_later(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        backup = host.admin("checkpoint", "web01", name="backup", type="Recovery")["checkpoint"]
        plain = host.checkpoint_vm(Script(), WEB, "plain")
        host.set_checkpoint("web01", plain.upper(), type="Missing")
    with host_at(tmp_path) as host:
        shown = {c.checkpoint_id: c.snapshot_type for c in view(host, WEB).checkpoints}
        assert shown == {backup: "Recovery", plain: "Missing"}
        host.remove_snapshot(Script(), plain)
        host.restore_snapshot(Script(), backup)
    assert ("checkpoint_changed", WEB) in effects(tmp_path)


def test_a_missing_checkpoint_is_not_applied_though_the_vm_is_saved_by_then(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        host.set_checkpoint(WEB, made, type="Missing")
        with pytest.raises(HyperVError, match="missing its files"):
            host.restore_snapshot(Script(), made)
        assert view(host, WEB).state == "Saved"
    assert effects(tmp_path)[-1] == ("restore_saved", WEB)


def test_files_that_are_gone_end_the_chains_through_them_until_they_are_back(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        first = host.checkpoint_vm(Script(), DB, "first")
        host.write_disk(DB, "SCSI:0:0", "1", "since")
        second = host.checkpoint_vm(Script(), DB, "second")
        lost = view(host, DB).checkpoints[1].drives[0].path
        host.set_checkpoint(DB, second, files=False)
    with host_at(tmp_path) as host:
        assert not Path(lost).exists()
        assert host.vhd(lost) is None
        for refused in (
            lambda: host.start_vm(Script(), DB),
            lambda: host.checkpoint_vm(Script(), DB, "third"),
            lambda: host.restore_snapshot(Script(), second),
        ):
            with pytest.raises(HyperVError, match="cannot find the file"):
                refused()
        host.remove_snapshot(Script(), first)
        assert not of(host, DB)["merging"]  # what stands on the oldest file is not there to be merged into it
        host.set_checkpoint(DB, second, files=True)
        vm = settled(host, DB)
        no_file_is_left_over(vm, host)
        assert host.read_disk(DB, "SCSI:0:0")["blocks"] == {"1": "since"}
        assert host.start_vm(Script(), DB)


def test_a_checkpoint_beside_the_files_that_are_gone_is_applied(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        first = host.checkpoint_vm(Script(), DB, "first")
        second = host.checkpoint_vm(Script(), DB, "second")
        host.set_checkpoint(DB, second, files=False)
        host.restore_snapshot(Script(), first)
        assert host.start_vm(Script(), DB)


def chain(host: SimulatedHyperV, vm_id: str) -> list[str]:
    """Return the files of a VM's first disk, leaf first."""
    return list(of(host, vm_id)["disks"]["SCSI:0:0"]["chain"])


def test_a_stray_under_the_leaf_stays_when_checkpoints_come_and_go(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.write_disk(WEB, "SCSI:0:0", "1", "before")
        (base,) = chain(host, WEB)
        stray = host.stray_file("web01", "SCSI:0:0")["file"]
        leaf = chain(host, WEB)[0]
        assert chain(host, WEB) == [leaf, stray, base]
        made = host.checkpoint_vm(Script(), WEB, "ours")
        host.write_disk(WEB, "SCSI:0:0", "2", "after")
        host.remove_snapshot(Script(), made)
        assert settled(host, WEB)["disks"]["SCSI:0:0"]["chain"] == [leaf, stray, base]
        assert host.read_disk(WEB, "SCSI:0:0")["blocks"] == {"1": "before", "2": "after"}
    with host_at(tmp_path) as host:
        assert settled(host, WEB)["disks"]["SCSI:0:0"]["chain"] == [leaf, stray, base]
        assert of(host, WEB)["strays"] == [stray]
    assert ("stray_added", WEB) in effects(tmp_path)


@pytest.mark.parametrize("below", [0, 1])
def test_a_stray_under_a_checkpoint_stays_when_that_is_removed(tmp_path: Path, below: int) -> None:
    with host_at(tmp_path) as host:
        made = [host.checkpoint_vm(Script(), DB, name) for name in ("first", "second")]
        host.write_disk(DB, "SCSI:0:0", "1", "since")
        stray = host.stray_file("db01", "SCSI:0:0", made[below])["file"]
        frozen = view(host, DB).checkpoints[below].drives[0].path
        files = chain(host, DB)
        assert files[files.index(frozen) + 1] == stray
        assert len(files) == (4 if below else 5)
        host.remove_snapshot(Script(), made[below])
        # What stood on the removed checkpoint's file has been merged into it.
        at = files.index(frozen)
        assert settled(host, DB)["disks"]["SCSI:0:0"]["chain"] == files[: at - 1] + files[at:]
        assert host.read_disk(DB, "SCSI:0:0")["blocks"] == {"1": "since"}


def test_the_file_under_a_stray_stays_with_it(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        first, second = (host.checkpoint_vm(Script(), DB, name) for name in ("first", "second"))
        host.write_disk(DB, "SCSI:0:0", "1", "since")
        host.stray_file("db01", "SCSI:0:0", second)
        before = chain(host, DB)
        host.remove_snapshot(Script(), first)
        assert settled(host, DB)["disks"]["SCSI:0:0"]["chain"] == before


def test_a_stray_on_a_branch_moves_nothing_on_the_others(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        root = host.checkpoint_vm(Script(), DB, "root")
        beside = host.checkpoint_vm(Script(), DB, "beside")
        host.restore_snapshot(Script(), root)
        before = chain(host, DB)
        host.stray_file("db01", "SCSI:0:0", beside)
        assert chain(host, DB) == before


@pytest.mark.parametrize("offset_s", [-7200, 3600, 0.5])
def test_what_the_host_says_of_time_follows_its_clock(tmp_path: Path, offset_s: float) -> None:
    ahead = timedelta(seconds=offset_s)
    with host_at(tmp_path) as host:
        host.clock(offset_s)
    with host_at(tmp_path) as host:
        before = datetime.now(UTC)
        assert before <= host.now() - ahead <= datetime.now(UTC)
        host.checkpoint_vm(Script(), WEB, "c")
        assert before <= view(host, WEB).checkpoints[0].created_at - ahead <= datetime.now(UTC)
    lines = truth(tmp_path)
    assert {line["effect"] for line in lines[:2]} == {"clock_set"}
    assert before <= datetime.fromisoformat(lines[-1]["at"]) <= datetime.now(UTC)


def test_a_checkpoint_from_the_future_is_listed_when_its_delay_has_passed(tmp_path: Path) -> None:
    with host_at(tmp_path, listing_delay=1) as host:
        host.clock(3600)
        host.checkpoint_vm(Script(), WEB, "c")
        host.clock(-3600)
        until(lambda: len(view(host, WEB).checkpoints) == 1)


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (lambda host: host.hide("web01"), ValueError, "vms must be a list"),
        (lambda host: host.hide(["web01", "nobody"]), LookupError, "no VMs are named 'nobody'"),
        (lambda host: host.hide([7]), LookupError, "no VMs are named 7"),
        (lambda host: host.hide(hidden="yes"), ValueError, "hidden must be true or false: 'yes'"),
        (lambda host: host.critical("web01", 1), ValueError, "critical must be true or false: 1"),
        (lambda host: host.critical("nobody"), LookupError, "no VMs are named 'nobody'"),
        (lambda host: host.set_checkpoint("web01", "x", files=False), LookupError, "web01 has no checkpoint 'x'"),
        (lambda host: host.set_checkpoint("web01", "x", type="Odd"), ValueError, "type 'Odd' is none of Standard,"),
        (lambda host: host.set_checkpoint("web01", "x", type=["Missing"]), ValueError, "is none of"),
        (lambda host: host.set_checkpoint("web01", "x", files="no"), ValueError, "files must be true or false"),
        (lambda host: host.set_checkpoint("web01", "x", name="n"), ValueError, "no fact name of a checkpoint"),
        (lambda host: host.stray_file("web01", "SCSI:9:9"), LookupError, "web01 has no disk at 'SCSI:9:9'"),
        (lambda host: host.clock("1"), ValueError, "offset_s must be a number of seconds"),
        (lambda host: host.clock(True), ValueError, "offset_s must be a number of seconds"),
        (lambda host: host.clock(float("nan")), ValueError, "offset_s must be a number of seconds"),
        (lambda host: host.clock(1e12), ValueError, "offset_s must be a number of seconds"),
        (lambda host: host.stray_file("web01", 7), LookupError, "web01 has no disk at 7"),
        (lambda host: host.stray_file("web01", "SCSI:0:0", "x"), LookupError, "web01 has no checkpoint 'x'"),
        (lambda host: host.admin("checkpoint", "web01", type="Odd"), ValueError, "type 'Odd' is none of"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    tmp_path: Path, act: Callable[[SimulatedHyperV], Any], error: type[Exception], told: str
) -> None:
    is_refused(tmp_path, act, error, told)
