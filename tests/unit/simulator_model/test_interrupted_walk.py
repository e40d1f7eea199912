"""A random walk in which merges and jobs take time, scripts die and the host restarts, against the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import ScriptKilled
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, Script, host_at, no_file_is_left_over, of, settled, truth, until
from tests.unit.simulator_model.oracle import Oracle

_PLACES = ("before", "started", "after")


class Walk:
    """One walk, over several openings of the host.

    Args:
        at: the host's directory.
        seed: makes it the same walk again.
    """

    def __init__(self, at: Path, seed: int) -> None:
        self._at = at
        self._chance = random.Random(seed)
        self._oracle = Oracle(["SCSI:0:0", "SCSI:0:1"])
        self._seen = 0

    def go(self, steps: int) -> None:
        """Open the host, take so many steps, check after each."""
        with host_at(self._at, merge=2, checkpoint=1, restore=1, remove=1) as host:
            self._oracle.compare(of(host, DB))
            for _ in range(steps):
                self._step(host)
                self._follow_the_truth()
                self._oracle.compare(of(host, DB))
            if self._chance.random() < 0.5:
                no_file_is_left_over(settled(host, DB), host)
                self._oracle.compare(of(host, DB))

    def end(self) -> None:
        """Open the host once more, and let everything come to rest."""
        with host_at(self._at) as host:
            no_file_is_left_over(settled(host, DB), host)
            self._oracle.compare(of(host, DB))

    def _step(self, host: SimulatedHyperV) -> None:
        there = sorted(self._oracle.checkpoints)
        cmdlet, call = self._chance.choice(self._calls(host, there))
        if cmdlet and self._chance.random() < 0.4:
            host.kill_script(f"{cmdlet}:{self._chance.choice(_PLACES)}")
        try:
            call()
        except ScriptKilled:
            if self._chance.random() < 0.3:
                host.restart_host()
            else:
                until(lambda: not of(host, DB)["job"])  # merges go on

    def _calls(self, host: SimulatedHyperV, there: list[str]) -> list[tuple[str, Callable[[], object]]]:
        location, block = self._chance.choice(["SCSI:0:0", "SCSI:0:1"]), str(self._chance.randrange(5))
        data = str(self._chance.random())
        calls: list[tuple[str, Callable[[], object]]] = [("", lambda: self._write(host, location, block, data))] * 3
        if len(there) < 12:
            calls += [("Checkpoint-VM", lambda: host.checkpoint_vm(Script(), DB, "c"))] * 3
        if there:
            target = self._chance.choice(there)
            calls.append(("Restore-VMSnapshot", lambda: host.restore_snapshot(Script(), target)))
            calls += [("Remove-VMSnapshot", lambda: host.remove_snapshot(Script(), target))] * 2
        return calls

    def _write(self, host: SimulatedHyperV, location: str, block: str, data: str) -> None:
        host.write_disk(DB, location, block, data)
        self._oracle.now[location][block] = data

    def _follow_the_truth(self) -> None:
        """Do to the oracle what the truth says has happened; what it says of contents the oracle checks."""
        lines = truth(self._at)
        for line in lines[self._seen :]:
            checkpoint = line["checkpoint"]
            match line["effect"]:
                case "checkpoint_made":
                    self._oracle.take(checkpoint)
                case "checkpoint_applied":
                    self._oracle.apply(checkpoint)
                case "checkpoint_removed":
                    self._oracle.remove(checkpoint)
                case _:
                    pass  # changes no tree
        self._seen = len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_walk_with_kills_restarts_and_slow_merges_never_changes_what_anybody_sees(tmp_path: Path, seed: int) -> None:
    walk = Walk(tmp_path, seed)
    for _ in range(5):
        walk.go(40)
    walk.end()
    effects = {line["effect"] for line in truth(tmp_path)}
    assert effects >= {"checkpoint_made", "checkpoint_applied", "checkpoint_removed", "disk_merged", "host_restarted"}
