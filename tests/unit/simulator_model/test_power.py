"""The power's state machine, its transitional states, and what the guest's abilities do to it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import ACTS, WEB, Script, begun, bring, decisive, host_at, of, truth, until

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


def shown(host: SimulatedHyperV) -> str:
    """Return the VM's state as Get-VM shows it."""
    view = host.vm(WEB)
    assert view is not None
    return view.state


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
            ACTS["turn off" if between in ("Saving", "Pausing") else "start"](host)
        assert busy.value.error_id == "InvalidState"
        host.restart_host()
        assert of(host, WEB)["state"] == "Off"


@pytest.mark.parametrize("hangs", [True, False])
def test_a_turn_off_goes_past_a_shutdown_and_whoever_waits_for_that_is_answered(tmp_path: Path, *, hangs: bool) -> None:
    with ThreadPoolExecutor() as threads, host_at(tmp_path, shutdown=600_000) as host:
        host.set_guest(WEB, shuts_down=not hangs)
        waiting = threads.submit(ACTS["shut down"], host)
        until(lambda: shown(host) == "Stopping")
        for act in ("shut down", "start", "save"):
            with pytest.raises(HyperVError):
                ACTS[act](host)
        assert not waiting.done()
        host.durations(turn_off=1)
        assert ACTS["turn off"](host) is True
        assert waiting.result(10) is True
        assert shown(host) == "Off"
    assert decisive(tmp_path) == ["power_changed"]


def test_a_second_turn_off_does_not_go_past_the_first(tmp_path: Path) -> None:
    with host_at(tmp_path, shutdown=600_000, turn_off=600_000) as host:
        begun(host, "Stop-VM", lambda: ACTS["shut down"](host))
        begun(host, "Stop-VM", lambda: ACTS["turn off"](host))
        assert shown(host) == "Stopping"
        with pytest.raises(HyperVError) as busy:
            ACTS["turn off"](host)
        assert busy.value.error_id == "InvalidState"


def test_a_guest_that_hangs_in_its_shutdown_stays_in_stopping_until_it_comes_to_its_end(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_guest(WEB, shuts_down=False)
    with host_at(tmp_path) as host:
        host.admin("shut_down", "web01")
        assert shown(host) == "Stopping"
        assert of(host, WEB)["state"] == "Running"
        host.set_guest(WEB, shuts_down=True)
        until(lambda: shown(host) == "Off")
        with pytest.raises(ValueError, match="InvalidState"):
            host.admin("shut_down", "web01")
    assert decisive(tmp_path, by="administrator") == ["power_changed"]


def test_a_forced_shutdown_does_not_hang(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_guest(WEB, shuts_down=False)
        assert host.stop_vm(Script(), WEB, turn_off=False, force=True)
        assert shown(host) == "Off"


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


@pytest.mark.parametrize("state", ["Running", "Paused"])
def test_a_restart_boots_the_guest_anew_without_a_shutdown(tmp_path: Path, state: str) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        memory, lines = of(host, WEB)["memory"], len(truth(tmp_path))
        assert host.restart_vm(Script(), WEB) is True
        assert of(host, WEB)["state"] == "Running"
        assert of(host, WEB)["memory"] not in {"", memory}
        (line,) = truth(tmp_path)[lines:]
        assert (line["effect"], line["power"], line["detail"]) == (
            "power_changed",
            "Running",
            {"was": state, "reset": True},
        )


@pytest.mark.parametrize("state", ["Off", "Saved"])
def test_what_does_not_run_is_not_restarted(tmp_path: Path, state: str) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        with pytest.raises(HyperVError) as refused:
            host.restart_vm(Script(), WEB)
        assert refused.value.fully_qualified == "InvalidState,Microsoft.HyperV.PowerShell.Commands.RestartVM"
        assert of(host, WEB)["state"] == state


def test_a_vm_that_is_being_restarted_shows_it_and_is_busy(tmp_path: Path) -> None:
    with host_at(tmp_path, start=60_000) as host:
        begun(host, "Restart-VM", lambda: host.restart_vm(Script(), WEB))
        view = host.vm(WEB)
        assert view is not None
        assert view.state == "Reset"
        with pytest.raises(HyperVError):
            host.stop_vm(Script(), WEB, turn_off=True)


def uptime_s(host: SimulatedHyperV) -> float:
    view = host.vm(WEB)
    assert view is not None
    return view.uptime_s


def test_uptime_counts_from_the_start_also_through_a_pause_and_begins_anew_after_a_reset(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        first = uptime_s(host)
        until(lambda: uptime_s(host) > first + 0.02)
        host.suspend_vm(Script(), WEB)
        host.resume_vm(Script(), WEB)
        before = uptime_s(host)
        assert before > first + 0.02
        began = time.monotonic()
        host.restart_vm(Script(), WEB)
        assert uptime_s(host) <= time.monotonic() - began
        running = uptime_s(host)
    with host_at(tmp_path) as host:
        assert uptime_s(host) > running


@pytest.mark.parametrize("way", ["save", "turn off"])
def test_a_vm_that_does_not_run_has_no_uptime_and_gets_a_new_one(tmp_path: Path, way: str) -> None:
    with host_at(tmp_path) as host:
        until(lambda: uptime_s(host) > 0)
        ACTS[way](host)
        assert uptime_s(host) == 0
        ACTS["start"](host)
        until(lambda: uptime_s(host) > 0)


def test_an_uptime_is_not_negative_when_the_hosts_clock_was_set_back(tmp_path: Path) -> None:
    with host_at(tmp_path):
        pass
    file = tmp_path / "state" / "machines" / f"{WEB}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "running_since": "2999-01-01T00:00:00Z"}))
    with host_at(tmp_path) as host:
        assert uptime_s(host) == 0
