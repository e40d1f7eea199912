"""Checkpoints that come with a start and go with the stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import WEB, Script, host_at, no_file_is_left_over, of, settled, truth

INVENTORY: dict[str, Any] = {
    "vms": [
        {
            "id": WEB,
            "name": "web01",
            "state": "Off",
            "automatic_checkpoints": True,
            "disks": [{"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}],
        }
    ]
}
STOPS: dict[str, Callable[[SimulatedHyperV], object]] = {
    "shut down": lambda host: host.stop_vm(Script(), WEB, turn_off=False),
    "turn off": lambda host: host.stop_vm(Script(), WEB, turn_off=True),
}


@pytest.mark.parametrize("stop", list(STOPS))
def test_each_start_takes_one_and_each_stop_removes_it_with_a_merge(tmp_path: Path, stop: str) -> None:
    with host_at(tmp_path, INVENTORY) as host:
        base = of(host, WEB)["disks"]["SCSI:0:0"]["chain"]
        for n in ("1", "2"):
            host.start_vm(Script(), WEB)
            (view,) = host.vms()
            (made,) = view.checkpoints
            assert (made.automatic, made.has_memory, view.parent_snapshot_id) == (True, False, made.checkpoint_id)
            assert made.name.startswith("Automatic Checkpoint - web01 - (")
            host.write_disk(WEB, "SCSI:0:0", n, "while it ran")
            STOPS[stop](host)
            vm = settled(host, WEB)
            assert vm["checkpoints"] == []
            assert vm["disks"]["SCSI:0:0"]["chain"] == base
            no_file_is_left_over(vm, host)
        assert set(host.read_disk(WEB, "SCSI:0:0")["blocks"]) == {"1", "2"}
    happened = [(e["effect"], e["by"]) for e in truth(tmp_path) if e["effect"] != "disk_written"]
    assert happened[:5] == [
        ("checkpoint_made", "hypervisor"),
        ("power_changed", "script"),
        ("power_changed", "script"),
        ("checkpoint_removed", "hypervisor"),
        ("disk_merged", "hypervisor"),
    ]


def test_one_that_a_crash_of_the_host_has_left_is_replaced_at_the_next_start(tmp_path: Path) -> None:
    with host_at(tmp_path, INVENTORY) as host:
        host.start_vm(Script(), WEB)
        (left,) = of(host, WEB)["checkpoints"]
        host.restart_host()
        assert of(host, WEB)["checkpoints"] == [left]
    with host_at(tmp_path) as host:
        host.start_vm(Script(), WEB)
        (new,) = settled(host, WEB)["checkpoints"]
        assert new["id"] != left["id"]


def test_a_vm_that_is_resumed_takes_none_and_its_own_checkpoints_stay(tmp_path: Path) -> None:
    with host_at(tmp_path, INVENTORY) as host:
        host.start_vm(Script(), WEB)
        ours = host.checkpoint_vm(Script(), WEB, "ours")
        host.save_vm(Script(), WEB)
        host.start_vm(Script(), WEB)
        assert len(of(host, WEB)["checkpoints"]) == 2
        host.stop_vm(Script(), WEB, turn_off=True)
        vm = settled(host, WEB)
        assert [(c["id"], c["parent"]) for c in vm["checkpoints"]] == [(ours, "")]


def test_they_are_switched_on_and_off_by_hand(tmp_path: Path) -> None:
    with host_at(tmp_path, INVENTORY) as host:
        host.admin("set_automatic_checkpoints", "web01", value=False)
    with host_at(tmp_path) as host:
        host.start_vm(Script(), WEB)
        assert of(host, WEB)["checkpoints"] == []
        host.admin("set_automatic_checkpoints", "web01", value=True)
        with pytest.raises(ValueError, match="value must be true or false: 'on'"):
            host.admin("set_automatic_checkpoints", "web01", value="on")
        assert host.vms()[0].automatic_checkpoints
        host.stop_vm(Script(), WEB, turn_off=True)
        host.admin("start", "web01")
        assert len(of(host, WEB)["checkpoints"]) == 1


@pytest.mark.parametrize(
    "without",
    [
        lambda host: host.admin("set_checkpoint_type", "web01", type="Disabled"),
        lambda host: host.critical("web01"),
    ],
)
def test_a_vm_that_cannot_be_checkpointed_starts_without(
    tmp_path: Path, without: Callable[[SimulatedHyperV], object]
) -> None:
    with host_at(tmp_path, INVENTORY) as host:
        without(host)
        assert host.start_vm(Script(), WEB)
        assert of(host, WEB)["checkpoints"] == []
