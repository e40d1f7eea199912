"""Volumes whose room runs out, and what gives it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, of, settled, truth, until
from tests.unit.simulator_model.test_drives import refused, view, volume

GIB = 1 << 30
MIB = 1 << 20


def free(host: SimulatedHyperV, at: str = "") -> object:
    return host.free_space(at)["free_bytes"]


def is_full(act: Callable[[], object]) -> None:
    error = refused(act)
    assert error.error_id == "OperationFailed"
    assert "There is not enough space on the disk. (0x80070070)" in str(error)


def test_there_is_no_end_unless_it_is_set(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        assert free(host) is None
        host.free_space(free_bytes=1000)
        assert free(host) == 1000
    with host_at(tmp_path) as host:
        assert free(host) == 1000
        host.free_space(free_bytes=None)
        assert free(host) is None
    assert [(e["effect"], e["detail"]["free_bytes"]) for e in truth(tmp_path)] == [
        ("free_space_set", 1000),
        ("free_space_set", None),
    ]


def test_checkpoints_take_their_memory_and_give_it_back(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_checkpoint_type(Script(), WEB, "Standard")
        host.free_space(free_bytes=6 * GIB)
        first = host.checkpoint_vm(Script(), WEB, "one")
        left = free(host)
        assert isinstance(left, int)
        assert 2 * GIB - 8192 < left < 2 * GIB
        before = of(host, WEB)
        is_full(lambda: host.checkpoint_vm(Script(), WEB, "two"))
        assert of(host, WEB) == before
        host.remove_snapshot(Script(), first)
        settled(host, WEB)
        host.checkpoint_vm(Script(), WEB, "two")


def test_where_there_is_no_room_no_disk_is_made_frozen_applied_or_enlarged(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), DB, "c")
        path = f"{host.storage_directory}/fixed.vhdx"
        host.new_vhd(Script(), path, 8 * MIB, fixed=True)
        host.free_space(free_bytes=10)
        before = host.state(), sorted(host.storage_directory.rglob("*"))
        is_full(lambda: host.checkpoint_vm(Script(), DB, "c"))
        is_full(lambda: host.restore_snapshot(Script(), made))
        is_full(lambda: volume(host))
        is_full(lambda: host.resize_vhd(Script(), path, 9 * MIB))
        assert (host.state(), sorted(host.storage_directory.rglob("*"))) == before
        host.free_space(free_bytes=MIB)
        host.resize_vhd(Script(), path, 9 * MIB)
        assert free(host) == 0


def test_a_fixed_disk_takes_its_size_and_whoever_deletes_it_gives_it_back(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.free_space(free_bytes=GIB)
        path = f"{host.storage_directory}/fixed.vhdx"
        is_full(lambda: host.new_vhd(Script(), path, GIB + 1, fixed=True))
        host.new_vhd(Script(), path, GIB, fixed=True)
        assert free(host) == 0
        Path(path).unlink()
        assert free(host) == GIB
        (host.storage_directory / "other.iso").write_bytes(b"x" * 1000)
        assert free(host) == GIB - 1000


def test_a_merge_waits_for_room(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        for n in range(50):
            host.write_disk(WEB, "SCSI:0:0", str(n), "x" * 100)
        host.free_space(free_bytes=1000)
        host.remove_snapshot(Script(), made)
        until(lambda: view(host, WEB).secondary_status == ("MergingDisks",))
        assert len(of(host, WEB)["disks"]["SCSI:0:0"]["chain"]) == 2
        host.free_space(free_bytes=20_000)
        assert len(settled(host, WEB)["disks"]["SCSI:0:0"]["chain"]) == 1
        assert len(host.read_disk(WEB, "SCSI:0:0")["blocks"]) == 50


def test_a_merge_finds_the_room_that_a_deleted_file_gives(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        filler = host.storage_directory / "filler"
        filler.write_bytes(b"x" * 20_000)
        made = host.checkpoint_vm(Script(), WEB, "c")
        for n in range(50):
            host.write_disk(WEB, "SCSI:0:0", str(n), "x" * 100)
        host.free_space(free_bytes=0)
        host.remove_snapshot(Script(), made)
        until(lambda: of(host, WEB)["merging"])
        filler.unlink()
        assert len(settled(host, WEB)["disks"]["SCSI:0:0"]["chain"]) == 1


def test_a_volume_in_a_volume_has_room_of_its_own(tmp_path: Path) -> None:
    volumes = [{"path": "fast", "free_bytes": 0}, {"path": str(tmp_path / "slow"), "free_bytes": 10_000}]
    with host_at(tmp_path, {"vms": [], "volumes": volumes}) as host:
        assert (free(host, "fast"), free(host, str(tmp_path / "slow")), free(host)) == (0, 10_000, None)
        host.free_space(free_bytes=5000)
        is_full(lambda: volume(host, "fast/x"))
        volume(host, "x")
        host.free_space("fast", free_bytes=1000)
        volume(host, "fast/x")
        left = free(host)
        assert isinstance(left, int)
        assert 4500 < left < 5000
        host.new_vhd(Script(), f"{tmp_path}/slow/x.vhdx", GIB)
        is_full(lambda: host.new_vhd(Script(), f"{tmp_path}/slow/y.vhdx", GIB, fixed=True))
    with host_at(tmp_path) as host:
        assert free(host) == left


@pytest.mark.parametrize("act", ["export", "convert"])
def test_an_export_and_a_conversion_run_out_of_room_half_way(tmp_path: Path, act: str) -> None:
    with host_at(tmp_path) as host:
        for n in range(50):
            host.write_disk(DB, "SCSI:0:1", str(n), "x" * 100)
        (tmp_path / "out").mkdir()
        host.free_space(str(tmp_path / "out"), free_bytes=3000)
        source = view(host, DB).drives[1].path
        job_id = (
            host.export_vm(Script(), DB, f"{tmp_path}/out", snapshots=1)
            if act == "export"
            else host.convert_disk(Script(), source, f"{tmp_path}/out/x.vhdx")
        )
        job = host.job(job_id)
        assert job is not None
        assert (job.state, "0x80070070" in job.error) == (10, True)
        assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] != []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"volume": 1}, "volume 1"),
        ({"volume": "none"}, "there is no directory"),
        ({"free_bytes": -1}, "free_bytes must be a whole number"),
        ({"free_bytes": True}, "free_bytes must be a whole number"),
        ({"free": 1}, "use volume, a path, and free_bytes"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: dict[str, object], told: str) -> None:
    with host_at(tmp_path) as host, pytest.raises(ValueError, match=told):
        host.free_space(**arguments)


@pytest.mark.parametrize(
    ("volumes", "told"),
    [
        ({}, "volumes is no list"),
        ([{"path": "x"}], "volumes[0].free_bytes None is no whole number, 0 or more"),
        ([{"free_bytes": 1}], "volumes[0].path None is no name"),
    ],
)
def test_an_inventory_with_volumes_that_make_no_sense_is_refused(tmp_path: Path, volumes: object, told: str) -> None:
    with pytest.raises(ValueError, match=r"inventory\.json") as refusal:
        host_at(tmp_path, {"vms": [], "volumes": volumes}).__enter__()
    assert told in str(refusal.value)


def test_an_automatic_checkpoint_that_finds_no_room_does_not_keep_a_vm_from_starting(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.admin("set_automatic_checkpoints", "db01", value=True)
        host.free_space(free_bytes=0)
        host.start_vm(Script(), DB)
        assert (of(host, DB)["state"], of(host, DB)["checkpoints"]) == ("Running", [])
