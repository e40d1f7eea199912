"""Orders become commands and answers become the core's words without anything lost or made up."""

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import DiskFile, JournalState, Unread, Verdict
from snapshotd.domain.ids import ActionName, CheckpointId, HostId, OperationName, VmId
from snapshotd.domain.lifecycle import Power
from snapshotd.server.host_wire import from_outcome, to_command
from snapshotd.steps.action import FACTS, Action
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, REMOVE, RENAME, RESTORE, STOP

VM = "11111111-2222-3333-4444-555555555555"
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
    assert names(message) == {f.name for f in fields(action.input.cls)}  # type: ignore[arg-type]  # a dataclass


@every_sent
def test_every_action_depends_on_facts_that_the_wire_has(action: Action) -> None:
    facts = {f.name for f in fields(action.facts.cls)}  # type: ignore[arg-type]
    assert facts & set(FACTS)
    assert set(FACTS) == names(pb.Before)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.name)
def test_every_action_with_an_output_has_a_message_with_its_fields(action: Action) -> None:
    outputs = {f.name: f.message_type for f in pb.HostAnswer.DESCRIPTOR.oneofs_by_name["output"].fields}
    wanted = {f.name for f in fields(action.output.cls)}  # type: ignore[arg-type]
    assert (names(outputs[action.name]) if action.name in outputs else set()) == wanted


def test_a_journal_tells_every_output_that_an_answer_does() -> None:
    told, kept = (message.DESCRIPTOR.oneofs_by_name["output"].fields for message in (pb.HostAnswer, pb.JournalReport))
    assert [(f.name, f.message_type) for f in kept] == [(f.name, f.message_type) for f in told]


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
    )
    command = to_command(order, "installation", "")
    assert (command.kind, command.WhichOneof("action")) == (pb.HostCommand.OBSERVE, action.name)
    assert list(command.watched_files) == ["a.vhdx"]
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


def test_a_fact_that_is_nothing_is_left_out() -> None:
    command = to_command(replace(EFFECT, before={"power": "STOPPED", "current_checkpoint_id": None}), "i", "")
    assert (command.before.power, command.before.current_checkpoint_id) == (pb.STOPPED, "")


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
    vm.journal.checkpoint_create.CopyFrom(answer.checkpoint_create)
    checkpoint = vm.checkpoints.add(checkpoint_id=CHECKPOINT.upper(), name="n", has_memory=True)
    checkpoint.created_at.FromDatetime(DEADLINE)
    checkpoint.disks.add(location="SCSI:0:0", path="base.vhdx")
    vm.files.add(path="base.vhdx", file_bytes=7)
    vm.files.add(path="a.avhdx", parent_path="BASE.vhdx")
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
    assert vm.description.files == (DiskFile(path="a.avhdx", parent_path="BASE.vhdx"), DiskFile(path="base.vhdx"))
    assert vm.description.size_of(vm.description.checkpoints[0]) == 7
    assert vm.description.checkpoints[0].created_at == DEADLINE
    assert (vm.journal.state, vm.journal.begun, vm.journal.done) == (JournalState.PRESENT, True, False)
    assert vm.journal.output == answer.output


def test_a_vm_that_is_not_there_is_absent_and_not_described() -> None:
    outcome = full_answer()
    outcome.answer.vms[0].present = False
    vm = from_outcome(outcome).vm
    assert vm is not None
    assert (vm.power, vm.description) == (Power.ABSENT, None)


def broken_answers() -> list[pb.CommandOutcome]:
    """Return answers that the protocol does not allow."""
    other, silent, nameless, powerless, unmarked, madeless, newer = (full_answer() for _ in range(7))
    other.answer.protocol = 2
    silent.answer.ClearField("verdict")
    nameless.answer.vms[0].ClearField("vm_id")
    powerless.answer.vms[0].ClearField("power")
    unmarked.answer.vms[0].checkpoints[0].ClearField("checkpoint_id")
    madeless.answer.checkpoint_create.checkpoint_id = ""
    newer.answer.verdict = 99  # type: ignore[assignment]  # a number that this release does not know
    return [other, silent, nameless, powerless, unmarked, madeless, newer]


@pytest.mark.parametrize("outcome", broken_answers())
def test_an_answer_that_breaks_the_protocol_counts_as_none(outcome: pb.CommandOutcome) -> None:
    answer = from_outcome(outcome)
    assert (answer.verdict, answer.error_id) == (Verdict.NO_ANSWER, "MALFORMED_ANSWER")


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
