"""TAKE_OVER: an installation becomes the owner of a host's journals, if the one that it names is it now."""

from __future__ import annotations

import json

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, VmStop
from snapshotd.simulator.journal import read_journal
from snapshotd.simulator.ownership import Ownership, read_host, write_host
from tests.host_script.conversation import INSTALLATION, Conversation
from tests.host_script.host_commands import effect, known_journal, look, observe
from tests.host_script.recording_host import WEB, RecordingHost

NEW = "installation-2"


def take_over(former: str, installation: str = NEW) -> HostCommand:
    """Write a take-over from the installation that is named."""
    return HostCommand(
        protocol=1, kind=HostCommand.TAKE_OVER, installation_id=installation, former_installation_id=former
    )


def of(installation: str, command: HostCommand) -> HostCommand:
    """Return a command as another installation sends it."""
    command.installation_id = installation
    return command


def test_the_new_owner_works_and_the_former_one_is_refused(script: Conversation, host: RecordingHost) -> None:
    journal_id = known_journal(script)
    answer = script.ask(take_over(INSTALLATION))
    assert (answer.verdict, answer.host.installation_id) == (HostAnswer.DONE, NEW)
    assert list(answer.host.former_installation_ids) == [INSTALLATION]
    assert not answer.vms
    late = effect("vm_stop", host, journal_id, 2)
    late.vm_stop.mode = VmStop.TURN_OFF
    for command in (observe(3), late):
        refused = script.ask(command)
        assert (refused.verdict, refused.host.installation_id) == (HostAnswer.FOREIGN_INSTALLATION, NEW)
    assert script.ask(of(NEW, observe(2))).verdict == HostAnswer.OBSERVED
    assert script.ask(of(NEW, late)).verdict == HostAnswer.STALE  # the journals go on: their tokens only grow


def test_a_repetition_changes_nothing(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    for former in (INSTALLATION, INSTALLATION, "anything"):
        assert script.ask(take_over(former)).verdict == HostAnswer.DONE
        assert read_host(host.journal_directory) == Ownership(NEW, (INSTALLATION,))


def test_of_two_that_take_it_from_the_same_one_the_first_has_it(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    assert script.ask(take_over(INSTALLATION)).verdict == HostAnswer.DONE
    second = script.ask(take_over(INSTALLATION, "installation-3"))
    assert (second.verdict, second.host.installation_id) == (HostAnswer.FOREIGN_INSTALLATION, NEW)
    assert script.ask(take_over(NEW, "installation-3")).verdict == HostAnswer.DONE
    assert read_host(host.journal_directory) == Ownership("installation-3", (NEW, INSTALLATION))


def test_one_that_takes_it_back_is_a_former_one_no_longer(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    script.ask(take_over(INSTALLATION))
    back = script.ask(take_over(NEW, INSTALLATION))
    assert (back.verdict, list(back.host.former_installation_ids)) == (HostAnswer.DONE, [NEW])
    # What is written over something longer ends where it ends.
    json.loads((host.journal_directory / "host.json").read_text())
    assert script.ask(observe(5)).verdict == HostAnswer.OBSERVED


def test_a_host_that_nobody_owns_gets_an_owner(script: Conversation, host: RecordingHost) -> None:
    answer = script.ask(take_over(""))
    assert (answer.verdict, list(answer.host.former_installation_ids)) == (HostAnswer.DONE, [])
    assert read_host(host.journal_directory) == Ownership(NEW)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"v":2,"installation_id":"x"}', '{"v":1}', "x" * 3000])
def test_a_host_json_that_cannot_be_understood_is_written_anew(
    content: str, script: Conversation, host: RecordingHost
) -> None:
    host.journal_directory.mkdir()
    (host.journal_directory / "host.json").write_text(content)
    assert script.ask(of(NEW, observe(1))).verdict == HostAnswer.FOREIGN_INSTALLATION
    assert script.ask(take_over("installation-0")).verdict == HostAnswer.FOREIGN_INSTALLATION
    assert script.ask(take_over("")).verdict == HostAnswer.DONE
    assert read_host(host.journal_directory) == Ownership(NEW)
    assert script.ask(of(NEW, observe(1))).verdict == HostAnswer.OBSERVED


def test_an_owner_is_not_named_by_nothing(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    assert script.ask(take_over("")).verdict == HostAnswer.FOREIGN_INSTALLATION
    assert read_host(host.journal_directory) == Ownership(INSTALLATION)


def test_it_touches_no_journal_and_waits_for_no_mutex(script: Conversation, host: RecordingHost) -> None:
    known_journal(script)
    before = read_journal(host.journal_directory, WEB)
    script.ask(take_over(INSTALLATION))
    assert read_journal(host.journal_directory, WEB) == before
    assert host.calls == []


def test_a_report_tells_the_owner_and_the_former_ones(script: Conversation) -> None:
    assert not script.ask(look()).host.former_installation_ids
    known_journal(script)
    script.ask(take_over(INSTALLATION))
    told = script.ask(look()).host
    assert (told.installation_id, list(told.former_installation_ids)) == (NEW, [INSTALLATION])


def test_former_installations_that_are_no_texts_are_left_out(script: Conversation, host: RecordingHost) -> None:
    write_host(host.journal_directory, INSTALLATION)
    path = host.journal_directory / "host.json"
    for former, told in (('[1,"a",null]', ["a"]), ('"b"', []), ("{}", [])):
        path.write_text(f'{{"v":1,"installation_id":"{INSTALLATION}","former_installation_ids":{former}}}')
        assert list(script.ask(look()).host.former_installation_ids) == told


def test_it_needs_an_installation(script: Conversation) -> None:
    answer = script.ask(take_over(INSTALLATION, ""))
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "InvalidCommand,snapshotd")
