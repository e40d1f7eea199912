"""New-VM and Remove-VM: what stays of a VM, and what is merged after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, bring, host_at, of, truth, until
from tests.unit.simulator_model.oracle import Oracle
from tests.unit.simulator_model.test_drives import refused, view, volume

GIB = 1 << 30


def everything(host: SimulatedHyperV, path: str) -> dict[str, str]:
    """Return what is on a disk that no VM has, by attaching it to one for a moment."""
    host.add_drive(Script(), WEB, "SCSI:0:50", path)
    blocks: dict[str, str] = host.read_disk(WEB, "SCSI:0:50")["blocks"]
    host.remove_drive(Script(), WEB, "SCSI:0:50")
    return blocks


def left(host: SimulatedHyperV) -> object:
    return host.state()["removed"]


@pytest.mark.parametrize(("generation", "place"), [(1, "IDE:0:0"), (2, "SCSI:0:0")])
def test_a_new_vm_is_off_has_its_disk_and_does_what_others_do(tmp_path: Path, generation: int, place: str) -> None:
    with host_at(tmp_path) as host:
        path = volume(host)
        made = host.new_vm(Script(), "new01", memory_bytes=GIB, generation=generation, vhd_path=path)
        host.write_disk(made, place, "1", "data")
    with host_at(tmp_path) as host:
        vm = view(host, made)
        assert (vm.name, vm.state, vm.cpu_count, vm.memory_bytes, vm.generation) == ("new01", "Off", 1, GIB, generation)
        assert [(d.location, d.path) for d in vm.drives] == [(place, path)]
        host.start_vm(Script(), made)
        checkpoint = host.checkpoint_vm(Script(), made, "c")
        host.restore_snapshot(Script(), checkpoint)
        assert host.read_disk(made, place)["blocks"] == {"1": "data"}
    assert [(e["effect"], e["vm"], e["vm_n"], e["decisive"]) for e in truth(tmp_path)][:2] == [
        ("disk_created", "", 0, True),
        ("vm_created", made, 1, True),
    ]


def test_a_new_vm_has_a_folder_of_its_own_where_it_is_told_to(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.new_vm(Script(), "new01", memory_bytes=GIB, generation=2, path=str(tmp_path / "vms"))
        assert view(host, made).folder == str(tmp_path / "vms" / "new01")
        assert Path(view(host, made).folder).is_dir()
        again = host.new_vm(Script(), "new01", memory_bytes=GIB, generation=2)
        assert again != made


@pytest.mark.parametrize(
    ("how", "error_id"),
    [
        ((GIB, 3, ""), "InvalidParameter"),
        ((0, 2, ""), "InvalidParameter"),
        ((GIB, 2, "/none.vhdx"), "OperationFailed"),
    ],
)
def test_what_is_no_vm_is_not_made(tmp_path: Path, how: tuple[int, int, str], error_id: str) -> None:
    memory, generation, disk = how
    with host_at(tmp_path) as host:
        error = refused(
            lambda: host.new_vm(Script(), "new01", memory_bytes=memory, generation=generation, vhd_path=disk)
        )
        assert error.fully_qualified == f"{error_id},Microsoft.HyperV.PowerShell.Commands.NewVM"
        assert len(host.vms()) == 2


@pytest.mark.parametrize("state", ["Running", "Paused", "Saved"])
def test_a_vm_that_is_not_off_is_not_removed(tmp_path: Path, state: str) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        assert refused(lambda: host.remove_vm(Script(), WEB)).error_id == "InvalidState"
        assert host.vm(WEB) is not None


def test_a_removed_vm_leaves_its_disks_as_they_were(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        paths = {d.location: d.path for d in view(host, DB).drives}
        host.write_disk(DB, "SCSI:0:1", "1", "data")
        host.remove_vm(Script(), DB)
        assert (host.vm(DB), left(host)) == (None, {})
        assert refused(lambda: host.start_vm(Script(), DB)).error_id == "ObjectNotFound"
        assert everything(host, paths["SCSI:0:1"]) == {"1": "data"}
    with host_at(tmp_path) as host:
        assert [vm.name for vm in host.vms()] == ["web01"]
        Path(paths["SCSI:0:0"]).unlink()
        host.vms()
    effects = [(e["effect"], e["decisive"], e["vm"]) for e in truth(tmp_path)]
    assert effects[:2] == [("disk_written", False, DB), ("vm_removed", True, DB)]
    assert effects[-1] == ("file_deleted", False, "")


@pytest.mark.parametrize("reopened", [False, True])
def test_its_checkpoints_go_and_their_disks_are_merged_afterwards(tmp_path: Path, *, reopened: bool) -> None:
    with host_at(tmp_path, merge=60_000) as host:
        oracle = Oracle(["SCSI:0:0", "SCSI:0:1"])
        for n in range(4):
            host.write_disk(DB, "SCSI:0:1", str(n), "x")
            oracle.now["SCSI:0:1"][str(n)] = "x"
            oracle.take(host.checkpoint_vm(Script(), DB, f"{n}"))
            if n == 2:
                first = next(iter(oracle.checkpoints))
                host.restore_snapshot(Script(), first)
                oracle.apply(first)
        host.write_disk(DB, "SCSI:0:1", "last", "x")
        oracle.now["SCSI:0:1"]["last"] = "x"
        oracle.compare(of(host, DB))
        base = of(host, DB)["disks"]["SCSI:0:1"]["chain"][-1]
        host.remove_vm(Script(), DB)
        assert host.vm(DB) is None
        assert left(host) != {}
        if not reopened:
            host.durations(merge=0)
            _comes_to_rest(host, base, oracle)
    if reopened:
        with host_at(tmp_path) as host:
            _comes_to_rest(host, base, oracle)
    assert {e["by"] for e in truth(tmp_path) if e["effect"] == "disk_merged"} == {"hypervisor"}


def _comes_to_rest(host: SimulatedHyperV, base: str, oracle: Oracle) -> None:
    until(lambda: left(host) == {})
    assert sorted(p.suffix for p in Path(base).parent.iterdir()) == [".vhdx", ".vhdx"]
    assert everything(host, base) == oracle.now["SCSI:0:1"]


def test_a_removed_vm_does_not_keep_others_from_its_disks(tmp_path: Path) -> None:
    with host_at(tmp_path, merge=60_000) as host:
        made = host.checkpoint_vm(Script(), DB, "c")
        leaf = view(host, DB).drives[0].path
        host.remove_vm(Script(), DB)
        host.add_drive(Script(), WEB, "SCSI:0:7", leaf)
        assert refused(lambda: host.remove_snapshot(Script(), made)).error_id == "ObjectNotFound"


def test_a_vm_that_comes_back_while_its_disks_are_merged_finds_them_merged(tmp_path: Path) -> None:
    with host_at(tmp_path, merge=60_000) as host:
        host.checkpoint_vm(Script(), DB, "c")
        host.write_disk(DB, "SCSI:0:0", "1", "data")
        base = of(host, DB)["disks"]["SCSI:0:0"]["chain"][-1]
        second = of(host, DB)["disks"]["SCSI:0:1"]["chain"][-1]
        host.remove_vm(Script(), DB)
        machine = {
            "vm_id": DB,
            "name": "db01",
            "state": "Off",
            "cpu_count": 2,
            "memory_bytes": GIB,
            "checkpoint_type": "Production",
            "blockers": [],
            "disks": {"SCSI:0:0": base, "SCSI:0:1": second},
            "checkpoints": {},
        }
        host.move_in(machine)
        assert left(host) == {}
        assert host.read_disk(DB, "SCSI:0:0")["blocks"] == {"1": "data"}
        assert of(host, DB)["disks"]["SCSI:0:0"]["chain"] == [base]
    numbers = [e["vm_n"] for e in truth(tmp_path) if e["vm"] == DB]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_merge_whose_file_somebody_deletes_is_given_up(tmp_path: Path) -> None:
    with host_at(tmp_path, merge=60_000) as host:
        host.checkpoint_vm(Script(), DB, "c")
        base = of(host, DB)["disks"]["SCSI:0:0"]["chain"][-1]
        host.remove_vm(Script(), DB)
        Path(base).unlink()
        host.durations(merge=0)
        until(lambda: left(host) == {})
        assert not Path(base).exists()


@pytest.mark.parametrize("cmdlet", ["New-VM", "Remove-VM"])
def test_a_cmdlet_fails_when_a_test_says_so(tmp_path: Path, cmdlet: str) -> None:
    acts: dict[str, Callable[[SimulatedHyperV], object]] = {
        "New-VM": lambda host: host.new_vm(Script(), "x", memory_bytes=GIB, generation=2),
        "Remove-VM": lambda host: host.remove_vm(Script(), DB),
    }
    with host_at(tmp_path) as host:
        host.fail(cmdlet, "OperationFailed", "no")
        with pytest.raises(HyperVError, match="no"):
            acts[cmdlet](host)
        assert len(host.vms()) == 2
