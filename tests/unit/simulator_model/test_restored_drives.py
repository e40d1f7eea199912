"""What guests see by place, through attaches, detaches, resizes, checkpoints and restores, against the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, no_file_is_left_over, of, settled, truth
from tests.unit.simulator_model.oracle import Oracle
from tests.unit.simulator_model.test_drives import volume

MIB = 1 << 20
GIB = 1 << 30
_PLACES = [f"SCSI:{n}:{at}" for n in (0, 1) for at in range(4)]


class Walk:
    """A VM that anything is done to, and the oracle beside it.

    Args:
        seed: makes it the same walk again.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.oracle = Oracle(["SCSI:0:0", "SCSI:0:1"])
        self.oracle.sizes.update(dict.fromkeys(("SCSI:0:0", "SCSI:0:1"), GIB))
        self.oracle.offering.update(cpu_count=2, memory_bytes=4 * GIB)
        self._shelf: dict[str, tuple[int, dict[str, str]]] = {}
        """Disks that were detached, by path: size and content."""
        self._steps = 0

    def step(self, host: SimulatedHyperV) -> None:
        """Do one thing."""
        self._steps += 1
        acts = [self._write] * 3 + [self._take, self._apply, self._remove, self._remove]
        self._chance.choice([*acts, self._attach, self._detach, self._resize, self._configure])(host)

    def comes_to_rest(self, host: SimulatedHyperV, at: Path) -> None:
        """Check that the hypervisor has left nothing in a directory, once nothing merges."""
        vm = settled(host, DB)
        used = {d["chain"][0] for d in vm["disks"].values()}
        view = host.vm(DB)
        assert view is not None
        used |= {d.path for c in view.checkpoints for d in c.drives}
        parents = [found.parent_path for f in vm["files"] if (found := host.vhd(f)) is not None]
        assert [f for f in vm["files"] if f not in used and parents.count(f) < 2] == []
        there = {
            str(path) for path in host.storage_directory.rglob("*.avhdx") if DB in str(path) or "data" in path.name
        }
        let_go = {line["detail"]["path"] for line in truth(at) if line["effect"] == "drive_removed"}
        assert there - let_go == {f for f in vm["files"] if f.endswith(".avhdx")}

    def _write(self, host: SimulatedHyperV) -> None:
        if self.oracle.now:
            at, block = self._chance.choice(sorted(self.oracle.now)), str(self._chance.randrange(5))
            host.write_disk(DB, at, block, f"{self._steps}")
            self.oracle.now[at][block] = f"{self._steps}"

    def _take(self, host: SimulatedHyperV) -> None:
        if len(self.oracle.checkpoints) < 6:
            self.oracle.take(host.checkpoint_vm(Script(), DB, "c"))

    def _apply(self, host: SimulatedHyperV) -> None:
        if not self.oracle.checkpoints:
            return
        target = self._chance.choice(sorted(self.oracle.checkpoints))
        stay = {leaf: at for at, leaf in self._leaves(host).items() if leaf.endswith(".vhdx")}
        self._shelf |= {leaf: (self.oracle.sizes[at], dict(self.oracle.now[at])) for leaf, at in stay.items()}
        host.restore_snapshot(Script(), target)
        self.oracle.apply(target)

    def _remove(self, host: SimulatedHyperV) -> None:
        if self.oracle.checkpoints:
            target = self._chance.choice(sorted(self.oracle.checkpoints))
            host.remove_snapshot(Script(), target)
            self.oracle.remove(target)

    def _attach(self, host: SimulatedHyperV) -> None:
        free = sorted(set(_PLACES) - set(self.oracle.now))
        if not free:
            return
        at = self._chance.choice(free)
        if self._shelf and self._chance.random() < 0.7:
            path = self._chance.choice(sorted(self._shelf))
            size, blocks = self._shelf.pop(path)
        else:
            path, size, blocks = volume(host, f"data{self._steps}"), GIB, {}
        host.add_drive(Script(), DB, at, path)
        self.oracle.attach(at, size, blocks)

    def _detach(self, host: SimulatedHyperV) -> None:
        if not self.oracle.now:
            return
        at = self._chance.choice(sorted(self.oracle.now))
        leaf, size = self._leaves(host)[at], self.oracle.sizes[at]
        host.remove_drive(Script(), DB, at)
        blocks = self.oracle.detach(at)
        if leaf.endswith(".vhdx"):  # else what it stands on may go with a checkpoint
            self._shelf[leaf] = (size, blocks)

    def _resize(self, host: SimulatedHyperV) -> None:
        alone = [at for at, leaf in self._leaves(host).items() if leaf.endswith(".vhdx")]
        if alone:
            at, size = self._chance.choice(sorted(alone)), self._chance.randrange(8, 4096) * MIB
            host.resize_vhd(Script(), self._leaves(host)[at], size)
            self.oracle.sizes[at] = size

    def _configure(self, host: SimulatedHyperV) -> None:
        count, memory = self._chance.randrange(1, 9), self._chance.randrange(1, 9) * GIB
        host.set_processor(Script(), DB, count)
        host.set_memory(Script(), DB, startup_bytes=memory)
        self.oracle.offering.update(cpu_count=count, memory_bytes=memory)

    def _leaves(self, host: SimulatedHyperV) -> dict[str, str]:
        return {at: disk["chain"][0] for at, disk in of(host, DB)["disks"].items()}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.slow
def test_a_walk_with_drives_that_come_and_go_never_changes_what_anybody_sees(tmp_path: Path, seed: int) -> None:
    walk = Walk(seed)
    for _ in range(3):
        with host_at(tmp_path) as host:
            walk.oracle.compare(of(host, DB))
            for _ in range(60):
                walk.step(host)
                walk.oracle.compare(of(host, DB))
            walk.comes_to_rest(host, tmp_path)
            walk.oracle.compare(of(host, DB))


def test_a_restore_brings_the_drives_of_its_moment_back_and_leaves_the_others_files(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        early, late = volume(host, "early"), volume(host, "late")
        host.add_drive(Script(), WEB, "SCSI:0:1", early)
        host.write_disk(WEB, "SCSI:0:1", "1", "frozen")
        made = host.checkpoint_vm(Script(), WEB, "c")
        leaf = of(host, WEB)["disks"]["SCSI:0:1"]["chain"][0]
        host.write_disk(WEB, "SCSI:0:1", "1", "later")
        host.remove_drive(Script(), WEB, "SCSI:0:1")
        host.add_drive(Script(), WEB, "SCSI:0:2", late)
        host.write_disk(WEB, "SCSI:0:2", "1", "kept")
        host.restore_snapshot(Script(), made)
        assert list(of(host, WEB)["disks"]) == ["SCSI:0:0", "SCSI:0:1"]
        assert host.read_disk(WEB, "SCSI:0:1")["blocks"] == {"1": "frozen"}
        assert (Path(late).exists(), Path(leaf).exists()) == (True, True)
        host.add_drive(Script(), WEB, "SCSI:0:9", late)
        assert host.read_disk(WEB, "SCSI:0:9")["blocks"] == {"1": "kept"}


@pytest.mark.parametrize("reopened", [False, True])
def test_a_disk_that_only_a_checkpoint_has_goes_its_own_way_when_that_is_removed(
    tmp_path: Path, *, reopened: bool
) -> None:
    with host_at(tmp_path, merge=60_000) as host:
        first = host.checkpoint_vm(Script(), WEB, "first")
        path = volume(host)
        host.add_drive(Script(), WEB, "SCSI:0:1", path)
        host.write_disk(WEB, "SCSI:0:1", "1", "data")
        second = host.checkpoint_vm(Script(), WEB, "second")
        third = host.checkpoint_vm(Script(), WEB, "third")
        host.restore_snapshot(Script(), first)
        host.remove_snapshot(Script(), second)
        host.remove_snapshot(Script(), third)
        assert of(host, WEB)["merging"]
        if not reopened:
            host.durations(merge=0)
            _ends_with_its_own_disk(host, path)
    if reopened:
        with host_at(tmp_path) as host:
            _ends_with_its_own_disk(host, path)


def _ends_with_its_own_disk(host: SimulatedHyperV, path: str) -> None:
    no_file_is_left_over(settled(host, WEB), host)
    assert list(of(host, WEB)["disks"]) == ["SCSI:0:0"]
    assert [p.name for p in Path(path).parent.iterdir() if p.suffix == ".avhdx"] == []
    host.add_drive(Script(), WEB, "SCSI:0:1", path)
    assert host.read_disk(WEB, "SCSI:0:1")["blocks"] == {"1": "data"}


def test_a_restore_brings_processors_and_memory_back(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), DB, "c")
        before = of(host, DB)["offering"]
        host.set_processor(Script(), DB, 8)
        host.set_memory(Script(), DB, startup_bytes=2 * GIB, dynamic=True, minimum_bytes=GIB, maximum_bytes=8 * GIB)
    with host_at(tmp_path) as host:
        after = of(host, DB)["offering"]
        later = host.checkpoint_vm(Script(), DB, "later")
        host.restore_snapshot(Script(), made)
        assert of(host, DB)["offering"] == before
        host.restore_snapshot(Script(), later)
        assert of(host, DB)["offering"] == after


@pytest.mark.parametrize("what", ["files", "drives"])
def test_a_disk_whose_file_is_gone_does_not_keep_anybody_from_looking(tmp_path: Path, what: str) -> None:
    acts: dict[str, Callable[[SimulatedHyperV, str], object]] = {
        "files": lambda host, path: host.vhd(path),
        "drives": lambda host, _: host.vm(DB),
    }
    with host_at(tmp_path) as host:
        path = volume(host)
        child = f"{path}.child.vhdx"
        host.new_vhd(Script(), child, 0, parent=path)
        host.delete_file(path)
        acts[what](host, child)
        assert host.vhd(child) is not None
