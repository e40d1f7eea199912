"""Orders become commands and answers become the core's words without anything lost or made up."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import Before, JournalState, Unread, Verdict
from snapshotd.domain.ids import CheckpointId, HostId, OperationName, VmId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import StepAction, StopMode
from snapshotd.server.host_wire import from_outcome, to_command

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
    action=StepAction.CREATE,
    token=17,
    journal_id="j",
    before=Before(power=Power.RUNNING, checkpoint_ids=(CHECKPOINT,), current_checkpoint_id=CHECKPOINT),
    checkpoint_name="n #1",
)


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
    assert command.WhichOneof("action") == "checkpoint_create"
    assert command.checkpoint_create.checkpoint_name == "n #1"


@pytest.mark.parametrize(
    ("power", "with_memory", "fallback"),
    [
        (Power.RUNNING, False, False),
        (Power.RUNNING, False, True),
        (Power.RUNNING, True, False),
        (Power.STOPPED, False, True),
    ],
)
def test_what_a_host_needs_to_choose_how_a_checkpoint_is_taken_is_sent(
    power: Power, *, with_memory: bool, fallback: bool
) -> None:
    order = replace(
        EFFECT, before=Before(power=power, checkpoint_ids=()), with_memory=with_memory, allow_fallback=fallback
    )
    command = to_command(order, "i", "")
    assert command.before.power == pb.Power.Value(power.name)
    create = command.checkpoint_create
    assert (create.with_memory, create.allow_fallback) == (with_memory, fallback)


@pytest.mark.parametrize("mode", StopMode)
def test_a_stop_says_how(mode: StopMode) -> None:
    order = replace(EFFECT, action=StepAction.STOP, stop_mode=mode)
    assert pb.VmStop.Mode.Name(to_command(order, "i", "").vm_stop.mode) == mode.name


@pytest.mark.parametrize("action", [StepAction.RESTORE, StepAction.REMOVE, StepAction.RENAME])
def test_what_acts_on_a_checkpoint_names_it(action: StepAction) -> None:
    command = to_command(replace(EFFECT, action=action, checkpoint_id=CHECKPOINT), "i", "")
    field = f"checkpoint_{action.name.lower()}"
    assert getattr(command, field).checkpoint_id == CHECKPOINT
    assert (command.kind, command.WhichOneof("action")) == (pb.HostCommand.EFFECT, field)


def test_an_observation_names_the_action_of_the_observed_step_and_nothing_to_do() -> None:
    order = replace(EFFECT, kind=OrderKind.OBSERVE, before=None, watched_files=("a.vhdx",))
    command = to_command(order, "i", "")
    assert (command.kind, command.WhichOneof("action")) == (pb.HostCommand.OBSERVE, "checkpoint_create")
    assert list(command.watched_files) == ["a.vhdx"]
    assert not command.HasField("before")
    assert command.checkpoint_create == pb.CheckpointCreate()


def full_answer() -> pb.CommandOutcome:
    """Return an answer with everything in it."""
    outcome = pb.CommandOutcome(dispatch_id="d")
    answer = outcome.answer
    answer.protocol, answer.verdict = 1, pb.HostAnswer.DONE
    answer.checkpoint_create.checkpoint_id = CHECKPOINT.upper()
    answer.host.installation_id = "i"
    answer.host.name = "HV01"
    vm = answer.vms.add(vm_id=VM.upper(), present=True, name="web01", power=pb.SAVED, host_state="Saved", percent=5)
    vm.current_checkpoint_id = CHECKPOINT.upper()
    vm.journal.state, vm.journal.phase, vm.journal.highest_token = pb.JournalReport.PRESENT, pb.JournalReport.BEGUN, 17
    checkpoint = vm.checkpoints.add(checkpoint_id=CHECKPOINT.upper(), name="n", has_memory=True)
    checkpoint.created_at.FromDatetime(DEADLINE)
    checkpoint.disks.add(location="SCSI:0:0", chain=["a.avhdx", "base.vhdx"])
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
    assert (answer.verdict, answer.checkpoint_id, answer.installation_id) == (Verdict.DONE, CHECKPOINT, "i")
    vm = answer.vm
    assert vm is not None
    assert vm.description is not None
    assert (vm.vm_id, vm.power, vm.percent) == (VM, Power.SAVED, 5)
    assert vm.description.current_checkpoint_id == CHECKPOINT
    assert vm.description.checkpoints[0].disks[0].chain == ("a.avhdx", "base.vhdx")
    assert vm.description.checkpoints[0].created_at == DEADLINE
    assert (vm.journal.state, vm.journal.begun, vm.journal.done) == (JournalState.PRESENT, True, False)


def test_a_vm_that_is_not_there_is_absent_and_not_described() -> None:
    outcome = full_answer()
    outcome.answer.vms[0].present = False
    vm = from_outcome(outcome).vm
    assert vm is not None
    assert (vm.power, vm.description) == (Power.ABSENT, None)


def broken_answers() -> list[pb.CommandOutcome]:
    """Return answers that the protocol does not allow."""
    other, silent, nameless, powerless, unmarked, newer = (full_answer() for _ in range(6))
    other.answer.protocol = 2
    silent.answer.ClearField("verdict")
    nameless.answer.vms[0].ClearField("vm_id")
    powerless.answer.vms[0].ClearField("power")
    unmarked.answer.vms[0].checkpoints[0].ClearField("checkpoint_id")
    newer.answer.verdict = 99  # type: ignore[assignment]  # a number that this release does not know
    return [other, silent, nameless, powerless, unmarked, newer]


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
