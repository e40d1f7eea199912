"""vm_configure: processors, or memory, by one cmdlet, and nothing that was not named."""

from __future__ import annotations

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer
from tests.host_script.conversation import Conversation
from tests.host_script.host_commands import effect, entry, known_journal
from tests.host_script.recording_host import WEB, RecordingHost, refuses


def test_processors_are_set_and_reported(script: Conversation, host: RecordingHost) -> None:
    command = effect("vm_configure", host, known_journal(script), 2)
    command.vm_configure.cpu_count = 4
    answer = script.ask(command)
    assert (answer.verdict, answer.vms[0].offering.cpu_count) == (HostAnswer.DONE, 4)
    assert host.calls == [("Set-VMProcessor", "4")]


def test_of_memory_only_what_is_named_is_set_by_one_cmdlet(script: Conversation, host: RecordingHost) -> None:
    host.set(WEB, dynamic_memory=True)
    journal = known_journal(script)
    command = effect("vm_configure", host, journal, 2)
    command.vm_configure.memory_bytes, command.vm_configure.maximum_bytes = 3 << 29, 4 << 30
    answer = script.ask(command)
    assert answer.verdict == HostAnswer.DONE
    (call,) = host.calls
    assert (call[0], set(call[1:])) == ("Set-VMMemory", {"memory_bytes", "maximum_bytes"})
    told = answer.vms[0].offering
    assert (told.memory_bytes, told.maximum_bytes, told.minimum_bytes) == (3 << 29, 4 << 30, 1 << 29)
    assert told.dynamic_memory


@pytest.mark.parametrize("dynamic", [True, False])
def test_dynamic_memory_is_switched_on_and_off(dynamic: bool, script: Conversation, host: RecordingHost) -> None:  # noqa: FBT001  (a parameter)
    host.set(WEB, dynamic_memory=not dynamic)
    command = effect("vm_configure", host, known_journal(script), 2)
    command.vm_configure.dynamic_memory = dynamic
    answer = script.ask(command)
    assert answer.verdict == HostAnswer.DONE
    assert host.calls == [("Set-VMMemory", "dynamic_memory")]
    assert host.machines[WEB].dynamic_memory is dynamic


@pytest.mark.parametrize(("of", "cmdlet"), [("cpu_count", "Set-VMProcessor"), ("memory_bytes", "Set-VMMemory")])
def test_what_does_not_show_is_no_success(of: str, cmdlet: str, script: Conversation, host: RecordingHost) -> None:
    known = {of: getattr(host.machines[WEB], of)}
    host.then[cmdlet] = lambda _caller: host.set(WEB, **known)
    command = effect("vm_configure", host, known_journal(script), 2)
    setattr(command.vm_configure, of, 2 * known[of])
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "NotReached,snapshotd")
    assert entry(host).phase == "BEGUN"


def test_a_refusal_has_changed_nothing(script: Conversation, host: RecordingHost) -> None:
    host.first["Set-VMMemory"] = refuses("InvalidState", "Set-VMMemory")
    command = effect("vm_configure", host, known_journal(script), 2)
    command.vm_configure.memory_bytes = 4 << 30
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id.split(",")[0]) == (HostAnswer.NO_EFFECT, "InvalidState")
    assert entry(host).phase == ""
