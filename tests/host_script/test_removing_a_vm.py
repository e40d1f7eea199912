"""vm_remove: the VM goes, and what is told of it afterwards."""

from __future__ import annotations

from snapshotd.api.v1.executor_pb2 import ABSENT, HostAnswer, HostCommand
from tests.host_script.conversation import Conversation
from tests.host_script.host_commands import any_effect, entry, known_journal, look, observe
from tests.host_script.recording_host import OTHER, WEB, RecordingHost, refuses


def removed(script: Conversation, host: RecordingHost) -> HostCommand:
    """Return the effect that removes the VM, which is off."""
    host.set(state="Off")
    return any_effect("vm_remove", host, known_journal(script), 2)


def test_the_vm_goes_and_its_files_and_its_journal_stay(script: Conversation, host: RecordingHost) -> None:
    disk, command = host.machines[WEB].drives[0].path, removed(script, host)
    answer = script.ask(command)
    assert (answer.verdict, answer.vms[0].present, answer.vms[0].power) == (HostAnswer.DONE, False, ABSENT)
    assert set(host.machines) == {OTHER}
    assert host.exists(disk)
    assert answer.vms[0].journal.phase == answer.vms[0].journal.DONE


def test_sent_again_it_is_done_and_removes_nothing_else(script: Conversation, host: RecordingHost) -> None:
    command = removed(script, host)
    script.ask(command)
    calls = list(host.calls)
    again = script.ask(command)
    assert (again.verdict, again.vms[0].present, host.calls) == (HostAnswer.DONE, False, calls)


def test_one_that_was_lost_is_answered_by_an_observation(script: Conversation, host: RecordingHost) -> None:
    script.ask(removed(script, host))
    answer = script.ask(observe(3, "vm_remove"))
    assert (answer.verdict, answer.vms[0].present) == (HostAnswer.OBSERVED, False)
    assert answer.vms[0].journal.phase == answer.vms[0].journal.DONE


def test_a_vm_that_is_still_there_is_no_success(script: Conversation, host: RecordingHost) -> None:
    command = removed(script, host)
    view = host.machines[WEB]
    host.then["Remove-VM"] = lambda _caller: host.machines.update({WEB: view})
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")


def test_a_refusal_has_changed_nothing(script: Conversation, host: RecordingHost) -> None:
    command = removed(script, host)
    host.first["Remove-VM"] = refuses("InvalidState", "Remove-VM")
    answer = script.ask(command)
    assert (answer.verdict, answer.vms[0].present) == (HostAnswer.NO_EFFECT, True)
    assert entry(host).phase == ""


def test_a_report_tells_that_it_is_gone(script: Conversation, host: RecordingHost) -> None:
    script.ask(removed(script, host))
    answer = script.ask(look())
    assert (answer.vms[0].present, answer.vms[0].journal.highest_token) == (False, 2)
