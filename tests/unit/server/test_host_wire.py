"""Orders become commands and answers become the core's words without anything lost or made up."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import DiskFile, HostJob, JobState, JournalState, Unread, Verdict
from snapshotd.domain.ids import ActionName, CheckpointId, HostId, OperationName, VmId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.offering import Offering
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.server import host_wire
from snapshotd.server.host_wire import ProtocolViolation, from_outcome, to_command
from snapshotd.steps.action import FACTS, Action
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, REMOVE, RENAME, RESTORE, STOP

VM = "11111111-2222-3333-4444-555555555555"
OTHER_VM = "22222222-2222-3333-4444-555555555555"
CHECKPOINT = CheckpointId("aaaaaaaa-2222-3333-4444-555555555555")
DEADLINE = datetime(2026, 1, 1, 12, tzinfo=UTC)
EFFECT = Order(
    kind=OrderKind.EFFECT,
    host_id=HostId("hv01"),
    deadline=DEADLINE,
    vm_id=VmId(VM),
    operation=OperationName(f"operations/{VM}.1"),
    step=1,
    action=CREATE,
    token=17,
    journal_id="j",
    before={"power": "RUNNING", "checkpoint_ids": [CHECKPOINT], "current_checkpoint_id": CHECKPOINT},
    input={"checkpoint_name": "n #1", "with_memory": False, "allow_fallback": True},
)
SENT = [action for action in ACTIONS.values() if not action.polls]
every_sent = pytest.mark.parametrize("action", SENT, ids=lambda action: action.name)


def test_an_effect_carries_fence_journal_and_before() -> None:
    command = to_command(EFFECT, "installation", "C:\\j")
    assert (command.protocol, command.kind) == (1, pb.HostCommand.EFFECT)
    assert (command.installation_id, command.journal_directory) == ("installation", "C:\\j")
    assert (command.vm_id, command.operation, command.step) == (VM, f"operations/{VM}.1", 1)
    assert (command.token, command.journal_id) == (17, "j")
    assert command.deadline.ToDatetime(tzinfo=UTC) == DEADLINE
    assert command.before.power == pb.RUNNING
    assert list(command.before.checkpoint_ids) == [CHECKPOINT]
    assert command.before.current_checkpoint_id == CHECKPOINT
    create = command.checkpoint_create
    assert (create.checkpoint_name, create.with_memory, create.allow_fallback) == ("n #1", False, True)


def names(message: type[Message] | Descriptor | None) -> set[str]:
    """Return the names of a message's fields; none for none."""
    if message is None:
        return set()
    return set((message if isinstance(message, Descriptor) else message.DESCRIPTOR).fields_by_name)


@every_sent
def test_every_action_has_a_message_with_the_fields_of_its_input(action: Action) -> None:
    field = pb.HostCommand.DESCRIPTOR.oneofs_by_name["action"].fields
    (message,) = [f.message_type for f in field if f.name == action.name]
    of_input = {f.name for f in fields(action.input.cls)}  # type: ignore[arg-type]  # a dataclass
    assert names(message) == of_input - action.unsent
    assert action.unsent <= of_input


@every_sent
def test_every_action_depends_on_facts_that_the_wire_has(action: Action) -> None:
    facts = {f.name for f in fields(action.facts.cls)}  # type: ignore[arg-type]
    assert facts & set(FACTS) or not action.needs_vm
    assert set(FACTS) == names(pb.Before)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.name)
def test_every_action_with_an_output_has_a_message_with_its_fields(action: Action) -> None:
    outputs = {f.name: f.message_type for f in pb.HostAnswer.DESCRIPTOR.oneofs_by_name["output"].fields}
    wanted = {f.name for f in fields(action.output.cls)}  # type: ignore[arg-type]
    assert (names(outputs[action.name]) if action.name in outputs else set()) == wanted


def test_an_output_has_no_field_that_python_and_the_record_write_otherwise() -> None:
    outputs = [f.message_type for f in pb.HostAnswer.DESCRIPTOR.oneofs_by_name["output"].fields]
    kinds = {field.type for message in outputs if message for field in message.fields}
    assert kinds <= {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_INT64}


def test_the_wire_has_no_action_but_ours() -> None:
    sent = {f.name for f in pb.HostCommand.DESCRIPTOR.oneofs_by_name["action"].fields}
    assert sent == {action.name for action in SENT}


@every_sent
def test_an_observation_names_the_observed_action_and_no_effect(action: Action) -> None:
    order = replace(
        EFFECT,
        kind=OrderKind.OBSERVE,
        action=action.name,
        before={},
        input={},
        journal_id="",
        watched_files=("a.vhdx",),
        watched_jobs=("J-1",),
    )
    command = to_command(order, "installation", "")
    assert (command.kind, command.WhichOneof("action")) == (pb.HostCommand.OBSERVE, action.name)
    assert (list(command.watched_files), list(command.watched_jobs)) == (["a.vhdx"], ["J-1"])
    assert not command.HasField("before")
    assert getattr(command, action.name) == type(getattr(command, action.name))()


@pytest.mark.parametrize("mode", StopMode)
def test_a_stop_says_how(mode: StopMode) -> None:
    order = replace(EFFECT, action=STOP, before={"power": "RUNNING"}, input={"mode": mode.name})
    assert pb.VmStop.Mode.Name(to_command(order, "i", "").vm_stop.mode) == mode.name


@pytest.mark.parametrize("action", [RESTORE, REMOVE, RENAME])
def test_what_acts_on_a_checkpoint_names_it(action: ActionName) -> None:
    command = to_command(replace(EFFECT, action=action, input={"checkpoint_id": CHECKPOINT}), "i", "")
    assert getattr(command, action).checkpoint_id == CHECKPOINT


def test_an_effect_tells_every_fact_that_it_depends_on() -> None:
    offering = {
        "cpu_count": 2,
        "memory_bytes": 4 << 30,
        "dynamic_memory": False,
        "minimum_bytes": 0,
        "maximum_bytes": 0,
    }
    before: JsonObject = {
        "drives": ["SCSI:0:0=base.vhdx"],
        "offering": offering,
        "absent_files": ["D:\\new.vhdx"],
        "vm_absent": True,
    }
    told = to_command(replace(EFFECT, before=before), "i", "").before
    assert (list(told.drives), list(told.absent_files), told.vm_absent) == (
        ["SCSI:0:0=base.vhdx"],
        ["D:\\new.vhdx"],
        True,
    )
    assert told.offering == pb.Offering(cpu_count=2, memory_bytes=4 << 30)


def test_a_fact_that_is_nothing_is_left_out() -> None:
    command = to_command(replace(EFFECT, before={"power": "STOPPED", "current_checkpoint_id": None}), "i", "")
    assert (command.before.power, command.before.current_checkpoint_id) == (pb.STOPPED, "")


OFFERING = pb.Offering(
    cpu_count=2, memory_bytes=4 << 30, dynamic_memory=True, minimum_bytes=1 << 30, maximum_bytes=8 << 30
)


def full_answer() -> pb.CommandOutcome:
    """Return an answer with everything in it."""
    outcome = pb.CommandOutcome(dispatch_id="d")
    answer = outcome.answer
    answer.protocol, answer.verdict, answer.checkpoint_create.checkpoint_id = 1, pb.HostAnswer.DONE, CHECKPOINT.upper()
    answer.checkpoint_create.has_memory = True
    answer.host.installation_id = "i"
    answer.host.name = "HV01"
    vm = answer.vms.add(vm_id=VM.upper(), present=True, name="web01", power=pb.SAVED, host_state="Saved", percent=5)
    vm.current_checkpoint_id = CHECKPOINT.upper()
    vm.journal.state, vm.journal.phase, vm.journal.highest_token = pb.JournalReport.PRESENT, pb.JournalReport.BEGUN, 17
    vm.journal.output.update({"checkpoint_id": CHECKPOINT.upper(), "has_memory": True})
    checkpoint = vm.checkpoints.add(checkpoint_id=CHECKPOINT.upper(), name="n", has_memory=True)
    checkpoint.created_at.FromDatetime(DEADLINE)
    checkpoint.disks.add(location="SCSI:0:0", path="base.vhdx")
    checkpoint.offering.CopyFrom(pb.Offering(cpu_count=1, memory_bytes=1 << 30))
    vm.files.add(path="base.vhdx", file_bytes=7, size_bytes=9, identifier="AB-1", minimum_bytes=8, vhd_type="Dynamic")
    vm.files.add(path="a.avhdx", parent_path="BASE.vhdx")
    vm.offering.CopyFrom(OFFERING)
    vm.generation = 2
    vm.jobs.add(id="J-1", type=62, state=pb.JobReport.FAILED, percent=101, error="no space")
    return outcome


def test_a_vm_that_its_host_could_not_read_is_neither_described_nor_absent() -> None:
    outcome = pb.CommandOutcome(answer=pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.REPORTED))
    error = pb.HostError(id="OperationFailed,x", message="corrupted")
    outcome.answer.vms.add(vm_id=VM, present=True, name="web01", error=error)
    (vm,) = from_outcome(outcome).vms
    assert vm.unread == Unread("web01", "OperationFailed,x", "corrupted")
    assert (vm.description, vm.power) == (None, Power.UNKNOWN)
    outcome.answer.verdict = pb.HostAnswer.OBSERVED
    assert from_outcome(outcome).error_id == "MALFORMED_ANSWER"


def test_an_answer_keeps_everything_with_ids_in_lower_case() -> None:
    answer = from_outcome(full_answer())
    assert (answer.verdict, answer.installation_id) == (Verdict.DONE, "i")
    assert answer.output == {"checkpoint_id": CHECKPOINT, "has_memory": True}
    vm = answer.vm
    assert vm is not None
    assert vm.description is not None
    assert (vm.vm_id, vm.power, vm.percent) == (VM, Power.SAVED, 5)
    assert vm.description.current_checkpoint_id == CHECKPOINT
    assert vm.description.checkpoints[0].disks[0].path == "base.vhdx"
    assert vm.description.files == (
        DiskFile(path="a.avhdx", parent_path="BASE.vhdx"),
        DiskFile(path="base.vhdx", size_bytes=9, identifier="ab-1", vhd_type="Dynamic"),
    )
    assert [file.minimum_bytes for file in vm.description.files] == [0, 8]
    assert vm.description.offering == Offering(
        cpu_count=2, memory_bytes=4 << 30, dynamic_memory=True, minimum_bytes=1 << 30, maximum_bytes=8 << 30
    )
    assert (vm.description.cpu_count, vm.description.memory_bytes, vm.description.generation) == (2, 4 << 30, 2)
    assert vm.description.checkpoints[0].offering == Offering(cpu_count=1, memory_bytes=1 << 30)
    assert vm.jobs == (HostJob(job_id="J-1", state=JobState.FAILED, job_type=62, percent=100, error="no space"),)
    assert vm.job("j-1") is vm.jobs[0]
    assert vm.description.size_of(vm.description.checkpoints[0]) == 7
    assert vm.description.checkpoints[0].created_at == DEADLINE
    assert (vm.journal.state, vm.journal.begun, vm.journal.done) == (JournalState.PRESENT, True, False)
    assert vm.journal.output == answer.output


def test_a_report_without_an_offering_has_that_of_an_earlier_release() -> None:
    outcome = full_answer()
    vm, checkpoint = outcome.answer.vms[0], outcome.answer.vms[0].checkpoints[0]
    vm.ClearField("offering")
    checkpoint.ClearField("offering")
    vm.cpu_count, vm.memory_bytes = 3, 7
    (read,) = from_outcome(outcome).vms
    assert read.description is not None
    assert read.description.offering == Offering(cpu_count=3, memory_bytes=7)
    assert read.description.checkpoints[0].offering is None


def test_a_journalled_output_reads_as_an_answer_to_its_step_would() -> None:
    outcome = full_answer()
    kept: dict[str, str | int | bool] = {
        "path": "C:\\x.vhdx",
        "size_bytes": 1 << 40,
        "identifier": "AB",
        "job_id": "",
        "whole": False,
    }
    outcome.answer.vms[0].journal.output.Clear()
    outcome.answer.vms[0].journal.output.update(kept)
    (vm,) = from_outcome(outcome).vms
    assert vm.journal.output == kept
    assert {name: type(value) for name, value in vm.journal.output.items()} == {n: type(v) for n, v in kept.items()}


def test_a_vm_that_is_not_there_is_absent_and_not_described() -> None:
    outcome = full_answer()
    outcome.answer.vms[0].present = False
    vm = from_outcome(outcome).vm
    assert vm is not None
    assert (vm.power, vm.description) == (Power.ABSENT, None)


def broken_answers() -> list[pb.CommandOutcome]:
    """Return answers that the protocol does not allow."""
    other, silent, nameless, powerless, unmarked, madeless, newer = (full_answer() for _ in range(7))
    jobless, stateless, uneven, endless, pointless = (full_answer() for _ in range(5))
    jobless.answer.vms[0].jobs[0].id = ""
    stateless.answer.vms[0].jobs[0].ClearField("state")
    uneven.answer.vms[0].journal.output.update({"size_bytes": 0.5})
    endless.answer.vms[0].journal.output.update({"x" * 1_001: True})
    pointless.answer.vms[0].journal.output.update({"checkpoint_id": 5})
    other.answer.protocol = 2
    silent.answer.ClearField("verdict")
    nameless.answer.vms[0].ClearField("vm_id")
    powerless.answer.vms[0].ClearField("power")
    unmarked.answer.vms[0].checkpoints[0].ClearField("checkpoint_id")
    madeless.answer.checkpoint_create.checkpoint_id = ""
    newer.answer.verdict = 99  # type: ignore[assignment]  # a number that this release does not know
    return [
        other,
        silent,
        nameless,
        powerless,
        unmarked,
        madeless,
        newer,
        jobless,
        stateless,
        uneven,
        endless,
        pointless,
    ]


@pytest.mark.parametrize("outcome", broken_answers())
def test_an_answer_that_breaks_the_protocol_counts_as_none(outcome: pb.CommandOutcome) -> None:
    answer = from_outcome(outcome)
    assert (answer.verdict, answer.error_id) == (Verdict.NO_ANSWER, "MALFORMED_ANSWER")


def report_of(*vms: pb.VmReport) -> pb.CommandOutcome:
    """Return a report of VMs."""
    return pb.CommandOutcome(answer=pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.REPORTED, vms=vms))


def second_vm() -> pb.VmReport:
    """Return a VM that a host lists beside the other one."""
    vm = pb.VmReport(vm_id=OTHER_VM, present=True, name="web02", power=pb.STOPPED)
    vm.journal.state = pb.JournalReport.MISSING
    return vm


def test_the_vms_of_a_long_report_are_read_one_by_one_as_the_only_one_of_a_short_one_is() -> None:
    (first, _) = from_outcome(report_of(full_answer().answer.vms[0], second_vm())).listed
    (alone,) = from_outcome(report_of(full_answer().answer.vms[0])).listing
    assert (first.vm_id, first.readable, first.holds_vm, first.digest) == (VM, True, True, alone.digest)
    assert first.read() == alone.read() == from_outcome(full_answer()).vm


def test_a_vm_of_a_long_report_tells_what_it_is_without_being_read() -> None:
    gone, replica, unread = (second_vm() for _ in range(3))
    gone.present, replica.is_replica, unread.error.id = False, True, "OperationFailed,x"
    told = from_outcome(report_of(gone, replica, unread)).listed
    assert [(vm.readable, vm.holds_vm, bool(vm.digest)) for vm in told] == [
        (True, False, True),
        (True, False, True),
        (False, False, False),
    ]
    assert [(vm.readable, vm.holds_vm, bool(vm.digest)) for vm in [vm.read() for vm in told]] == [
        (vm.readable, vm.holds_vm, bool(vm.digest)) for vm in told
    ]


def test_a_vm_that_breaks_the_protocol_is_refused_when_it_is_read_and_spoils_no_other() -> None:
    unmarked, powerless, long = (full_answer().answer.vms[0] for _ in range(3))
    unmarked.checkpoints[0].ClearField("checkpoint_id")
    powerless.ClearField("power")
    long.name = "x" * 1_001
    for broken in (unmarked, powerless, long):
        first, second = from_outcome(report_of(broken, second_vm())).listed
        with pytest.raises(ProtocolViolation):
            first.read()
        assert second.read().vm_id == OTHER_VM
    nameless = second_vm()
    nameless.vm_id = "web02"
    assert from_outcome(report_of(full_answer().answer.vms[0], nameless)).error_id == "MALFORMED_ANSWER"


def leaves(descriptor: Descriptor, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield the way to every value in a message."""
    for field in descriptor.fields:
        if field.message_type is None:
            yield (*path, field)
        elif field.message_type.file is descriptor.file:
            yield from leaves(field.message_type, (*path, field))


@pytest.mark.parametrize("path", tuple(leaves(pb.VmReport.DESCRIPTOR)), ids=lambda p: ".".join(f.name for f in p))
def test_whatever_differs_makes_another_digest_but_what_changes_by_itself(path: tuple[FieldDescriptor, ...]) -> None:
    def digest(number: int) -> str:
        vm = pb.VmReport()
        message: Any = vm
        for field in path[:-1]:
            message = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
        value = str(number) if path[-1].type == FieldDescriptor.TYPE_STRING else number
        if path[-1].is_repeated:
            getattr(message, path[-1].name).append(value)
        else:
            setattr(message, path[-1].name, value)
        vm.vm_id = vm.vm_id or VM
        return host_wire._digest(vm)

    grows = [field.name for field in path] in (["files", "file_bytes"], ["files", "minimum_bytes"])
    assert (digest(0) == digest(1)) == grows


def test_why_there_is_no_answer_is_kept() -> None:
    outcome = pb.CommandOutcome(dispatch_id="d")
    outcome.no_answer.reason = pb.NoAnswer.AUTHENTICATION_FAILED
    outcome.no_answer.detail = "refused"
    answer = from_outcome(outcome)
    assert (answer.verdict, answer.error_id, answer.error_message) == (
        Verdict.NO_ANSWER,
        "AUTHENTICATION_FAILED",
        "refused",
    )


@pytest.mark.parametrize("reason", [0, 99])
def test_a_reason_that_is_not_known_says_no_more_than_that_no_answer_came(reason: int) -> None:
    outcome = pb.CommandOutcome(dispatch_id="d")
    outcome.no_answer.reason = reason  # type: ignore[assignment]  # a number of the enum, or not
    outcome.no_answer.detail = "newer"
    answer = from_outcome(outcome)
    assert (answer.verdict, answer.error_id, answer.error_message) == (Verdict.NO_ANSWER, "CONNECTION_LOST", "newer")
