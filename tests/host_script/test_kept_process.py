"""The kept process: what it accepts, its lines, its death, and the mutex that it leaves behind."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import HostAnswer
from snapshotd.domain.state import replace
from snapshotd.simulator.builtin import BuiltinEngine, BuiltinProcess
from snapshotd.simulator.hypervisor import ScriptKilled, VmView
from snapshotd.simulator.journal import journal_path, write_journal
from snapshotd.simulator.mutexes import NamedMutexes
from snapshotd.simulator.needs import Engine
from tests.host_script.conversation import ACCEPTED, PATIENCE_S, SCRIPT, SHA, Conversation, NoLine, read_to_the_end
from tests.host_script.host_commands import create, effect, entry, known_journal, look, observe
from tests.host_script.recording_host import OTHER, WEB, Gate, RecordingHost, refuses

Talk = Callable[[], Conversation]

builtin_only = pytest.mark.parametrize("engine", ["builtin"], indirect=True)
"""For what is the builtin engine's own affair."""

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def join(script: Conversation) -> None:
    """Wait until the process's thread has ended too."""
    for thread in threading.enumerate():
        if thread.name == f"host-script-{script.process.pid}":
            thread.join(5)
            assert not thread.is_alive()


@builtin_only
def test_a_foreign_command_line_is_told_what_this_engine_runs(engine: Engine) -> None:
    process = engine.start("powershell.exe -EncodedCommand RwBlAHQALQBWAE0A")
    stdout, stderr, exit_code = process.read(5)
    assert (stdout, exit_code) == (b"", 1)
    assert b"only the host script of its own release" in stderr
    assert b"--engine pwsh" in stderr


def test_another_host_script_is_a_mismatch(engine: Engine) -> None:
    process = engine.start(ACCEPTED.command_line)
    process.write_stdin(base64.b64encode(b"Get-VM") + b"\r\n")
    stdout, _, exit_code = read_to_the_end(process)
    got = hashlib.sha256(b"Get-VM").hexdigest()
    assert (stdout.strip(), exit_code) == (f"MISMATCH {got}".encode(), 1)


@builtin_only
def test_a_mismatch_names_both_scripts(engine: Engine) -> None:
    process = engine.start(ACCEPTED.command_line)
    process.write_stdin(base64.b64encode(b"Get-VM") + b"\r\n")
    _, stderr, _ = read_to_the_end(process)
    assert hashlib.sha256(b"Get-VM").hexdigest().encode() in stderr
    assert SHA.encode() in stderr


def test_a_first_line_that_is_no_base64_ends_the_process(engine: Engine) -> None:
    process = engine.start(ACCEPTED.command_line)
    process.write_stdin(b"Get-VM!\r\n")
    stdout, stderr, exit_code = read_to_the_end(process)
    assert (stdout, exit_code) == (b"", 1)
    assert stderr != b""


def test_the_script_may_come_in_pieces(engine: Engine) -> None:
    process = engine.start(ACCEPTED.command_line)
    line = base64.b64encode(SCRIPT) + b"\r\n"
    for start in range(0, len(line), 1007):
        process.write_stdin(line[start : start + 1007])
    process.close_stdin()
    assert read_to_the_end(process)[0].strip() == f"READY {SHA}".encode()


@pytest.mark.parametrize("loaded", [True, False])
def test_the_end_of_input_is_exit_code_0(engine: Engine, talk: Talk, *, loaded: bool) -> None:
    process = talk().process if loaded else engine.start(ACCEPTED.command_line)
    process.close_stdin()
    assert read_to_the_end(process) == (b"", b"", 0)


def test_commands_sent_before_the_end_of_input_are_still_answered(script: Conversation) -> None:
    script.send(look())
    script.send(look(vm=""))
    script.process.close_stdin()
    assert script.answer().vms[0].vm_id == WEB
    assert len(script.answer().vms) == 2
    assert script.wait_for_end() == 0


@pytest.mark.parametrize(
    "line",
    [
        b"!",
        base64.b64encode(b"[]"),
        base64.b64encode(b"{"),
        base64.b64encode(b'{"kind":"REPORT"}'),
        base64.b64encode(b'{"protocol":1,"kind":"FORMAT"}'),
        base64.b64encode(b'{"protocol":1,"kind":"POLL"}'),
        base64.b64encode(b'{"protocol":1,"kind":"REPORT","vm_id":"../../etc/passwd"}'),
        base64.b64encode(f'{{"protocol":1,"kind":"OBSERVE","vm_id":"{WEB}"}}'.encode()),
        base64.b64encode(f'{{"protocol":1,"kind":"REPORT","vm_id":"{WEB}\\n"}}'.encode()),
        base64.b64encode(f'{{"protocol":1,"kind":"POLL","vm_id":"{WEB}","watched_files":[""]}}'.encode()),
        base64.b64encode(
            f'{{"protocol":1,"kind":"OBSERVE","vm_id":"{WEB}","installation_id":"i","operation":"o","token":"x"}}'.encode()
        ),
        *(
            base64.b64encode(
                f'{{"protocol":1,"kind":"EFFECT","vm_id":"{WEB}","installation_id":"i","operation":"o"{action}}}'.encode()
            )
            for action in (
                "",
                ',"vm_start":null',
                ',"vm_start":1',
                ',"vm_fly":{}',
                ',"vm_start":{},"vm_stop":{"mode":"SAVE"}',
                ',"vm_stop":{}',
                ',"vm_stop":{"mode":"turn_off"}',
                ',"checkpoint_create":{}',
                ',"checkpoint_create":{"checkpoint_name":"n","with_memory":"false"}',
                ',"checkpoint_create":{"checkpoint_name":"n","allow_fallback":1}',
                ',"checkpoint_rename":{"checkpoint_id":"c"}',
                ',"checkpoint_rename":{"checkpoint_name":"n"}',
                ',"checkpoint_restore":{}',
                ',"checkpoint_remove":{}',
                ',"CHECKPOINT_create":{"checkpoint_name":"n"}',
                ',"vmStart":{}',
                ',"checkpoint_create":{"Checkpoint_Name":"n"}',
                ',"checkpoint_create":{"checkpoint_name":null}',
                ',"checkpoint_create":{"checkpoint_name":5}',
                ',"checkpoint_create":{"checkpoint_name":["n"]}',
                ',"checkpoint_remove":{"checkpoint_id":""}',
                ',"checkpoint_remove":{"checkpoint_id":5}',
                ',"checkpoint_restore":{"checkpoint_id":["c"]}',
                ',"vm_stop":{"mode":["SAVE"]}',
                ',"vm_stop":{"mode":3}',
                ',"vm_stop":{"mode":"3"}',
                ',"vm_start":[]',
                ',"vm_start":"x"',
                ',"vm_start":5',
                ',"vm_start":[],"vm_stop":{"mode":"SAVE"}',
                ',"vm_start":{},"before":[]',
                ',"vm_start":{},"VM_START":{}',
                ',"vm_configure":{}',
                ',"vm_configure":{"cpu_count":0}',
                ',"vm_configure":{"cpu_count":2,"memory_bytes":"2097152"}',
                ',"vm_configure":{"cpu_count":"two"}',
                ',"vm_configure":{"dynamic_memory":"true"}',
                ',"vm_configure":{"cpu_count":2,"dynamic_memory":false}',
            )
        ),
        *(
            base64.b64encode(
                f'{{"protocol":1,"kind":"OBSERVE","vm_id":"{WEB}","installation_id":"i","operation":"o"{action}}}'.encode()
            )
            for action in (
                ',"vm_start":[]',
                ',"vm_start":"x"',
                ',"checkpoint_remove":{"checkpoint_id":5}',
                ',"checkpoint_create":{"with_memory":"false"}',
                ',"vm_stop":{"mode":3}',
            )
        ),
        base64.b64encode(f'{{"protocol":1,"kind":1,"vm_id":"{WEB}"}}'.encode()),
        base64.b64encode(f'{{"protocol":1,"kind":["POLL"],"vm_id":"{WEB}"}}'.encode()),
        base64.b64encode(f'{{"protocol":1,"kind":"POLL","vm_id":["{WEB}"]}}'.encode()),
        base64.b64encode(f'{{"protocol":1,"kind":"POLL","vm_id":"{WEB}","watched_files":[5]}}'.encode()),
    ],
    ids=(f"line{n}" for n in itertools.count()),  # the lines differ in every process: WEB is a new id
)
def test_a_line_that_is_no_command_is_answered_and_harmless(
    line: bytes, script: Conversation, host: RecordingHost
) -> None:
    script.process.write_stdin(line + b"\r\n")
    answer = script.answer()
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "InvalidCommand,snapshotd")
    assert script.ask(look()).verdict == HostAnswer.REPORTED
    assert list(host.journal_directory.glob("*")) == []


def test_unknown_fields_and_numbers_as_strings_are_read(script: Conversation) -> None:
    document = (
        f'{{"protocol":1,"kind":"OBSERVE","vm_id":"{WEB}","installation_id":"i","operation":"o","token":"7","x":{{}}}}'
    )
    script.process.write_stdin(base64.b64encode(document.encode()) + b"\r\n")
    assert script.answer().vms[0].journal.highest_token == 7


def test_a_field_whose_name_is_in_another_letter_case_is_unknown(script: Conversation, host: RecordingHost) -> None:
    command = create(host, known_journal(script), 2)
    document = json_format.MessageToDict(command, preserving_proto_field_name=True)
    document["checkpoint_create"]["With_Memory"] = True
    document |= {"VM_STOP": {"mode": "SAVE"}, "Time_Left_Ms": -1}
    script.process.write_stdin(base64.b64encode(json.dumps(document).encode()) + b"\r\n")
    assert (script.answer().verdict, host.machines[WEB].checkpoints[0].has_memory) == (HostAnswer.DONE, False)


def test_a_journal_that_cannot_be_written_is_answered(script: Conversation, host: RecordingHost) -> None:
    host.journal_directory.write_text("a file stands where the directory should be")
    answer = script.ask(observe(1))
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "JournalFailed,snapshotd")


def test_a_directory_in_the_journals_place_is_answered(script: Conversation, host: RecordingHost) -> None:
    journal_path(host.journal_directory, WEB).mkdir(parents=True)
    for command in (look(), observe(1)):
        answer = script.ask(command)
        assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "JournalFailed,snapshotd")


def test_the_command_may_name_the_journals_directory(script: Conversation, host: RecordingHost) -> None:
    command = observe(1)
    command.journal_directory = str(host.journal_directory.with_name("elsewhere"))
    assert script.ask(command).host.installation_id == command.installation_id
    assert not host.journal_directory.exists()


def test_an_operation_that_does_not_fit_the_journal_is_no_command(script: Conversation) -> None:
    command = observe(1)
    command.operation = "operations/" + "ü" * 489
    assert script.ask(command).verdict == HostAnswer.OBSERVED
    command.operation += "ü"
    assert script.ask(command).error.id == "InvalidCommand,snapshotd"


@builtin_only
def test_a_bug_in_the_script_ends_the_process_and_is_shown(
    script: Conversation, host: RecordingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def broken(vm_id: str) -> VmView | None:
        raise RuntimeError("a bug")

    host.vm = broken  # type: ignore[method-assign]  # the fake's own clockwork
    script.send(look())
    assert script.wait_for_end() == 1
    assert b"failed" in script.stderr
    join(script)
    assert [str(each.exc_value) for each in shown] == ["a bug"]


# --- death ------------------------------------------------------------------------------------------------------------


def test_a_killed_script_answers_nothing_and_writes_nothing_more(script: Conversation, host: RecordingHost) -> None:
    gate = host.then["Checkpoint-VM"] = Gate()
    script.send(create(host, known_journal(script), 2))
    assert gate.reached.wait(5)
    script.process.kill()
    gate.opened.set()
    with pytest.raises(NoLine):
        script.answer()
    assert script.exit_code == 1
    assert entry(host).phase == "BEGUN"
    assert entry(host).owed_checkpoint_type == "Production"
    script.process.write_stdin(b"lost\r\n")
    script.process.kill()
    assert script.process.read(0) == (b"", b"", 1)


def test_a_script_may_be_killed_from_within_its_own_call(script: Conversation, host: RecordingHost) -> None:
    host.then["Checkpoint-VM"] = lambda caller: caller.kill()
    script.send(create(host, known_journal(script), 2))
    assert script.wait_for_end() == 1
    assert len(host.machines[WEB].checkpoints) == 1
    assert entry(host).phase == "BEGUN"


@builtin_only
def test_a_script_that_dies_between_two_calls_writes_nothing_more(script: Conversation, host: RecordingHost) -> None:
    command = create(host, known_journal(script), 2)
    # The VM's own type: no Set-VM, which would notice, stands between the checkpoint and the journal.
    command.checkpoint_create.allow_fallback = True
    look_up = host.vm

    def dies_looking(vm_id: str) -> VmView | None:
        if host.machines[WEB].checkpoints:
            script.process.kill()
        return look_up(vm_id)

    host.vm = dies_looking  # type: ignore[method-assign]  # the fake's own clockwork
    script.send(command)
    assert script.wait_for_end() == 1
    join(script)
    assert entry(host).phase == "BEGUN"
    assert script.process.read(0)[0] == b""


def test_a_killed_script_that_waits_for_a_result_is_gone(host: RecordingHost) -> None:
    script = Conversation(BuiltinEngine(host, ACCEPTED))
    polls = threading.Event()
    host.then["Checkpoint-VM"] = lambda _caller: host.set(checkpoints=())
    command = create(host, known_journal(script), 2)
    look_up = host.vm

    def waiting(vm_id: str) -> VmView | None:
        if ("Checkpoint-VM", "nightly #1") in host.calls:
            polls.set()
        return look_up(vm_id)

    host.vm = waiting  # type: ignore[method-assign]  # the fake's own clockwork
    script.send(command)
    assert polls.wait(5)
    script.process.kill()
    join(script)
    assert entry(host).phase == "BEGUN"


def test_the_mutex_of_a_killed_script_is_taken_over(talk: Talk, host: RecordingHost) -> None:
    """At once: the thread of the dead one may hang in the hypervisor for long."""
    first, second = talk(), talk()
    gate = host.then["Checkpoint-VM"] = Gate(notices_death=False)
    first.send(create(host, known_journal(first), 2))
    assert gate.reached.wait(5)
    first.process.kill()
    answer = second.ask(observe(3))
    assert answer.verdict == HostAnswer.OBSERVED
    assert [checkpoint.name for checkpoint in answer.vms[0].checkpoints] == ["nightly #1"]
    gate.opened.set()


def test_a_vm_that_another_script_holds_is_busy_and_can_still_be_read(talk: Talk, host: RecordingHost) -> None:
    first, second = talk(), talk()
    gate = host.first["Checkpoint-VM"] = Gate()
    first.send(create(host, known_journal(first), 2))
    assert gate.reached.wait(5)
    upper = observe(3)
    upper.vm_id = WEB.upper()
    assert second.ask(upper).verdict == HostAnswer.BUSY
    assert second.ask(look()).verdict == HostAnswer.REPORTED
    assert second.ask(observe(1, vm=OTHER)).verdict == HostAnswer.OBSERVED
    gate.opened.set()
    assert first.answer().verdict == HostAnswer.DONE


def test_a_script_waits_for_the_mutex_before_it_says_busy(host: RecordingHost) -> None:
    patient = BuiltinEngine(host, ACCEPTED)
    first, second = Conversation(patient), Conversation(patient)
    gate = host.first["Checkpoint-VM"] = Gate()
    first.send(create(host, known_journal(first), 2))
    assert gate.reached.wait(5)
    second.send(observe(3))
    second.collect(0.1)
    assert second.stdout == b""
    gate.opened.set()
    assert second.answer().verdict == HostAnswer.OBSERVED
    assert first.answer().verdict == HostAnswer.DONE
    first.process.kill()
    second.process.kill()


def held(first: Conversation, host: RecordingHost, deadline: datetime) -> None:
    """Let a script hold the VM in the middle of an effect with that deadline."""
    gate = host.first["Checkpoint-VM"] = Gate()
    command = create(host, known_journal(first), 2)
    command.deadline.FromDatetime(deadline)
    first.send(command)
    assert gate.reached.wait(5)


def test_a_script_over_its_deadline_is_ended(talk: Talk, host: RecordingHost) -> None:
    first, second = talk(), talk()
    held(first, host, datetime.now(UTC) - timedelta(seconds=1))
    assert second.ask(observe(3)).verdict == HostAnswer.OBSERVED
    assert first.wait_for_end() == 1


def test_a_script_within_its_deadline_is_left_alone(talk: Talk, host: RecordingHost) -> None:
    first, second = talk(), talk()
    held(first, host, datetime.now(UTC) + timedelta(minutes=1))
    assert second.ask(observe(3)).verdict == HostAnswer.BUSY
    assert not first.process.killed


def test_a_script_is_ended_by_an_observation_that_gives_its_step_up(talk: Talk, host: RecordingHost) -> None:
    first, second = talk(), talk()
    held(first, host, datetime.now(UTC) + timedelta(minutes=1))
    command = observe(3)
    command.ends_script = True
    assert second.ask(command).verdict == HostAnswer.OBSERVED
    assert first.wait_for_end() == 1
    assert entry(host).phase == "BEGUN"


def test_a_script_that_works_on_another_step_is_not_given_up(talk: Talk, host: RecordingHost) -> None:
    first, second = talk(), talk()
    held(first, host, datetime.now(UTC) + timedelta(minutes=1))
    command = observe(3, step=2)
    command.ends_script = True
    assert second.ask(command).verdict == HostAnswer.BUSY
    assert not first.process.killed


def test_a_deadline_is_by_the_hosts_own_clock(talk: Talk, host: RecordingHost) -> None:
    first, second = talk(), talk()
    gate = host.first["Checkpoint-VM"] = Gate()
    command = create(host, known_journal(first), 2)
    command.deadline.FromDatetime(LONG_AGO)
    command.time_left_ms = 60_000
    first.send(command)
    assert gate.reached.wait(PATIENCE_S)
    left = (entry(host).deadline or LONG_AGO) - datetime.now(UTC)
    assert timedelta(seconds=30) < left <= timedelta(minutes=1)
    assert second.ask(observe(3)).verdict == HostAnswer.BUSY
    assert not first.process.killed


def test_a_process_of_the_same_pid_and_another_start_is_left_alone(talk: Talk, host: RecordingHost) -> None:
    """The journal may be older than this host's processes."""
    first, second = talk(), talk()
    held(first, host, LONG_AGO)
    write_journal(host.journal_directory, replace(entry(host), pid_started="2026-01-01T00:00:00Z"))
    assert second.ask(observe(3)).verdict == HostAnswer.BUSY
    assert not first.process.killed


def test_a_step_that_is_done_names_nobody_to_end(talk: Talk, host: RecordingHost) -> None:
    first, second = talk(), talk()
    held(first, host, LONG_AGO)
    write_journal(host.journal_directory, replace(entry(host), phase="DONE"))
    assert second.ask(observe(3)).verdict == HostAnswer.BUSY
    assert not first.process.killed


def left(first: Conversation, host: RecordingHost, end: str) -> HostAnswer:
    """Let a script end a start that is overdue, and not done, in some way."""
    journal = known_journal(first)
    host.set(state="Off")
    if end == "NotReached":
        host.then["Start-VM"] = lambda _caller: host.set(state="Off")
    else:
        host.first["Start-VM"] = refuses("InvalidState" if end == "NO_EFFECT" else "OperationFailed", "Start-VM")
    command = effect("vm_start", host, journal, 2)
    command.deadline.FromDatetime(LONG_AGO)
    return first.ask(command)


@pytest.mark.parametrize("end", ["NO_EFFECT", "FAILED", "NotReached"])
def test_an_effect_that_ends_undone_names_no_process_any_more(
    end: str, script: Conversation, host: RecordingHost
) -> None:
    answer = left(script, host, end)
    assert end in {HostAnswer.Verdict.Name(answer.verdict), answer.error.id.partition(",")[0]}
    assert (entry(host).pid, entry(host).pid_started) == (0, "")
    assert entry(host).phase == ("" if end == "NO_EFFECT" else "BEGUN")


def test_a_script_that_has_gone_on_to_another_vm_is_not_ended_for_the_step_that_it_left(
    talk: Talk, host: RecordingHost
) -> None:
    first, second, third = talk(), talk(), talk()
    other_journal = known_journal(first, vm=OTHER)
    assert left(first, host, "NO_EFFECT").verdict == HostAnswer.NO_EFFECT
    at_work = host.first["Start-VM"] = Gate()
    first.send(effect("vm_start", host, other_journal, 2, vm=OTHER))
    assert at_work.reached.wait(PATIENCE_S)
    looking, look_up = Gate(), host.vm

    def slow(vm_id: str) -> VmView | None:
        if vm_id == WEB and not looking.opened.is_set():
            looking(second.process)
        return look_up(vm_id)

    host.vm = slow  # type: ignore[method-assign]  # the fake's own clockwork
    second.send(observe(3))
    assert looking.reached.wait(PATIENCE_S)
    assert third.ask(observe(4)).verdict == HostAnswer.BUSY
    looking.opened.set()
    at_work.opened.set()
    assert first.answer().verdict == HostAnswer.DONE
    assert second.answer().verdict == HostAnswer.OBSERVED


@builtin_only
def test_a_script_never_ends_itself(talk: Talk, host: RecordingHost) -> None:
    """It may have begun the step that the journal names, without effect, before it got its present command."""
    first, second = talk(), talk()
    held(first, host, LONG_AGO)
    assert isinstance(second.process, BuiltinProcess)
    mine = replace(entry(host), pid=second.process.pid, pid_started=second.process.started)
    write_journal(host.journal_directory, mine)
    assert second.ask(observe(3)).verdict == HostAnswer.BUSY
    assert not first.process.killed


def test_processes_have_ids_of_their_own(talk: Talk) -> None:
    assert talk().process.pid != talk().process.pid


def test_a_dead_script_does_not_get_a_mutex_that_becomes_free(talk: Talk) -> None:
    mutexes = NamedMutexes()
    first, second = talk().process, talk().process
    assert mutexes.acquire("m", first, 0)
    second.kill()
    mutexes.release("m", first)
    with pytest.raises(ScriptKilled):
        mutexes.acquire("m", second, 5)


def test_releasing_what_another_owns_by_now_changes_nothing(talk: Talk) -> None:
    mutexes = NamedMutexes()
    first, second = talk().process, talk().process
    assert mutexes.acquire("m", first, 0)
    mutexes.abandon(first)
    assert mutexes.acquire("m", second, 0)
    mutexes.release("m", first)
    assert not mutexes.acquire("m", first, 0)
