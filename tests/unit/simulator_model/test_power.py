"""The power's state machine, its transitional states, and what the guest's abilities do to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError
from tests.unit.simulator_model.hosts import ACTS, WEB, Script, begun, bring, decisive, host_at, of, truth

ENDS: dict[tuple[str, str], str] = {
    ("Off", "start"): "Running",
    ("Saved", "start"): "Running",
    ("Paused", "start"): "Running",
    ("Paused", "resume"): "Running",
    ("Running", "shut down"): "Off",
    ("Running", "turn off"): "Off",
    ("Paused", "turn off"): "Off",
    ("Saved", "turn off"): "Off",
    ("Running", "save"): "Saved",
    ("Paused", "save"): "Saved",
    ("Running", "suspend"): "Paused",
}
"""docs/hyperv.md, section 1: the arrows."""
GOALS = {act: end for (_, act), end in ENDS.items()}


@pytest.mark.parametrize("state", ["Running", "Off", "Saved", "Paused"])
@pytest.mark.parametrize("act", list(ACTS))
def test_power_moves_along_the_arrows_and_nowhere_else(tmp_path: Path, state: str, act: str) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        before = len(truth(tmp_path))
        if (state, act) in ENDS:
            assert ACTS[act](host) is True
            assert of(host, WEB)["state"] == ENDS[state, act]
            (line,) = truth(tmp_path)[before:]
            assert (line["effect"], line["decisive"], line["power"]) == ("power_changed", True, ENDS[state, act])
            return
        if state == GOALS[act]:
            assert ACTS[act](host) is False
        else:
            with pytest.raises(HyperVError, match="cannot be performed while the object is in its current state") as no:
                ACTS[act](host)
            assert no.value.fully_qualified.startswith("InvalidState,Microsoft.HyperV.PowerShell.Commands.")
        assert of(host, WEB)["state"] == state
        assert len(truth(tmp_path)) == before


@pytest.mark.parametrize(
    ("state", "act", "cmdlet", "between"),
    [
        ("Off", "start", "Start-VM", "Starting"),
        ("Paused", "resume", "Resume-VM", "Resuming"),
        ("Running", "shut down", "Stop-VM", "Stopping"),
        ("Running", "save", "Save-VM", "Saving"),
        ("Running", "suspend", "Suspend-VM", "Pausing"),
    ],
)
def test_a_change_of_power_that_takes_time_shows_its_transitional_state(
    tmp_path: Path, state: str, act: str, cmdlet: str, between: str
) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        host.durations(start=60_000, shutdown=60_000, save=60_000, pause=60_000)
        begun(host, cmdlet, lambda: ACTS[act](host))
        view = host.vm(WEB)
        assert view is not None
        assert view.state == between
        with pytest.raises(HyperVError) as busy:
            ACTS["turn off" if state == "Running" else "start"](host)
        assert busy.value.error_id == "InvalidState"
        host.restart_host()
        assert of(host, WEB)["state"] == "Off"


def test_a_guest_without_its_shutdown_service_stays_running_unless_forced(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_guest(WEB, shutdown_service=False)
        with pytest.raises(HyperVError):
            host.stop_vm(Script(), WEB, turn_off=False)
        assert of(host, WEB)["state"] == "Running"
        assert host.stop_vm(Script(), WEB, turn_off=False, force=True)
        assert of(host, WEB)["state"] == "Off"


def test_a_guest_that_does_not_boot_stays_off_and_still_resumes_from_its_memory(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_checkpoint_type(Script(), WEB, "Standard")
        healthy = host.checkpoint_vm(Script(), WEB, "healthy")
        host.stop_vm(Script(), WEB, turn_off=True)
        host.set_guest(WEB, boots=False)
        with pytest.raises(HyperVError) as failed:
            host.start_vm(Script(), WEB)
        assert failed.value.error_id == "OperationFailed"
        assert of(host, WEB)["state"] == "Off"
        host.restore_snapshot(Script(), healthy)
        assert host.start_vm(Script(), WEB)
        assert of(host, WEB)["state"] == "Running"


def test_a_restart_of_the_host_leaves_only_saved_vms_as_they_were(tmp_path: Path) -> None:
    for state, after in {"Running": "Off", "Paused": "Off", "Saved": "Saved", "Off": "Off"}.items():
        at = tmp_path / state
        at.mkdir()
        with host_at(at) as host:
            bring(host, state)
            host.restart_host()
            assert of(host, WEB)["state"] == after
            assert bool(of(host, WEB)["memory"]) == (after == "Saved")
        assert {line["effect"] for line in truth(at)[-2:]} == {"host_restarted"}
        assert decisive(at, by="hypervisor") == []
