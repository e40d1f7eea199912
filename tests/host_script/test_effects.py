"""What each action does by cmdlets, and the CheckpointType that is owed meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, VmStop
from snapshotd.domain.state import replace
from snapshotd.simulator.hypervisor import Caller, CheckpointView, HyperVError, VmView
from snapshotd.simulator.journal import read_journal, write_journal
from tests.host_script.conversation import Conversation
from tests.host_script.host_commands import any_effect, create, effect, entry, known_journal, look, observe
from tests.host_script.recording_host import OTHER, WEB, RecordingHost, refuses


@pytest.mark.parametrize(
    ("state", "cmdlet"), [("Off", "Start-VM"), ("Saved", "Start-VM"), ("Paused", "Resume-VM"), ("Running", "Start-VM")]
)
def test_start_resumes_a_paused_vm_and_starts_any_other(
    state: str, cmdlet: str, script: Conversation, host: RecordingHost
) -> None:
    host.set(state=state)
    answer = script.ask(effect("vm_start", host, known_journal(script), 2))
    assert (answer.verdict, answer.vms[0].host_state) == (HostAnswer.DONE, "Running")
    assert host.calls == [(cmdlet,)]


@pytest.mark.parametrize(
    ("mode", "call", "state"),
    [
        (VmStop.SHUTDOWN, ("Stop-VM",), "Off"),
        (VmStop.TURN_OFF, ("Stop-VM", "-TurnOff"), "Off"),
        (VmStop.SAVE, ("Save-VM",), "Saved"),
        (VmStop.PAUSE, ("Suspend-VM",), "Paused"),
    ],
)
def test_each_way_to_stop_is_a_cmdlet_of_its_own_and_never_forced(
    mode: VmStop.Mode.ValueType, call: tuple[str, ...], state: str, script: Conversation, host: RecordingHost
) -> None:
    command = effect("vm_stop", host, known_journal(script), 2)
    command.vm_stop.mode = mode
    answer = script.ask(command)
    assert (answer.verdict, answer.vms[0].host_state) == (HostAnswer.DONE, state)
    assert host.calls == [call]


def test_a_state_that_is_not_reached_in_time_is_no_success_and_no_refusal(
    script: Conversation, host: RecordingHost
) -> None:
    host.then["Start-VM"] = lambda _caller: host.set(state="Off")
    host.set(state="Off")
    answer = script.ask(effect("vm_start", host, known_journal(script), 2))
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")


@pytest.mark.parametrize("looks", [1, 1_000_000])
def test_a_look_that_fails_after_the_cmdlet_has_returned_is_no_refusal(
    looks: int, script: Conversation, host: RecordingHost
) -> None:
    journal = known_journal(script)
    command = create(host, journal, 2)
    command.checkpoint_create.allow_fallback = True  # the VM's own type: no Set-VM
    look_up, left = host.vm, 0

    def vm(vm_id: str) -> VmView | None:
        nonlocal left
        if left:
            left -= 1
            raise HyperVError("ObjectNotFound", "Get-VMSnapshot", "The object was not found.")
        return look_up(vm_id)

    def returned(_caller: Caller) -> None:
        nonlocal left
        left = looks

    host.then["Checkpoint-VM"] = returned
    host.vm = vm  # type: ignore[method-assign]  # the fake's own clockwork
    answer = script.ask(command)
    left = 0
    assert len(host.machines[WEB].checkpoints) == 1
    if looks == 1:
        assert answer.verdict == HostAnswer.DONE
    else:
        assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")
        assert "The last look failed: The object was not found." in answer.error.message


@pytest.mark.parametrize(
    ("state", "with_memory", "fallback", "own", "taken_as"),
    [
        ("Running", False, False, "Standard", "ProductionOnly"),
        ("Running", False, True, "Standard", "Production"),
        ("Running", True, False, "Production", "Standard"),
        ("Off", False, True, "Standard", "Standard"),
        ("Off", False, False, "Production", "Production"),
        ("Off", True, False, "Production", "Standard"),
    ],
)
def test_how_a_checkpoint_is_taken_follows_from_power_memory_and_fallback(
    state: str,
    own: str,
    taken_as: str,
    script: Conversation,
    host: RecordingHost,
    *,
    with_memory: bool,
    fallback: bool,
) -> None:
    host.set(state=state, checkpoint_type=own)
    types: list[str] = []
    host.first["Checkpoint-VM"] = lambda _caller: types.append(host.machines[WEB].checkpoint_type)
    command = create(host, known_journal(script), 2)
    command.checkpoint_create.with_memory, command.checkpoint_create.allow_fallback = with_memory, fallback
    assert script.ask(command).verdict == HostAnswer.DONE
    assert types == [taken_as]
    assert host.machines[WEB].checkpoint_type == own


@pytest.mark.parametrize(
    ("state", "with_memory", "fallback", "sets"),
    [
        ("Running", False, False, ["ProductionOnly", "Production"]),
        ("Running", False, True, []),
        ("Running", True, False, ["Standard", "Production"]),
        ("Off", False, False, []),
    ],
)
def test_create_sets_the_type_that_it_needs_and_puts_it_back(
    state: str, sets: list[str], script: Conversation, host: RecordingHost, *, with_memory: bool, fallback: bool
) -> None:
    host.set(state=state)
    command = create(host, known_journal(script), 2)
    command.checkpoint_create.with_memory, command.checkpoint_create.allow_fallback = with_memory, fallback
    answer = script.ask(command)
    assert answer.verdict == HostAnswer.DONE
    assert [call[1] for call in host.calls if call[0] == "Set-VM"] == sets
    assert answer.vms[0].checkpoint_type == "Production"
    assert [checkpoint.checkpoint_id for checkpoint in answer.vms[0].checkpoints] == [
        answer.checkpoint_create.checkpoint_id
    ]


def test_create_respects_that_checkpoints_are_disabled(script: Conversation, host: RecordingHost) -> None:
    host.set(checkpoint_type="Disabled")
    answer = script.ask(create(host, known_journal(script), 2))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "CheckpointsDisabled,snapshotd")
    assert host.calls == []


def test_create_waits_until_the_newcomer_is_listed_under_its_name(script: Conversation, host: RecordingHost) -> None:
    """Hyper-V shows it late, and first under its default name."""
    host.take(WEB, "nightly #1")  # somebody's checkpoint of the same name is no newcomer
    stages: list[tuple[CheckpointView, ...]] = []

    def show_late(_caller: Caller) -> None:
        old, new = host.machines[WEB].checkpoints
        stages.extend([(old,), (old, replace(new, name="web01 - (today)")), (old, new)])
        host.set(checkpoints=stages.pop(0))

    real_vm = host.vm

    def vm(vm_id: str) -> object:
        if stages:
            host.set(checkpoints=stages.pop(0))
        return real_vm(vm_id)

    host.then["Checkpoint-VM"] = show_late
    command = create(host, known_journal(script), 2)
    host.vm = vm  # type: ignore[method-assign, assignment]  # the fake's own clockwork
    answer = script.ask(command)
    assert answer.verdict == HostAnswer.DONE
    assert answer.checkpoint_create.checkpoint_id.lower() == host.machines[WEB].checkpoints[1].checkpoint_id.lower()


def test_a_newcomer_that_does_not_get_its_name_is_no_success(script: Conversation, host: RecordingHost) -> None:
    def unnamed(_caller: Caller) -> None:
        host.set(checkpoints=(replace(host.machines[WEB].checkpoints[0], name="web01 - (today)"),))

    host.then["Checkpoint-VM"] = unnamed
    answer = script.ask(create(host, known_journal(script), 2))
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")
    assert host.machines[WEB].checkpoint_type == "Production"


def test_the_type_is_put_back_when_the_checkpoint_failed(script: Conversation, host: RecordingHost) -> None:
    host.first["Checkpoint-VM"] = refuses("InvalidState", "Checkpoint-VM")
    answer = script.ask(create(host, known_journal(script), 2))
    assert answer.verdict == HostAnswer.NO_EFFECT
    assert host.machines[WEB].checkpoint_type == "Production"
    assert entry(host).owed_checkpoint_type == ""


def test_the_own_type_is_journalled_before_another_is_set(script: Conversation, host: RecordingHost) -> None:
    owed: list[str] = []
    host.first["Set-VM"] = lambda _caller: owed.append(entry(host).owed_checkpoint_type)
    script.ask(create(host, known_journal(script), 2))
    assert owed == ["Production", "Production"]


def test_a_type_that_is_owed_is_reported_and_put_back_by_the_next_command(
    script: Conversation, host: RecordingHost
) -> None:
    journal = known_journal(script)
    write_journal(host.journal_directory, replace(entry(host), owed_checkpoint_type="Production"))
    host.set(checkpoint_type="ProductionOnly")
    assert script.ask(look()).vms[0].checkpoint_type == "Production"
    host.set(checkpoint_type="ProductionOnly")
    assert script.ask(observe(2)).vms[0].checkpoint_type == "Production"
    assert host.machines[WEB].checkpoint_type == "Production"
    assert entry(host).owed_checkpoint_type == ""

    write_journal(host.journal_directory, replace(entry(host), owed_checkpoint_type="Disabled"))
    answer = script.ask(effect("vm_start", host, journal, 3))
    assert answer.verdict == HostAnswer.DONE
    assert host.machines[WEB].checkpoint_type == "Disabled"


def test_a_type_that_an_administrator_has_set_meanwhile_stays(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    owed = replace(entry(host), owed_checkpoint_type="Production", temporary_checkpoint_type="ProductionOnly")
    write_journal(host.journal_directory, owed)
    host.set(checkpoint_type="Disabled")
    assert script.ask(look()).vms[0].checkpoint_type == "Disabled"
    assert script.ask(observe(2)).vms[0].checkpoint_type == "Disabled"
    assert (host.calls, entry(host).owed_checkpoint_type) == ([], "")


def test_a_create_that_is_killed_owes_the_type_that_it_found_and_says_which_it_has_set(
    talk: Callable[[], Conversation], host: RecordingHost
) -> None:
    killed, other = talk(), talk()
    host.first["Checkpoint-VM"] = lambda caller: caller.kill()
    killed.send(create(host, known_journal(killed), 2))
    killed.wait_for_end()
    assert (entry(host).owed_checkpoint_type, entry(host).temporary_checkpoint_type) == ("Production", "ProductionOnly")
    assert other.ask(observe(3)).vms[0].checkpoint_type == "Production"
    assert host.machines[WEB].checkpoint_type == "Production"
    assert (entry(host).owed_checkpoint_type, entry(host).temporary_checkpoint_type) == ("", "")


def test_a_type_that_the_host_does_not_take_back_stays_owed(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    write_journal(host.journal_directory, replace(entry(host), owed_checkpoint_type="Standard"))
    host.first["Set-VM"] = refuses("InvalidState", "Set-VM")
    answer = script.ask(observe(2))
    assert (answer.verdict, answer.vms[0].checkpoint_type) == (HostAnswer.OBSERVED, "Standard")
    assert entry(host).owed_checkpoint_type == "Standard"


def test_a_restore_that_brings_another_type_back_is_followed_by_the_vms_own(
    script: Conversation, host: RecordingHost
) -> None:
    host.take(WEB, "first")
    owed: list[str] = []

    def restored(_caller: Caller) -> None:
        owed.append(entry(host).owed_checkpoint_type)
        host.set(checkpoint_type="ProductionOnly")

    host.then["Restore-VMSnapshot"] = restored
    answer = script.ask(any_effect("checkpoint_restore", host, known_journal(script), 2))
    assert (answer.verdict, answer.vms[0].host_state) == (HostAnswer.DONE, "Off")
    assert owed == ["Production"]
    assert host.machines[WEB].checkpoint_type == "Production"
    assert entry(host).owed_checkpoint_type == ""
    assert ("Start-VM",) not in host.calls


def test_remove_waits_until_the_checkpoint_is_not_listed(script: Conversation, host: RecordingHost) -> None:
    host.take(WEB, "first")
    listed = host.machines[WEB].checkpoints
    command = any_effect("checkpoint_remove", host, known_journal(script), 2)
    host.then["Remove-VMSnapshot"] = lambda _caller: host.set(checkpoints=listed)
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")


@pytest.mark.parametrize("kept", ["drives", "parent_snapshot_id"])
def test_a_restore_that_is_not_seen_to_be_applied_is_no_success(
    kept: str, script: Conversation, host: RecordingHost
) -> None:
    host.take(WEB, "first")
    host.take(WEB, "second")
    before = {kept: getattr(host.machines[WEB], kept)}
    host.then["Restore-VMSnapshot"] = lambda _caller: host.set(WEB, **before)
    answer = script.ask(any_effect("checkpoint_restore", host, known_journal(script), 2))
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")
    assert entry(host).phase == "BEGUN"


def test_a_rename_that_is_not_seen_is_no_success(script: Conversation, host: RecordingHost) -> None:
    host.take(WEB, "first")
    listed = host.machines[WEB].checkpoints
    host.then["Rename-VMSnapshot"] = lambda _caller: host.set(checkpoints=listed)
    answer = script.ask(any_effect("checkpoint_rename", host, known_journal(script), 2))
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")


def test_remove_and_rename_act_on_one_checkpoint(script: Conversation, host: RecordingHost) -> None:
    first = host.take(WEB, "first")
    host.take(WEB, "second")
    journal = known_journal(script)
    renamed = script.ask(any_effect("checkpoint_rename", host, journal, 2))
    assert [checkpoint.name for checkpoint in renamed.vms[0].checkpoints] == ["new name", "second"]
    command = any_effect("checkpoint_remove", host, journal, 3)
    command.step = 2
    removed = script.ask(command)
    assert [checkpoint.name for checkpoint in removed.vms[0].checkpoints] == ["second"]
    assert host.calls == [("Rename-VMSnapshot", first), ("Remove-VMSnapshot", first)]


@pytest.mark.parametrize("action", ["checkpoint_restore", "checkpoint_remove", "checkpoint_rename"])
def test_a_checkpoint_of_another_vm_is_not_acted_on(action: str, script: Conversation, host: RecordingHost) -> None:
    host.take(WEB, "ours")
    theirs = host.take(OTHER, "theirs")
    command = any_effect(action, host, known_journal(script), 2)
    getattr(command, action).checkpoint_id = theirs
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "CheckpointNotFound,snapshotd")
    assert host.calls == []
    assert read_journal(host.journal_directory, OTHER) is None
