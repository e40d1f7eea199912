"""The conditions that a test puts a host in, what Get-VM shows of them, and what cmdlets make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.hypervisor import HyperVError, VmView
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, begun, bring, host_at, of, settled, truth


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


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (lambda host: host.hide("web01"), ValueError, "vms must be a list"),
        (lambda host: host.hide(["web01", "nobody"]), LookupError, "no VMs are named 'nobody'"),
        (lambda host: host.hide([7]), LookupError, "no VMs are named 7"),
        (lambda host: host.hide(hidden="yes"), ValueError, "hidden must be true or false: 'yes'"),
        (lambda host: host.critical("web01", 1), ValueError, "critical must be true or false: 1"),
        (lambda host: host.critical("nobody"), LookupError, "no VMs are named 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    tmp_path: Path, act: Callable[[SimulatedHyperV], Any], error: type[Exception], told: str
) -> None:
    with host_at(tmp_path) as host:
        before = host.state()
        with pytest.raises(error, match=told):
            act(host)
        assert host.state() == before
    assert truth(tmp_path) == []
