"""Jobs: they outlive the script that asked, keep the VM to themselves, and end with the host."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.domain.state import replace
from snapshotd.simulator.hypervisor import HyperVError, ScriptKilled
from snapshotd.simulator.journal import JournalEntry, Phase, read_journal, write_journal
from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, begun, decisive, host_at, of, settled, truth, until

Call = Callable[[SimulatedHyperV, Script], object]


def checkpoint(host: SimulatedHyperV) -> str:
    """Return the id of the VM's first checkpoint."""
    return str(of(host, WEB)["checkpoints"][0]["id"])


_RESUMED = "restore_resumed"
CALLS: dict[str, tuple[Call, str, str]] = {
    "Set-VM": (lambda host, s: host.set_checkpoint_type(s, WEB, "ProductionOnly"), "checkpoint_type_set", ""),
    "Checkpoint-VM": (lambda host, s: host.checkpoint_vm(s, WEB, "new"), "checkpoint_made", "checkpoint_renamed"),
    "Rename-VMSnapshot": (lambda host, s: host.rename_snapshot(s, checkpoint(host), "new"), "checkpoint_renamed", ""),
    "Remove-VMSnapshot": (lambda host, s: host.remove_snapshot(s, checkpoint(host)), "checkpoint_removed", ""),
    "Restore-VMSnapshot": (
        lambda host, s: host.restore_snapshot(s, checkpoint(host)),
        "restore_saved",
        "restore_resumed",
    ),
    "Restart-VM": (lambda host, s: host.restart_vm(s, WEB), "power_changed", ""),
    "Stop-VM": (lambda host, s: host.stop_vm(s, WEB, turn_off=True), "power_changed", ""),
    "Save-VM": (lambda host, s: host.save_vm(s, WEB), "power_changed", ""),
    "Suspend-VM": (lambda host, s: host.suspend_vm(s, WEB), "power_changed", ""),
}
"""By cmdlet: a call on a VM that runs, the effect of its first job, and what a living script gets to in the end."""


@pytest.mark.parametrize("duration_ms", [0, 15])
@pytest.mark.parametrize("place", ["before", "started", "after"])
@pytest.mark.parametrize("cmdlet", list(CALLS))
def test_a_script_killed_in_a_cmdlet_leaves_what_the_hypervisor_had_begun(
    tmp_path: Path, cmdlet: str, place: str, duration_ms: int
) -> None:
    call, first, last = CALLS[cmdlet]
    with host_at(tmp_path) as host:
        host.set_checkpoint_type(Script(), WEB, "Standard")
        host.checkpoint_vm(Script(), WEB, "old")
        host.checkpoint_vm(Script(), WEB, "older")
        host.durations(checkpoint=duration_ms, restore=duration_ms, remove=duration_ms, save=duration_ms)
        host.durations(turn_off=duration_ms, pause=duration_ms, start=duration_ms)
        before = len(truth(tmp_path))
        host.kill_script(f"{cmdlet}:{place}")
        script = Script()
        with pytest.raises(ScriptKilled):
            call(host, script)
        assert script.killed
        settled(host, WEB)
        effects = [line["effect"] for line in truth(tmp_path)[before:] if line["by"] == "script"]
        if place == "before":
            assert effects == []
        elif place == "started":
            assert effects == [first]
        else:
            assert (effects[0], effects[-1]) == (first, last or first)
        call(host, Script())  # the plan is used up


class DiesAt(Script):
    """A script that dies in the moment of an effect on its VM, while it still waits for that.

    Args:
        moment: tells whether it has come.
    """

    def __init__(self, moment: Callable[[], bool]) -> None:
        self._moment = moment

    @property
    def killed(self) -> bool:
        """Whether that moment has come."""
        return self._moment()

    @killed.setter
    def killed(self, value: bool) -> None:
        raise AssertionError("nobody else kills it")


@pytest.mark.parametrize("duration_ms", [0, 15])
def test_a_script_that_dies_while_its_vm_is_saved_never_applies(tmp_path: Path, duration_ms: int) -> None:
    with host_at(tmp_path, save=duration_ms) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        with pytest.raises(ScriptKilled):
            host.restore_snapshot(DiesAt(lambda: of(host, WEB)["state"] == "Saved"), made)
        assert settled(host, WEB)["state"] == "Saved"
    assert decisive(tmp_path) == ["checkpoint_made"]


@pytest.mark.parametrize("duration_ms", [0, 15])
def test_a_script_that_dies_while_its_checkpoint_is_made_never_names_it(tmp_path: Path, duration_ms: int) -> None:
    with host_at(tmp_path, checkpoint=duration_ms) as host:
        with pytest.raises(ScriptKilled):
            host.checkpoint_vm(DiesAt(lambda: of(host, WEB)["checkpoints"] != []), WEB, "c")
        (snapshot,) = settled(host, WEB)["checkpoints"]
        assert snapshot["name"].startswith("web01 - (")
    assert [line["effect"] for line in truth(tmp_path)] == ["checkpoint_made"]


def test_a_vm_that_somebody_starts_between_the_calls_of_a_restore_is_not_applied_to(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")

        def somebody_starts_it() -> bool:
            if of(host, WEB)["state"] == "Saved":
                host.start_vm(Script(), WEB)
            return False

        with pytest.raises(HyperVError, match="in its current state"):
            host.restore_snapshot(DiesAt(somebody_starts_it), made)
        assert of(host, WEB)["state"] == "Running"
    assert decisive(tmp_path) == ["checkpoint_made", "power_changed"]


@pytest.mark.parametrize("duration_ms", [0, 60_000])
def test_what_is_asked_of_a_closed_host_fails(tmp_path: Path, duration_ms: int) -> None:
    with host_at(tmp_path, pause=duration_ms) as host:
        pass
    with pytest.raises(HyperVError, match="restarted"):
        host.suspend_vm(Script(), WEB)
    assert truth(tmp_path) == []


def test_nothing_else_works_on_a_vm_while_a_job_does(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "old")
        host.durations(checkpoint=60_000)
        begun(host, "Checkpoint-VM", lambda: host.checkpoint_vm(Script(), WEB, "new"))
        view = host.vm(WEB)
        assert view is not None
        assert view.secondary_status == ("CreatingSnapshot",)
        by_hand: Call = lambda host, _: host.admin("remove", WEB, checkpoint=made)  # noqa: E731  (one more of the calls)
        for call in (*(call for call, _, _ in CALLS.values()), by_hand):
            with pytest.raises((HyperVError, ValueError), match="in its current state"):
                call(host, Script())
        assert host.start_vm(Script(), DB)  # other VMs are not concerned
        host.write_disk(WEB, "SCSI:0:0", "1", "the guest goes on")


@pytest.mark.parametrize("cmdlet", ["Checkpoint-VM", "Remove-VMSnapshot", "Restore-VMSnapshot"])
@pytest.mark.parametrize("end", ["restart", "close"])
def test_a_job_that_had_not_ended_with_the_host_has_not_happened(tmp_path: Path, cmdlet: str, end: str) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "old")
        before = of(host, WEB)
        host.durations(checkpoint=60_000, remove=60_000, restore=60_000, save=60_000)
        begun(host, cmdlet, lambda: CALLS[cmdlet][0](host, Script()))
        if end == "restart":
            host.restart_host()
            assert of(host, WEB)["job"] == ""
    with host_at(tmp_path) as again:
        after = of(again, WEB)
        for key in ("checkpoints", "current", "disks", "files"):
            assert after[key] == before[key]
        again.remove_snapshot(Script(), made)


def test_a_job_under_way_ends_sooner_when_told(tmp_path: Path) -> None:
    with host_at(tmp_path, checkpoint=600_000) as host:
        begun(host, "Checkpoint-VM", lambda: host.checkpoint_vm(Script(), WEB, "c"))
        host.durations(checkpoint=0)
        settled(host, WEB)
        assert decisive(tmp_path) == ["checkpoint_made"]


def test_a_caller_that_waits_is_told_when_the_host_restarts(tmp_path: Path) -> None:
    told: list[HyperVError] = []
    with host_at(tmp_path, checkpoint=60_000) as host:

        def take() -> None:
            with pytest.raises(HyperVError) as failed:
                host.checkpoint_vm(Script(), WEB, "c")
            told.append(failed.value)

        thread = threading.Thread(target=take)
        thread.start()
        until(lambda: bool(of(host, WEB)["job"]))
        host.restart_host()
        thread.join(5)
    assert [error.error_id for error in told] == ["OperationFailed"]


def test_a_job_that_cannot_write_fails_and_leaves_the_vm_free(tmp_path: Path) -> None:
    machines = tmp_path / "state" / "machines"
    with host_at(tmp_path) as host:
        machines.rename(tmp_path / "aside")
        with pytest.raises(HyperVError, match="could not write"):
            host.suspend_vm(Script(), WEB)
        (tmp_path / "aside").rename(machines)
        assert of(host, WEB)["job"] == ""
        assert host.stop_vm(Script(), WEB, turn_off=True)


def test_a_job_of_a_dead_script_bears_the_step_that_began_it(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        journal(host, 3, "BEGUN")
        host.durations(checkpoint=30)
        begun(host, "Checkpoint-VM", lambda: host.checkpoint_vm(Script(), WEB, "c"))
        journal(host, 4, "BEGUN")
        settled(host, WEB)
        host.stop_vm(Script(), WEB, turn_off=True)
        journal(host, 4, "DONE")
        host.start_vm(Script(), WEB)
        host.admin("turn_off", WEB)
        lines = [line for line in truth(tmp_path) if line["decisive"]]
    assert [(line["effect"], line["by"], line["operation"], line["step"]) for line in lines] == [
        ("checkpoint_made", "script", "operations/web.1", 3),
        ("power_changed", "script", "operations/web.1", 4),
        ("power_changed", "script", "", 0),
        ("power_changed", "administrator", "", 0),
    ]


def journal(host: SimulatedHyperV, step: int, phase: Phase) -> None:
    """Have the VM's journal say something."""
    known = read_journal(host.journal_directory, WEB)
    entry = JournalEntry(vm=WEB, id="j", token=step, operation="operations/web.1", step=step, phase=phase)
    write_journal(host.journal_directory, replace(entry, seq=known.seq if known else 0), durable=False)
