"""What a report shows of the conditions that a test puts a host in, on both engines alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from snapshotd.api.v1.executor_pb2 import STOPPED, CheckpointReport, HostAnswer, JournalReport, VmReport
from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.needs import Engine
from tests.host_script.conversation import Conversation
from tests.host_script.engines import BOTH, engine_on
from tests.host_script.host_commands import effect, entry, known_journal, look, observe
from tests.unit.simulator_model.hosts import bring, host_at, settled

WEB, DB = str(uuid.uuid4()), str(uuid.uuid4())
"""Ids of their own: the mutexes of PowerShell processes are the machine's."""
INVENTORY: dict[str, Any] = {
    "host": {"name": "hv07"},
    "vms": [
        {"id": WEB, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0"}]},
        {"id": DB, "name": "db01", "state": "Off", "disks": [{"location": "SCSI:0:0"}]},
    ],
}
GOLDEN: dict[str, Any] = {
    "images": [{"name": "golden"}, {"name": "patched", "parent": "golden"}],
    "vms": [
        {"id": vm, "name": name, "disks": [{"location": "SCSI:0:0", "image": "patched"}]}
        for vm, name in ((WEB, "web01"), (DB, "db01"))
    ],
}


@pytest.fixture
def inventory() -> dict[str, Any]:
    return INVENTORY


@pytest.fixture
def hyperv(tmp_path: Path, inventory: dict[str, Any]) -> Iterator[SimulatedHyperV]:
    with host_at(tmp_path, inventory) as host:
        yield host


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, hyperv: SimulatedHyperV, tmp_path: Path) -> Iterator[Engine]:
    yield from engine_on(request.param, hyperv, tmp_path)


def reports(script: Conversation, vm: str = "") -> dict[str, VmReport]:
    """Ask for the report of one VM, or of all; return them by id."""
    answer = script.ask(look(vm=vm))
    assert answer.verdict == HostAnswer.REPORTED, answer
    return {report.vm_id.lower(): report for report in answer.vms}


def chain(report: VmReport, of: CheckpointReport | None = None) -> list[str]:
    """Return the files of a VM's first disk, or of a checkpoint's, the first first."""
    parents = {f.path: f.parent_path for f in report.files}
    files = [(of or report).disks[0].path]
    while parent := parents[files[-1]]:
        files.append(parent)
    return files


def test_a_host_that_shows_no_vm_at_all_is_no_evidence_that_they_are_gone(
    hyperv: SimulatedHyperV, script: Conversation
) -> None:
    hyperv.hide(["web01"])
    assert list(reports(script)) == [DB]
    assert reports(script, WEB)[WEB].present is False
    hyperv.hide()
    for command in (look(vm=""), look(vm=WEB), observe(3, vm=WEB)):
        answer = script.ask(command)
        assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "RightsMissing,snapshotd")
    hyperv.hide(hidden=False)
    assert set(reports(script)) == {WEB, DB}


def test_an_effect_without_the_rights_is_not_begun_and_never_will_be(
    hyperv: SimulatedHyperV, script: Conversation
) -> None:
    command = effect("vm_start", hyperv, known_journal(script, vm=DB), 2, vm=DB)
    hyperv.hide()
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.NOT_BEGUN, "RightsMissing,snapshotd")
    assert "Hyper-V Administrators" in answer.error.message
    assert "Add-LocalGroupMember -SID S-1-5-32-578" in answer.error.message
    assert not answer.vms
    assert (entry(hyperv, DB).token, entry(hyperv, DB).phase) == (2, "")
    hyperv.hide(hidden=False)
    assert script.ask(command).verdict == HostAnswer.STALE, "the same command, come twice"
    assert reports(script, DB)[DB].power == STOPPED
    command.token = 3
    assert script.ask(command).verdict == HostAnswer.DONE
    hyperv.hide()
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "RightsMissing,snapshotd"), "it is done already"


def test_an_effect_without_the_rights_counts_as_not_begun_only_if_its_journal_is_the_one_named(
    hyperv: SimulatedHyperV, script: Conversation
) -> None:
    command = effect("vm_start", hyperv, "another", 2, vm=DB)
    hyperv.hide()
    for journal in ("missing", "another"):
        answer = script.ask(command)
        assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "RightsMissing,snapshotd"), journal
        hyperv.hide(hidden=False)
        known_journal(script, vm=DB)
        hyperv.hide()
    assert entry(hyperv, DB).token == 1


def test_rights_that_are_lost_while_an_effect_is_at_work_leave_its_outcome_open(
    hyperv: SimulatedHyperV, script: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = effect("vm_start", hyperv, known_journal(script, vm=DB), 2, vm=DB)

    def start(*_: object) -> None:
        hyperv.hide()
        raise HyperVError("AccessDenied", "Start-VM", "You do not have the required permission.")

    monkeypatch.setattr(hyperv, "start_vm", start)
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "RightsMissing,snapshotd")
    assert (entry(hyperv, DB).token, entry(hyperv, DB).phase) == (2, "BEGUN")


def test_a_report_of_all_comes_in_parts_that_end_with_the_last_vm(script: Conversation) -> None:
    first, last = sorted([WEB, DB])
    part = look(vm="")
    part.largest_part = 10
    told = script.ask(part)
    assert ([vm.vm_id for vm in told.vms], told.more) == ([first], True)
    part.after_vm_id = first.upper()
    told = script.ask(part)
    assert ([vm.vm_id for vm in told.vms], told.more) == ([last], False)
    part.after_vm_id = last
    assert not script.ask(part).vms
    assert [vm.vm_id for vm in script.ask(look(vm="")).vms] == [first, last]


@pytest.mark.parametrize("state", ["Running", "Off", "Saved", "Paused"])
def test_a_critical_state_is_told_in_hyper_vs_word(hyperv: SimulatedHyperV, script: Conversation, state: str) -> None:
    bring(hyperv, state, WEB)
    hyperv.critical("web01")
    assert reports(script, WEB)[WEB].host_state == f"{state}Critical"


def test_the_type_of_a_checkpoint_is_told_in_hyper_vs_word(hyperv: SimulatedHyperV, script: Conversation) -> None:
    made = [hyperv.admin("checkpoint", "web01", type=kind)["checkpoint"] for kind in ("Recovery", "Standard")]
    hyperv.set_checkpoint("web01", made[1], type="Missing")
    told = reports(script, WEB)[WEB].checkpoints
    assert [(c.checkpoint_id, c.checkpoint_type) for c in told] == [(made[0], "Recovery"), (made[1], "Missing")]


def test_a_chain_ends_at_a_checkpoints_file_that_is_gone(hyperv: SimulatedHyperV, script: Conversation) -> None:
    hyperv.admin("checkpoint", "db01")
    second = hyperv.admin("checkpoint", "db01")["checkpoint"]
    leaf, middle, base = chain(reports(script, DB)[DB])
    hyperv.set_checkpoint("db01", second, files=False)
    report = reports(script, DB)[DB]
    assert chain(report) == [leaf, middle]
    assert [chain(report, c) for c in report.checkpoints] == [[base], [middle]]
    assert [f.path for f in report.files if f.missing] == [middle]


def test_a_stray_stands_in_the_chains_that_are_told(hyperv: SimulatedHyperV, script: Conversation) -> None:
    made = hyperv.admin("checkpoint", "db01")["checkpoint"]
    stray = hyperv.stray_file("db01", "SCSI:0:0", made)["file"]
    report = reports(script, DB)[DB]
    leaf, frozen, *rest = chain(report)
    assert rest[0] == stray
    assert chain(report, report.checkpoints[0]) == [frozen, *rest]
    hyperv.admin("remove", "db01", checkpoint=made)
    settled(hyperv, DB)
    assert chain(reports(script, DB)[DB]) == [frozen, *rest]
    assert leaf not in rest


def test_a_vm_that_stays_in_stopping_is_told_so_until_it_is_turned_off(
    hyperv: SimulatedHyperV, script: Conversation
) -> None:
    hyperv.set_guest("web01", shuts_down=False)
    hyperv.admin("shut_down", "web01")
    stopping = reports(script, WEB)[WEB]
    assert (stopping.host_state, list(stopping.activities)) == ("Stopping", ["STATE_CHANGE"])
    hyperv.admin("turn_off", "web01")
    assert reports(script, WEB)[WEB].power == STOPPED


def test_creation_times_follow_the_hosts_clock(hyperv: SimulatedHyperV, script: Conversation) -> None:
    hyperv.clock(-7200)
    before = datetime.now(UTC)
    hyperv.admin("checkpoint", "web01")
    (made,) = reports(script, WEB)[WEB].checkpoints
    assert before <= made.created_at.ToDatetime(UTC) + timedelta(hours=2) <= datetime.now(UTC)


def test_the_builtin_engine_tells_all_times_by_the_hosts_clock(hyperv: SimulatedHyperV, tmp_path: Path) -> None:
    for engine in engine_on("builtin", hyperv, tmp_path):
        script = Conversation(engine)
        journal = known_journal(script, vm=WEB)
        hyperv.clock(7200)
        before = datetime.now(UTC)
        command = effect("checkpoint_create", hyperv, journal, 2, vm=WEB)
        command.checkpoint_create.checkpoint_name = "c"
        done = script.ask(command)
        assert done.verdict == HostAnswer.DONE
        (report,) = done.vms
        for told in (done.host_time, report.journal.begun_at, report.checkpoints[0].created_at):
            assert before <= told.ToDatetime(UTC) - timedelta(hours=2) <= datetime.now(UTC)
        script.process.kill()


def test_a_name_is_counted_in_utf_16_code_units(hyperv: SimulatedHyperV, script: Conversation) -> None:
    journal = known_journal(script, vm=WEB)
    for token, (name, verdict) in enumerate([("🚀" * 50, HostAnswer.NO_EFFECT), ("🚀" * 49 + "x", HostAnswer.DONE)], 2):
        command = effect("checkpoint_create", hyperv, journal, token, step=token, vm=WEB)
        command.checkpoint_create.checkpoint_name = name
        assert script.ask(command).verdict == verdict
    assert [c.name for c in reports(script, WEB)[WEB].checkpoints] == ["🚀" * 49 + "x"]


@pytest.mark.parametrize("inventory", [GOLDEN])
def test_chains_go_down_to_the_image_that_several_vms_stand_on(hyperv: SimulatedHyperV, script: Conversation) -> None:
    told = reports(script)
    chains = [chain(told[vm]) for vm in (WEB, DB)]
    assert [len(chain) for chain in chains] == [3, 3]
    assert chains[0][1:] == chains[1][1:]
    hyperv.admin("checkpoint", "web01")
    report = reports(script, WEB)[WEB]
    assert chain(report)[1:] == chains[0]
    assert chain(report, report.checkpoints[0]) == chains[0]


def test_a_vm_that_has_moved_is_told_absent_with_its_journal_and_its_files(
    hyperv: SimulatedHyperV, script: Conversation, tmp_path: Path
) -> None:
    journal = known_journal(script, vm=WEB)
    hyperv.admin("checkpoint", "web01")
    watched = chain(reports(script, WEB)[WEB])
    with host_at(tmp_path / "other", {"vms": []}, storage=tmp_path / "state" / "disks") as other:
        other.move_in(**hyperv.move_out("web01"))
        command = look(vm=WEB)
        command.watched_files.extend([*watched, f"{watched[0]}.not"])
        (report,) = script.ask(command).vms
        assert (report.present, report.journal.journal_id) == (False, journal)
        assert list(report.existing_files) == watched
        assert list(reports(script)) == [DB]
        for engine in engine_on("builtin", other, tmp_path / "other"):
            there = Conversation(engine)
            told = reports(there, WEB)[WEB]
            assert (chain(told), told.journal.state) == (watched, JournalReport.MISSING)
            there.process.kill()


def test_an_automatic_checkpoint_is_told_from_the_start_to_the_stop(
    hyperv: SimulatedHyperV, script: Conversation
) -> None:
    hyperv.admin("set_automatic_checkpoints", "db01", value=True)
    hyperv.admin("start", "db01")
    (made,) = reports(script, DB)[DB].checkpoints
    assert (made.automatic, made.has_memory) == (True, False)
    hyperv.admin("turn_off", "db01")
    settled(hyperv, DB)
    report = reports(script, DB)[DB]
    assert (list(report.checkpoints), len(chain(report))) == ([], 1)
