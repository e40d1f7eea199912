"""Two hosts over one storage, and the VMs that move between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.journal import JournalEntry, journal_path, write_journal
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import (
    DB,
    INVENTORY,
    WEB,
    Script,
    begun,
    host_at,
    no_file_is_left_over,
    of,
    settled,
    truth,
)

EMPTY: dict[str, Any] = {"host": {"name": "hv02"}, "vms": []}


@contextmanager
def two_hosts(at: Path, **durations: int) -> Iterator[tuple[SimulatedHyperV, SimulatedHyperV]]:
    """Open two hosts over one storage; all VMs begin on the first."""
    storage = at / "storage"
    first = None if (at / "one" / "inventory.json").exists() else INVENTORY
    second = None if (at / "two" / "inventory.json").exists() else EMPTY
    with (
        host_at(at / "one", first, storage=storage, **durations) as one,
        host_at(at / "two", second, storage=storage, **durations) as two,
    ):
        yield one, two


def move(vm: str, source: SimulatedHyperV, target: SimulatedHyperV) -> None:
    """Move a VM."""
    target.move_in(**source.move_out(vm))


def test_a_vm_moves_with_its_checkpoints_and_disks_and_without_its_journal(tmp_path: Path) -> None:
    with two_hosts(tmp_path) as (one, two):
        host_journal = JournalEntry(vm=WEB, id="j")
        write_journal(one.journal_directory, host_journal, durable=False)
        made = one.checkpoint_vm(Script(), WEB, "c")
        one.write_disk(WEB, "SCSI:0:0", "1", "since")
        before = one.vm(WEB)
        one.hide(["web01"])
        move("web01", one, two)
        assert two.vm(WEB) == before
        assert [vm.name for vm in one.vms()] == ["db01"]
        with pytest.raises(LookupError, match="no VMs are named 'web01'"):
            one.read_disk("web01", "SCSI:0:0")
        assert journal_path(one.journal_directory, WEB).exists()
        assert not journal_path(two.journal_directory, WEB).exists()
    with two_hosts(tmp_path) as (one, two):
        assert one.vm(WEB) is None
        two.restore_snapshot(Script(), made)
        assert two.read_disk("web01", "SCSI:0:0")["blocks"] == {}
        move("web01", two, one)
        assert two.vms() == []
        one.remove_snapshot(Script(), made)
        no_file_is_left_over(settled(one, WEB), one)
    moves = {"vm_moved_out", "vm_moved_in"}
    on = {n: [e["effect"] for e in truth(tmp_path / n) if e["effect"] in moves] for n in ("one", "two")}
    assert on == {"one": ["vm_moved_out", "vm_moved_in"], "two": ["vm_moved_in", "vm_moved_out"]}


def test_a_merge_that_a_vm_leaves_behind_goes_on_where_it_comes_to(tmp_path: Path) -> None:
    with two_hosts(tmp_path, merge=600_000) as (one, two):
        made = one.checkpoint_vm(Script(), DB, "c")
        one.write_disk(DB, "SCSI:0:0", "1", "since")
        one.remove_snapshot(Script(), made)
        move("db01", one, two)
        assert of(two, DB)["merging"]
        two.durations(merge=0)
        no_file_is_left_over(settled(two, DB), two)
        assert two.read_disk("db01", "SCSI:0:0")["blocks"] == {"1": "since"}
    assert [line["effect"] for line in truth(tmp_path / "one")][-1] == "vm_moved_out"


def test_a_host_sees_the_files_of_a_vm_that_has_left_as_they_are_now(tmp_path: Path) -> None:
    with two_hosts(tmp_path) as (one, two):
        (path,) = of(one, WEB)["disks"]["SCSI:0:0"]["chain"]
        move("web01", one, two)
        before = one.vhd(path)
        two.write_disk("web01", "SCSI:0:0", "1", "written on the other host")
        after = one.vhd(path)
        assert before is not None
        assert after is not None
        assert after.file_bytes > before.file_bytes
        assert after == two.vhd(path)
        two.storage("web01", up=False)
        assert one.vhd(path) is None


def test_one_hosts_restart_leaves_the_files_of_the_other_alone(tmp_path: Path) -> None:
    with two_hosts(tmp_path) as (one, two):
        move("web01", one, two)
        two.storage("web01", up=False)
        half = tmp_path / "storage" / f"{WEB}.away" / "half.avhdx.new"
        half.write_text("{")
        with host_at(tmp_path / "three", {"vms": []}, storage=tmp_path / "storage"):
            assert half.exists()


def test_a_busy_vm_stays(tmp_path: Path) -> None:
    with two_hosts(tmp_path, save=600_000) as (one, _):
        begun(one, "Save-VM", lambda: one.save_vm(Script(), WEB))
        with pytest.raises(ValueError, match="web01 is busy"):
            one.move_out("web01")
        one.storage("db01", up=False)
        with pytest.raises(ValueError, match="its storage is away"):
            one.move_out("db01")


def test_a_vm_whose_disks_are_not_there_is_not_taken_in_and_can_go_back(tmp_path: Path) -> None:
    with two_hosts(tmp_path) as (one, _), host_at(tmp_path / "three", {"vms": []}) as three:
        left = one.move_out("web01")
        with pytest.raises(ValueError, match="is missing: it is the disk SCSI:0:0 of VM web01"):
            three.move_in(**left)
        assert three.vms() == []
        one.move_in(**left)
        with pytest.raises(ValueError, match="is on hv01 already"):
            one.move_in(**left)
        assert [vm.name for vm in one.vms()] == ["db01", "web01"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: None,
        lambda _: [],
        lambda machine: {name: value for name, value in machine.items() if name != "disks"},
        lambda machine: {**machine, "colour": "red"},
        lambda machine: {**machine, "checkpoints": []},
        lambda machine: {**machine, "disks": []},
        lambda machine: {**machine, "vm_id": 7},
    ],
)
def test_what_is_no_vm_is_not_taken_in(tmp_path: Path, spoil: Callable[[dict[str, Any]], object]) -> None:
    with two_hosts(tmp_path) as (one, two):
        left = one.move_out("web01")["machine"]
        with pytest.raises(ValueError, match=r"machine is not|has not what a VM has"):
            two.move_in(spoil(left))
        assert two.vms() == []
        two.move_in(left)


def test_a_disk_that_another_host_uses_is_not_begun_anew(tmp_path: Path) -> None:
    with two_hosts(tmp_path) as (one, _):
        one.write_disk("web01", "SCSI:0:0", "1", "data")
        with (
            pytest.raises(ValueError, match=f"{WEB[:8]}-0.vhdx is there already, and in use"),
            host_at(tmp_path / "three", INVENTORY, storage=tmp_path / "storage"),
        ):
            pass
