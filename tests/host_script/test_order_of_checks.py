"""The order of checks of docs/host-protocol.md, row by row, and the fence's rules that live on the host.

The rules' names are those of the exhaustive model: token, acts-once, observe-fences, job-wait, journal-id,
act-on-before. newest-only is the daemon's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from snapshotd.api.v1.executor_pb2 import (
    ABSENT,
    PAUSED,
    RUNNING,
    Before,
    CheckpointCreated,
    HostAnswer,
    HostCommand,
    JournalReport,
    VmReport,
    VmStop,
)
from snapshotd.domain.state import replace
from snapshotd.simulator.hypervisor import Caller, HyperVError, JobView, VhdView, VmView
from snapshotd.simulator.journal import JournalEntry, journal_path, read_journal, write_journal
from snapshotd.simulator.ownership import Ownership, read_host, write_host
from tests.host_script.conversation import INSTALLATION, PATIENCE_S, Conversation
from tests.host_script.engines import engine_on
from tests.host_script.host_commands import any_effect, create, effect, entry, known_journal, look, observe
from tests.host_script.recording_host import ABSENT_VM, OTHER, WEB, Gate, RecordingHost, refuses

ACTIONS = tuple(field.name for field in HostCommand.DESCRIPTOR.oneofs_by_name["action"].fields)


# --- reads ------------------------------------------------------------------------------------------------------------


def test_a_report_without_a_vm_tells_all_and_leaves_no_trace(script: Conversation, host: RecordingHost) -> None:
    answer = script.ask(look(vm=""))
    assert answer.verdict == HostAnswer.REPORTED
    assert sorted(vm.name for vm in answer.vms) == ["db01", "web01"]
    assert [vm.journal.state for vm in answer.vms] == [JournalReport.MISSING] * 2
    assert (answer.host.name, answer.host.installation_id) == ("hv01", "")
    assert answer.HasField("host_time")
    assert list(host.journal_directory.glob("*")) == []


def bad_disk(host: RecordingHost) -> str:
    look_up = host.vhd

    def vhd(path: str) -> VhdView | None:
        if "db01" in path:
            raise HyperVError("OperationFailed", "Get-VHD", "The file or directory is corrupted.")
        return look_up(path)

    host.vhd = vhd  # type: ignore[method-assign]  # the fake's own clockwork
    return "OperationFailed,Microsoft.Vhd.PowerShell.Cmdlets.GetVHD"


def bad_journal(host: RecordingHost) -> str:
    journal_path(host.journal_directory, OTHER).mkdir(parents=True)
    return "JournalFailed,snapshotd"


def gone_meanwhile(host: RecordingHost) -> str:
    def jobs(vm_id: str) -> list[JobView]:
        if vm_id.lower() == OTHER:
            raise HyperVError("ObjectNotFound", "Get-VM", "Hyper-V was unable to find a virtual machine.")
        return []

    host.jobs = jobs  # type: ignore[method-assign]  # the fake's own clockwork
    return "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVM"


@pytest.mark.parametrize("harm", [bad_disk, bad_journal, gone_meanwhile])
def test_a_vm_that_cannot_be_read_does_not_hide_the_others(
    harm: Callable[[RecordingHost], str], script: Conversation, host: RecordingHost
) -> None:
    error_id = harm(host)
    answer = script.ask(look(vm=""))
    assert answer.verdict == HostAnswer.REPORTED
    bad, good = sorted(answer.vms, key=lambda vm: vm.name)
    assert (good.name, good.power, good.HasField("error")) == ("web01", RUNNING, False)
    assert bad.error.id == error_id
    assert bad == VmReport(vm_id=OTHER, present=True, name="db01", error=bad.error)
    alone = script.ask(look(vm=OTHER))
    assert (alone.verdict, alone.error.id) == (HostAnswer.FAILED, error_id)


@pytest.mark.parametrize("kind", [HostCommand.REPORT, HostCommand.POLL])
def test_a_read_tells_one_vm_and_the_watched_files_that_exist(
    kind: HostCommand.Kind.ValueType, script: Conversation, host: RecordingHost
) -> None:
    command = look(kind)
    command.watched_files.extend([f"{host.disks}/web01.vhdx", f"{host.disks}/gone.avhdx"])
    answer = script.ask(command)
    assert answer.verdict == HostAnswer.REPORTED
    assert [vm.vm_id for vm in answer.vms] == [WEB]
    assert list(answer.vms[0].existing_files) == [f"{host.disks}/web01.vhdx"]


def test_a_vm_that_the_host_does_not_have_is_reported_absent(script: Conversation) -> None:
    answer = script.ask(look(vm=ABSENT_VM))
    assert [(vm.vm_id, vm.present, vm.power) for vm in answer.vms] == [(ABSENT_VM, False, ABSENT)]


@pytest.mark.parametrize("kind", [HostCommand.REPORT, HostCommand.POLL, HostCommand.OBSERVE, HostCommand.EFFECT])
@pytest.mark.parametrize("in_use", [True, False])
def test_a_file_whose_storage_is_away_is_not_taken_for_missing(
    kind: HostCommand.Kind.ValueType, script: Conversation, host: RecordingHost, *, in_use: bool
) -> None:
    if not in_use:
        host.set(drives=())
    command = effect("vm_start", host, known_journal(script), 2)
    command.kind = kind
    command.watched_files.append(f"{host.disks}/web01.vhdx")
    away = host.disks.rename(host.disks.with_name("away"))
    answer = script.ask(command)
    effects = kind == HostCommand.EFFECT
    if in_use:
        verdict = HostAnswer.NOT_BEGUN if effects else HostAnswer.FAILED
        assert (answer.verdict, answer.error.id) == (verdict, "StorageUnreachable,snapshotd")
        assert (host.calls, entry(host).token) == ([], 2 if effects else 1)
    else:
        assert (list(answer.vms[0].existing_files), list(answer.vms[0].unknown_files)) == (
            [],
            list(command.watched_files),
        )
    away.rename(host.disks)
    command.token += 1
    assert script.ask(command).verdict in {HostAnswer.REPORTED, HostAnswer.OBSERVED, HostAnswer.DONE}


# --- 0: installation --------------------------------------------------------------------------------------------------


def test_an_observation_and_an_effect_make_host_json(script: Conversation, host: RecordingHost) -> None:
    assert script.ask(create(host, "none", 1)).verdict == HostAnswer.WRONG_JOURNAL
    assert read_host(host.journal_directory) == Ownership(INSTALLATION)
    (host.journal_directory / "host.json").unlink()
    assert script.ask(observe(1)).host.installation_id == INSTALLATION


@pytest.mark.parametrize("kind", [HostCommand.OBSERVE, HostCommand.EFFECT])
def test_another_installations_host_is_left_alone(
    kind: HostCommand.Kind.ValueType, script: Conversation, host: RecordingHost
) -> None:
    write_host(host.journal_directory, "installation-2")
    command = observe(1, "vm_start")
    command.kind = kind
    answer = script.ask(command)
    assert (answer.verdict, answer.host.installation_id) == (HostAnswer.FOREIGN_INSTALLATION, "installation-2")
    assert read_journal(host.journal_directory, WEB) is None


def test_a_host_json_that_cannot_be_read_is_not_ours(script: Conversation, host: RecordingHost) -> None:
    host.journal_directory.mkdir()
    (host.journal_directory / "host.json").write_text("{")
    assert script.ask(observe(1)).verdict == HostAnswer.FOREIGN_INSTALLATION


# --- 1: done already --------------------------------------------------------------------------------------------------


def test_a_step_that_is_done_answers_its_stored_result_whatever_the_token(
    script: Conversation, host: RecordingHost
) -> None:
    command = create(host, known_journal(script), 2)
    first = script.ask(command)
    for token in (2, 1, 9):
        command.token = token
        again = script.ask(command)
        assert (again.verdict, again.checkpoint_create) == (HostAnswer.DONE, first.checkpoint_create)
        assert len(again.vms[0].checkpoints) == 1
    assert [call for call in host.calls if call[0] == "Checkpoint-VM"] == [("Checkpoint-VM", "nightly #1")]


def test_only_an_action_that_has_an_output_answers_one(script: Conversation, host: RecordingHost) -> None:
    host.set(state="Off")
    command = effect("vm_start", host, known_journal(script), 2)
    for _ in range(2):
        answer = script.ask(command)
        assert (answer.verdict, answer.WhichOneof("output")) == (HostAnswer.DONE, None)
    assert entry(host).output == {}
    answer = script.ask(create(host, entry(host).id, 3, step=2))
    assert answer.WhichOneof("output") == "checkpoint_create"
    host.first["Stop-VM"] = refuses("InvalidState", "Stop-VM")
    answer = script.ask(any_effect("vm_stop", host, entry(host).id, 4))
    assert (answer.verdict, answer.WhichOneof("output"), entry(host).output) == (HostAnswer.NO_EFFECT, None, {})


MADE: dict[str, object] = {"checkpoint_id": "c1", "has_memory": True}


@pytest.mark.parametrize(
    ("action", "output"),
    [
        ("checkpoint_create", {}),
        ("checkpoint_create", {"checkpoint_id": "c1"}),
        ("checkpoint_create", {"has_memory": True}),
        ("checkpoint_create", {**MADE, "checkpoint_id": 5}),
        ("checkpoint_create", {**MADE, "checkpoint_id": ""}),
        ("checkpoint_create", {**MADE, "checkpoint_id": None}),
        ("checkpoint_create", {**MADE, "has_memory": "true"}),
        ("checkpoint_create", {**MADE, "has_memory": 1}),
        ("checkpoint_create", {**MADE, "files": []}),
        ("checkpoint_create", {"CHECKPOINT_ID": "c1", "has_memory": True}),
        ("checkpoint_create", {"checkpointId": "c1", "has_memory": True}),
        ("vm_start", MADE),
        ("vm_start", {"x": None}),
    ],
)
def test_a_stored_output_that_cannot_be_the_actions_is_no_answer(
    action: str, output: dict[str, object], script: Conversation, host: RecordingHost
) -> None:
    command = any_effect(action, host, known_journal(script), 2)
    assert script.ask(command).verdict == HostAnswer.DONE
    written = write_journal(host.journal_directory, replace(entry(host), output=output))
    calls = list(host.calls)
    for token in (1, 2, 3):
        command.token = token
        answer = script.ask(command)
        assert (answer.verdict, answer.WhichOneof("output")) == (HostAnswer.WRONG_JOURNAL, None)
        assert answer.vms[0].present
    assert (entry(host), host.calls) == (written, calls)


def test_a_stored_output_is_answered_as_it_stands(script: Conversation, host: RecordingHost) -> None:
    command = create(host, known_journal(script), 2)
    script.ask(command)
    write_journal(host.journal_directory, replace(entry(host), output=dict(reversed(MADE.items()))))
    answer = script.ask(command)
    assert (answer.verdict, answer.checkpoint_create) == (HostAnswer.DONE, CheckpointCreated(**MADE))  # type: ignore[arg-type]  # JSON


def test_an_observation_keeps_the_output_as_it_stands(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    output = {"files": [{"path": "a"}, {"path": "b", "parts": ["c"]}], "none": {}, "empty": []}
    write_journal(host.journal_directory, replace(entry(host), phase="DONE", output=output))
    assert script.ask(observe(2)).verdict == HostAnswer.OBSERVED
    assert entry(host).output == output


def test_a_done_step_is_still_observed(script: Conversation, host: RecordingHost) -> None:
    script.ask(create(host, known_journal(script), 2))
    assert script.ask(observe(3)).verdict == HostAnswer.OBSERVED


def test_another_step_of_the_same_operation_is_not_done_already(script: Conversation, host: RecordingHost) -> None:
    journal = known_journal(script)
    script.ask(create(host, journal, 2))
    answer = script.ask(create(host, journal, 3, step=2, name="nightly #2"))
    assert len(answer.vms[0].checkpoints) == 2


# --- 2: token, acts-once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HostCommand.OBSERVE, HostCommand.EFFECT])
def test_a_lower_token_is_refused(kind: HostCommand.Kind.ValueType, script: Conversation, host: RecordingHost) -> None:
    command = effect("vm_start", host, known_journal(script, token=5), 4)
    command.kind = kind
    answer = script.ask(command)
    assert (answer.verdict, answer.highest_token) == (HostAnswer.STALE, 5)
    assert host.calls == []


def test_a_token_acts_once(script: Conversation, host: RecordingHost) -> None:
    command = create(host, known_journal(script), 2)
    host.first["Checkpoint-VM"] = refuses("InvalidState", "Checkpoint-VM")
    assert script.ask(command).verdict == HostAnswer.NO_EFFECT
    host.first.clear()
    answer = script.ask(command)
    assert (answer.verdict, answer.highest_token) == (HostAnswer.STALE, 2)
    assert host.machines[WEB].checkpoints == ()


def test_an_observation_may_be_sent_again_with_its_token(script: Conversation) -> None:
    assert script.ask(observe(5)).verdict == HostAnswer.OBSERVED
    assert script.ask(observe(5)).verdict == HostAnswer.OBSERVED


# --- 3: job-wait ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HostCommand.OBSERVE, HostCommand.EFFECT])
@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_concluded_while_the_hypervisor_works_on_the_vm(
    kind: HostCommand.Kind.ValueType, action: str, script: Conversation, host: RecordingHost
) -> None:
    host.take(WEB, "foreign")
    journal = known_journal(script)
    host.set(secondary_status=("CreatingSnapshot",))
    host.under_way = [JobView(70, 60), JobView(70, 40), JobView(70, 5, state=7)]
    command = any_effect(action, host, journal, 2)
    host.calls.clear()
    command.kind = kind
    answer = script.ask(command)
    assert answer.verdict == HostAnswer.IN_PROGRESS
    assert (list(answer.vms[0].activities), answer.vms[0].percent) == (["CREATE"], 40)
    assert (entry(host).token, entry(host).phase) == (1, "")
    assert host.calls == []


@pytest.mark.parametrize(
    ("job", "activity"),
    [
        (JobView(70, 1), "CREATE"),
        (JobView(71, 1), "APPLY"),
        (JobView(72, 1, state=2), "DELETE"),
        (JobView(50, 1, state=3), "MERGE"),
        (JobView(62, 1, state=6), "EXPORT"),
        (JobView(62, 1), "EXPORT"),
        (JobView(95, 1), "JOB_95"),
    ],
)
def test_a_job_that_the_vms_status_does_not_show_is_work_under_way(
    job: JobView, activity: str, script: Conversation, host: RecordingHost
) -> None:
    journal = known_journal(script)
    host.under_way = [job, JobView(62, 100, state=7)]
    for command in (observe(2), create(host, journal, 3)):
        answer = script.ask(command)
        assert (answer.verdict, list(answer.vms[0].activities)) == (HostAnswer.IN_PROGRESS, [activity])
    assert host.calls == []


def test_a_merge_that_only_its_job_shows_holds_up_no_start(script: Conversation, host: RecordingHost) -> None:
    journal = known_journal(script)
    host.set(state="Off")
    host.under_way = [JobView(50, 1)]
    assert script.ask(effect("vm_start", host, journal, 2)).verdict == HostAnswer.DONE


@pytest.mark.parametrize("kind", [HostCommand.REPORT, HostCommand.POLL, HostCommand.OBSERVE, HostCommand.EFFECT])
def test_jobs_that_cannot_be_told_of_are_not_taken_for_none(
    kind: HostCommand.Kind.ValueType, script: Conversation, host: RecordingHost
) -> None:
    host.set(state="Off")
    command = effect("vm_start", host, known_journal(script), 2)
    command.kind = kind

    def jobs(_vm_id: str) -> list[JobView]:
        raise HyperVError("HRESULT 0x80041003", "Get-CimAssociatedInstance", "Access denied")

    host.jobs = jobs  # type: ignore[method-assign, assignment]  # the fake's own clockwork
    answer = script.ask(command)
    verdict = HostAnswer.NOT_BEGUN if kind == HostCommand.EFFECT else HostAnswer.FAILED
    assert (answer.verdict, answer.error.message) == (verdict, "Access denied")
    assert host.calls == []
    assert entry(host).token == (2 if kind == HostCommand.EFFECT else 1)


def test_an_observation_of_what_was_begun_looks_a_second_time(script: Conversation, host: RecordingHost) -> None:
    """Checkpoint-VM has been seen to return before the checkpoint is listed."""
    known_journal(script)
    write_journal(host.journal_directory, replace(entry(host), operation="operations/web.1", step=1, phase="BEGUN"))
    before = host.machines[WEB]
    host.take(WEB, "nightly #1")
    after, looked_at = host.machines[WEB], 0.0
    look_up = host.vm

    def vm(vm_id: str) -> VmView | None:
        nonlocal looked_at
        looked_at = looked_at or time.monotonic()
        host.machines[WEB] = before if time.monotonic() < looked_at + 0.08 else after
        return look_up(vm_id)

    host.vm = vm  # type: ignore[method-assign]  # the fake's own clockwork
    answer = script.ask(observe(2))
    assert answer.verdict == HostAnswer.OBSERVED
    assert [checkpoint.name for checkpoint in answer.vms[0].checkpoints] == ["nightly #1"]


def test_a_second_look_that_finds_work_under_way_concludes_nothing(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    write_journal(host.journal_directory, replace(entry(host), operation="operations/web.1", step=1, phase="BEGUN"))
    looked_at = 0.0

    def jobs(_vm_id: str) -> list[JobView]:
        nonlocal looked_at
        looked_at = looked_at or time.monotonic()
        return [JobView(70, 1)] if time.monotonic() >= looked_at + 0.08 else []

    host.jobs = jobs  # type: ignore[method-assign, assignment]  # the fake's own clockwork
    assert script.ask(observe(2)).verdict == HostAnswer.IN_PROGRESS
    assert entry(host).token == 1


def test_an_observation_of_a_vm_at_work_makes_no_journal(script: Conversation, host: RecordingHost) -> None:
    host.set(state="Stopping")
    host.under_way = [JobView(62, 1)]
    answer = script.ask(observe(1))
    assert (answer.verdict, list(answer.vms[0].activities)) == (HostAnswer.IN_PROGRESS, ["EXPORT", "STATE_CHANGE"])
    assert read_journal(host.journal_directory, WEB) is None


@pytest.mark.parametrize("state", ["Stopping", "Starting", "Saving"])
def test_a_vm_between_two_powers_is_fenced_by_an_observation_and_nothing_is_begun(
    state: str, script: Conversation, host: RecordingHost
) -> None:
    host.take(WEB, "foreign")
    journal = known_journal(script)
    host.set(state=state)
    answer = script.ask(observe(5, "vm_stop"))
    assert (answer.verdict, list(answer.vms[0].activities)) == (HostAnswer.OBSERVED, ["STATE_CHANGE"])
    assert answer.vms[0].journal.highest_token == 5
    for token, action in enumerate(ACTIONS, 6):
        command = any_effect(action, host, journal, token)
        host.calls.clear()
        if action == "vm_stop":
            command.vm_stop.mode = VmStop.SAVE
        assert script.ask(command).verdict == HostAnswer.IN_PROGRESS
        assert host.calls == []


@pytest.mark.parametrize(
    ("state", "mode", "passes"),
    [
        ("Stopping", VmStop.TURN_OFF, True),
        ("ForceShutdown", VmStop.TURN_OFF, True),
        ("StoppingCritical", VmStop.TURN_OFF, True),
        ("Starting", VmStop.TURN_OFF, False),
        ("Saving", VmStop.TURN_OFF, False),
        ("Stopping", VmStop.SHUTDOWN, False),
        ("Stopping", VmStop.SAVE, False),
    ],
)
def test_only_a_turn_off_passes_a_shutdown(
    state: str, mode: VmStop.Mode.ValueType, script: Conversation, host: RecordingHost, *, passes: bool
) -> None:
    journal = known_journal(script)
    host.set(state=state)
    command = any_effect("vm_stop", host, journal, 2)
    command.vm_stop.mode = mode
    assert script.ask(command).verdict == (HostAnswer.DONE if passes else HostAnswer.IN_PROGRESS)
    assert host.calls == ([("Stop-VM", "-TurnOff")] if passes else [])


def test_a_turn_off_does_not_pass_a_job(script: Conversation, host: RecordingHost) -> None:
    journal = known_journal(script)
    host.set(state="Stopping")
    host.under_way = [JobView(70, 1)]
    assert script.ask(any_effect("vm_stop", host, journal, 2)).verdict == HostAnswer.IN_PROGRESS


@pytest.mark.parametrize("action", ACTIONS)
def test_merging_alone_holds_up_everything_but_start_and_stop(
    action: str, script: Conversation, host: RecordingHost
) -> None:
    host.take(WEB, "foreign")
    journal = known_journal(script)
    host.set(secondary_status=("MergingDisks",))
    passes = action in {"vm_start", "vm_stop"}
    assert script.ask(observe(2, action)).verdict == (HostAnswer.OBSERVED if passes else HostAnswer.IN_PROGRESS)
    answer = script.ask(any_effect(action, host, journal, 3))
    assert answer.verdict == (HostAnswer.DONE if passes else HostAnswer.IN_PROGRESS)


# --- 4: observe-fences, journal-id ------------------------------------------------------------------------------------


def test_an_observation_raises_the_fence(script: Conversation, host: RecordingHost) -> None:
    late = create(host, known_journal(script), 2)
    assert script.ask(observe(3)).vms[0].journal.highest_token == 3
    answer = script.ask(late)
    assert (answer.verdict, answer.highest_token) == (HostAnswer.STALE, 3)
    assert host.calls == []


def test_an_observation_makes_a_missing_journal_with_a_fresh_id(script: Conversation, host: RecordingHost) -> None:
    first = known_journal(script)
    journal_path(host.journal_directory, WEB).unlink()
    answer = script.ask(observe(2))
    assert answer.vms[0].journal.state == JournalReport.PRESENT
    assert answer.vms[0].journal.journal_id not in {"", first}


def test_an_observation_replaces_an_unreadable_journal(script: Conversation, host: RecordingHost) -> None:
    first = known_journal(script)
    journal_path(host.journal_directory, WEB).write_bytes(b"torn")
    assert script.ask(look()).vms[0].journal.state == JournalReport.UNREADABLE
    answer = script.ask(observe(2))
    assert answer.vms[0].journal.state == JournalReport.PRESENT
    assert answer.vms[0].journal.journal_id != first


def test_an_observation_keeps_what_the_journal_says_of_the_last_step(script: Conversation, host: RecordingHost) -> None:
    made = script.ask(create(host, known_journal(script), 2)).checkpoint_create
    journal = script.ask(observe(3)).vms[0].journal
    assert (journal.operation, journal.step, journal.phase) == ("operations/web.1", 1, JournalReport.DONE)
    assert journal.HasField("begun_at")
    assert dict(journal.output) == {"checkpoint_id": made.checkpoint_id, "has_memory": made.has_memory}


def test_a_vm_that_is_gone_can_be_observed(script: Conversation) -> None:
    answer = script.ask(observe(1, vm=ABSENT_VM))
    assert (answer.verdict, answer.vms[0].present) == (HostAnswer.OBSERVED, False)
    assert answer.vms[0].journal.highest_token == 1


# --- 5: journal-id, act-on-before -------------------------------------------------------------------------------------


def lose(host: RecordingHost) -> None:
    journal_path(host.journal_directory, WEB).unlink()


def tear(host: RecordingHost) -> None:
    journal_path(host.journal_directory, WEB).write_bytes(b"torn")


def replace_it(host: RecordingHost) -> None:
    write_journal(host.journal_directory, replace(entry(host), id="another"))


@pytest.mark.parametrize("damage", [lose, tear, replace_it])
def test_an_effect_acts_only_on_the_journal_that_it_was_told_of(
    damage: Callable[[RecordingHost], None], script: Conversation, host: RecordingHost
) -> None:
    journal = known_journal(script)
    damage(host)
    before = journal_path(host.journal_directory, WEB)
    content = before.read_bytes() if before.exists() else None
    answer = script.ask(create(host, journal, 2))
    assert (answer.verdict, answer.vms[0].present) == (HostAnswer.WRONG_JOURNAL, True)
    assert host.calls == []
    assert (before.read_bytes() if before.exists() else None) == content


def other_power(before: Before) -> None:
    before.power = PAUSED


def other_checkpoints(before: Before) -> None:
    before.checkpoint_ids.append("gone")


def other_current(before: Before) -> None:
    before.current_checkpoint_id = "gone"


def other_leaves(before: Before) -> None:
    before.leaf_paths[:] = ["/disks/other.avhdx"]


def other_chain(before: Before) -> None:
    before.chain_files.append("/disks/other.vhdx")


def other_offering(before: Before) -> None:
    before.offering.maximum_bytes += 1 << 30


def other_drives(before: Before) -> None:
    before.drives.append("SCSI:0:7=/disks/other.vhdx")


CHANGES = (other_power, other_checkpoints, other_current, other_leaves, other_chain, other_offering, other_drives)
AS_EXPORTED: set[Callable[[Before], None]] = {
    other_power,
    other_checkpoints,
    other_current,
    other_drives,
    other_offering,
}
DEPENDS: dict[str, set[Callable[[Before], None]]] = {
    "vm_start": {other_power},
    "vm_stop": {other_power},
    "checkpoint_create": {other_power, other_checkpoints, other_current},
    "checkpoint_restore": {other_power, other_checkpoints, other_current, other_leaves},
    "checkpoint_remove": {other_checkpoints, other_chain},
    "checkpoint_rename": {other_checkpoints},
    "vm_configure": {other_power, other_offering},
    "volume_attach": {other_drives},
    "volume_detach": {other_drives},
    "volume_resize": {other_drives},
    "vm_remove": {other_power, other_checkpoints, other_drives, other_chain},
    "disk_create": set(),
    "files_delete": set(),
    "disk_export": {other_checkpoints},
    "disk_convert": {other_power, other_leaves},
    "disk_place": set(),
    "vm_export": AS_EXPORTED,
    "export_complete": set(),
    "export_end": set(),
    "vm_import": set(CHANGES),  # the VM is there
    "vm_release": AS_EXPORTED,
}
"""The table 'What each action depends on', but for files that must not be there and a VM that must not."""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("action", ACTIONS)
def test_an_effect_acts_only_on_the_state_that_it_was_told(
    action: str, change: Callable[[Before], None], script: Conversation, host: RecordingHost
) -> None:
    host.take(WEB, "foreign")
    command = any_effect(action, host, known_journal(script), 2)
    host.calls.clear()
    change(command.before)
    answer = script.ask(command)
    if change in DEPENDS[action]:
        assert answer.verdict == HostAnswer.CHANGED
        assert host.calls == []
        assert (entry(host).token, entry(host).phase) == (2, "")
        assert answer.vms[0].journal.highest_token == 2
    else:
        assert answer.verdict == HostAnswer.DONE
        assert entry(host).phase == "DONE"


def test_ids_and_paths_are_compared_without_regard_to_case_and_order(script: Conversation, host: RecordingHost) -> None:
    host.take(WEB, "first")
    host.take(WEB, "second")
    command = any_effect("checkpoint_restore", host, known_journal(script), 2)
    command.before.checkpoint_ids[:] = [each.lower() for each in reversed(command.before.checkpoint_ids)]
    command.before.current_checkpoint_id = command.before.current_checkpoint_id.lower()
    command.before.leaf_paths[:] = [each.upper() for each in command.before.leaf_paths]
    assert script.ask(command).verdict == HostAnswer.DONE


def test_a_vm_that_is_gone_is_different_from_before(script: Conversation, host: RecordingHost) -> None:
    command = create(host, known_journal(script), 2)
    del host.machines[WEB]
    answer = script.ask(command)
    assert (answer.verdict, answer.vms[0].present) == (HostAnswer.CHANGED, False)


def test_an_effect_is_begun_in_the_journal_before_it_acts(script: Conversation, host: RecordingHost) -> None:
    command = create(host, known_journal(script), 2, step=3)
    seen: list[JournalEntry] = []
    host.first["Checkpoint-VM"] = lambda _caller: seen.append(entry(host))
    answer = script.ask(command)
    begun = seen[0]
    assert (begun.token, begun.operation, begun.step, begun.phase) == (2, "operations/web.1", 3, "BEGUN")
    assert begun.pid == script.pid
    assert begun.pid_started != ""
    assert begun.deadline == command.deadline.ToDatetime(begun.deadline.tzinfo if begun.deadline else None)
    assert begun.begun_at is not None
    done = entry(host)
    assert begun.output == {}
    assert (done.phase, done.output) == (
        "DONE",
        {"checkpoint_id": answer.checkpoint_create.checkpoint_id, "has_memory": False},
    )
    ended = replace(begun, seq=done.seq, phase="DONE", output=done.output)
    assert done == replace(ended, owed_checkpoint_type="", temporary_checkpoint_type="")


# --- two nodes of a cluster over one directory ------------------------------------------------------------------------


@pytest.fixture
def other_node(host: RecordingHost) -> Iterator[Conversation]:
    """A script with mutexes of its own."""
    conversation = Conversation(next(engine_on("builtin", host, host.disks)))
    yield conversation
    conversation.process.kill()


def test_a_token_does_not_go_down_where_two_nodes_share_the_journals(
    script: Conversation, other_node: Conversation, host: RecordingHost
) -> None:
    command = create(host, known_journal(script), 2)
    gate, look_up = Gate(), host.vm

    def slow(vm_id: str) -> VmView | None:
        if not gate.reached.is_set():
            gate(script.process)
        return look_up(vm_id)

    host.vm = slow  # type: ignore[method-assign]  # the fake's own clockwork
    script.send(command)
    assert gate.reached.wait(PATIENCE_S)
    assert other_node.ask(observe(3)).verdict == HostAnswer.OBSERVED
    gate.opened.set()
    answer = script.answer()
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "JournalChanged,snapshotd")
    assert (host.calls, entry(host).token, entry(host).phase) == ([], 3, "")


def test_a_step_that_ends_after_another_node_has_raised_the_fence_does_not_lower_it(
    script: Conversation, other_node: Conversation, host: RecordingHost
) -> None:
    gate = host.first["Checkpoint-VM"] = Gate()
    script.send(create(host, known_journal(script), 2))
    assert gate.reached.wait(PATIENCE_S)
    assert other_node.ask(observe(3)).verdict == HostAnswer.OBSERVED
    gate.opened.set()
    answer = script.answer()
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "JournalChanged,snapshotd")
    assert (entry(host).token, entry(host).phase) == (3, "BEGUN")


# --- a cmdlet fails ---------------------------------------------------------------------------------------------------


def test_no_effect_is_said_when_everything_is_as_before(script: Conversation, host: RecordingHost) -> None:
    host.first["Checkpoint-VM"] = refuses("OutOfMemory", "Checkpoint-VM")
    answer = script.ask(create(host, known_journal(script), 2))
    assert answer.verdict == HostAnswer.NO_EFFECT
    assert answer.error.id == "OutOfMemory,Microsoft.HyperV.PowerShell.Commands.CheckpointVM"
    assert answer.error.message == "Checkpoint-VM was told to fail"
    assert answer.vms[0].power == RUNNING
    assert (entry(host).token, entry(host).phase) == (2, "")


def test_a_report_tells_which_attempt_has_begun_a_step(script: Conversation, host: RecordingHost) -> None:
    host.first["Checkpoint-VM"] = refuses("OperationFailed", "Checkpoint-VM")
    assert script.ask(create(host, known_journal(script), 2)).verdict == HostAnswer.FAILED
    for token in (3, 4):
        (report,) = script.ask(observe(token)).vms
        journal = report.journal
        assert (journal.phase, journal.begun_token, journal.highest_token) == (JournalReport.BEGUN, 2, token)


@pytest.mark.parametrize("error_id", ["OperationFailed", "OperationTimeout", "ObjectInUse", "SomethingNew"])
def test_an_error_that_does_not_say_that_nothing_was_begun_is_not_without_effect(
    error_id: str, script: Conversation, host: RecordingHost
) -> None:
    host.first["Checkpoint-VM"] = refuses(error_id, "Checkpoint-VM")
    answer = script.ask(create(host, known_journal(script), 2))
    assert (answer.verdict, answer.error.message) == (HostAnswer.FAILED, "Checkpoint-VM was told to fail")
    assert answer.error.id == f"{error_id},Microsoft.HyperV.PowerShell.Commands.CheckpointVM"


def test_a_refusal_while_a_job_runs_is_not_without_effect(script: Conversation, host: RecordingHost) -> None:
    def refuse(caller: Caller) -> None:
        host.under_way = [JobView(70, 1)]
        refuses("InvalidState", "Checkpoint-VM")(caller)

    host.first["Checkpoint-VM"] = refuse
    assert script.ask(create(host, known_journal(script), 2)).verdict == HostAnswer.FAILED


def test_a_cmdlet_that_failed_after_its_effect_is_not_without_effect(script: Conversation, host: RecordingHost) -> None:
    host.then["Checkpoint-VM"] = refuses("OperationTimeout", "Checkpoint-VM")
    answer = script.ask(create(host, known_journal(script), 2))
    assert answer.verdict == HostAnswer.FAILED
    assert answer.error.id.startswith("OperationTimeout,")
    assert entry(host).phase == "BEGUN"


def test_a_cmdlet_that_failed_while_the_hypervisor_works_on_is_not_without_effect(
    script: Conversation, host: RecordingHost
) -> None:
    def fails_at_work(caller: object) -> None:
        host.set(secondary_status=("CreatingSnapshot",))
        refuses("OperationTimeout", "Checkpoint-VM")(script.process)

    host.first["Checkpoint-VM"] = fails_at_work
    assert script.ask(create(host, known_journal(script), 2)).verdict == HostAnswer.FAILED


def test_each_vm_has_a_journal_of_its_own(script: Conversation, host: RecordingHost) -> None:
    web = known_journal(script, token=7)
    assert known_journal(script, token=1, vm=OTHER) != web
    assert (entry(host).token, entry(host, OTHER).token) == (7, 1)
