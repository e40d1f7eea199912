"""Set-VM: what it sets is kept, and what a VM's state does not allow is refused whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError, VmView
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, truth


def view(host: SimulatedHyperV, vm_id: str) -> VmView:
    found = host.vm(vm_id)
    assert found is not None
    return found


def test_what_is_set_is_kept_over_a_restart_and_written_down(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_vm(Script(), DB, name="db09", cpu_count=8, memory_bytes=1 << 31, settings={"Notes": "a"})
        host.set_vm(Script(), DB, settings={"AutomaticStartDelay": 30})
    with host_at(tmp_path) as host:
        vm = view(host, DB)
        assert (vm.name, vm.cpu_count, vm.memory_bytes) == ("db09", 8, 1 << 31)
        assert vm.settings == {"Notes": "a", "AutomaticStartDelay": 30}
    effects = [(line["effect"], line["decisive"], line["detail"]) for line in truth(tmp_path)]
    assert effects == [
        (
            "vm_set",
            False,
            {"changes": {"name": "db09", "cpu_count": 8, "memory_bytes": 1 << 31, "settings": {"Notes": "a"}}},
        ),
        ("vm_set", False, {"changes": {"settings": {"AutomaticStartDelay": 30}}}),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_count": 8, "name": "other"},
        {"memory_bytes": 1 << 31},
        {"dynamic_memory": True, "settings": {"Notes": "a"}},
        {"minimum_bytes": 1},
    ],
)
def test_what_needs_a_vm_that_is_off_is_refused_of_one_that_runs_and_nothing_else_is_set(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    with host_at(tmp_path) as host:
        before = view(host, WEB)
        with pytest.raises(HyperVError) as refused:
            host.set_vm(Script(), WEB, **changes)
        assert refused.value.fully_qualified == "InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVM"
        after = view(host, WEB)
        assert (after.name, after.cpu_count, after.settings) == (before.name, before.cpu_count, before.settings)
        assert truth(tmp_path) == []


def test_a_vm_that_runs_takes_everything_else(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_vm(Script(), WEB, name="web09", settings={"Notes": "a", "AutomaticStopAction": "Save"})
        assert view(host, WEB).name == "web09"


@pytest.mark.parametrize("changes", [{"cpu_count": 0}, {"memory_bytes": -1}])
def test_a_number_that_makes_no_sense_is_an_invalid_parameter(tmp_path: Path, changes: dict[str, object]) -> None:
    with host_at(tmp_path) as host, pytest.raises(HyperVError) as refused:
        host.set_vm(Script(), DB, **changes)
    assert refused.value.error_id == "InvalidParameter"


def test_the_place_of_checkpoints_changes_only_while_there_are_none(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_vm(Script(), DB, settings={"SnapshotFileLocation": "/one"})
        host.checkpoint_vm(Script(), DB, "a")
        with pytest.raises(HyperVError) as refused:
            host.set_vm(Script(), DB, settings={"SnapshotFileLocation": "/two"})
        assert refused.value.error_id == "OperationFailed"
        assert view(host, DB).settings["SnapshotFileLocation"] == "/one"
