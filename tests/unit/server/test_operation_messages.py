"""How far an operation is, or was when it ended; and steps in words."""

from datetime import UTC, datetime, timedelta

import pytest

from snapshotd.api.v1 import operation_pb2 as pb
from snapshotd.dispatch.watch import Wait
from snapshotd.domain.ids import ActionName, CheckpointId, HostId, OperationName, SnapshotId, VmId
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.state import replace
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT
from snapshotd.server.operation_messages import kind_message, metadata_message, operation_message, planned_step
from snapshotd.server.wire_values import timestamp
from snapshotd.steps import checkpoint_create, checkpoint_remove, checkpoint_rename, checkpoint_restore, vm_stop
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, MERGE, REMOVE, RENAME, RESTORE, START, STOP, revert_to

VM = VmId("11111111-2222-3333-4444-555555555501")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
R = StepState
INPUTS: dict[ActionName, object] = {
    STOP: vm_stop.Input(StopMode.TURN_OFF),
    CREATE: checkpoint_create.Input(checkpoint_name="n #1", with_memory=False, allow_fallback=False),
    RENAME: checkpoint_rename.Input(checkpoint_name="n #1"),
    RESTORE: checkpoint_restore.Input(CheckpointId(VM)),
    REMOVE: checkpoint_remove.Input(CheckpointId(VM)),
}
Steps = tuple[tuple[ActionName, StepState, int | None], ...]


def planned(action: ActionName, nature: StepNature, number: int = 1, undoes: int | None = None) -> PlannedStep:
    """Return a step of a plan."""
    plan = ACTIONS[action].planned(INPUTS.get(action), nature=nature)
    return replace(plan, number=number, undoes=undoes)


def operation(state: OperationState, steps: Steps) -> Operation:
    """Return an operation with steps: action, state, and what it undoes."""
    return Operation(
        name=OperationName(f"operations/{VM}.1"),
        vm_id=VM,
        host_id=HostId("hv01"),
        number=1,
        kind=REVERT_TO_SNAPSHOT.name,
        params=revert_to(SnapshotId(VM)).params,
        state=state,
        snapshot_id=SnapshotId(VM),
        steps=tuple(
            Step(
                plan=planned(action, StepNature.UNDOABLE, number, undoes),
                state=step_state,
                attempts=1,
                started_at=NOW,
            )
            for number, (action, step_state, undoes) in enumerate(steps, 1)
        ),
        actor="ann",
        request_id="",
        requested_at=NOW,
        started_at=NOW,
        updated_at=NOW,
        ended_at=None if state.active else NOW,
    )


@pytest.mark.parametrize(
    ("state", "steps", "percent"),
    [
        (OperationState.RUNNING, ((STOP, R.DONE, None), (RESTORE, R.ISSUED, None)), 50),
        (OperationState.RUNNING, ((REMOVE, R.DONE, None), (MERGE, R.WAITING, None)), 65),
        (OperationState.SUCCEEDED, ((CREATE, R.DONE, None), (RENAME, R.SKIPPED, None)), 100),
        (OperationState.CANCELLED, ((CREATE, R.SKIPPED, None), (RENAME, R.SKIPPED, None)), 0),
        (OperationState.FAILED, ((CREATE, R.FAILED, None), (RENAME, R.SKIPPED, None)), 0),
        (OperationState.FAILED, ((REMOVE, R.DONE, None), (MERGE, R.FAILED, None)), 50),
        (OperationState.FAILED, ((STOP, R.DONE, None), (RESTORE, R.DONE, None)), 99),
        (OperationState.CANCELLED, ((CREATE, R.DONE, None), (RENAME, R.DONE, None), (REMOVE, R.DONE, 1)), 0),
        (OperationState.FAILED, ((STOP, R.DONE, None), (RESTORE, R.FAILED, None), (START, R.DONE, 0)), 0),
        (OperationState.FAILED, ((STOP, R.DONE, None), (RESTORE, R.FAILED, None), (START, R.FAILED, 0)), 50),
    ],
)
def test_what_was_done_is_told_and_no_more(state: OperationState, steps: Steps, percent: int) -> None:
    assert metadata_message(operation(state, steps), None, 30).percent == percent


def test_the_last_step_of_a_revert_says_that_it_acts_only_where_it_must() -> None:
    def described(nature: StepNature) -> str:
        return planned_step(planned(STOP, nature), VM, HostId("hv01")).description

    assert described(StepNature.FORWARD_ONLY) == "Turn the VM off, if it is on by then."
    assert described(StepNature.UNDOABLE) == "Turn the VM off, as by pulling the plug."


@pytest.mark.parametrize(
    ("steps", "lost", "said"),
    [
        (((STOP, R.SKIPPED, None), (RESTORE, R.SKIPPED, None)), False, ""),
        (((CREATE, R.DONE, None), (REMOVE, R.DONE, 1)), False, "All changes were rolled back."),
        (((CREATE, R.DONE, None), (REMOVE, R.FAILED, 1)), False, "Not all changes were rolled back; see the steps."),
        (
            ((STOP, R.DONE, None), (START, R.DONE, 1)),
            True,
            "The VM was restarted; what its guest held in memory is lost. All other changes were rolled back.",
        ),
        (
            ((STOP, R.DONE, None),),
            True,
            "Not all changes were rolled back; see the steps. What the guest held in memory is lost.",
        ),
    ],
)
def test_what_was_rolled_back_is_told_and_what_no_undo_brings_back(steps: Steps, said: str, *, lost: bool) -> None:
    ended = replace(operation(OperationState.CANCELLED, steps), undoing=True, memory_lost=lost)
    message = operation_message(ended, None)
    assert message.error.message == f"The operation was cancelled. {said}".rstrip()
    assert metadata_message(ended, None, 0).outcome_detail == said


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (OperationState.FAILED, "The memory that the snapshot holds was lost."),
        (
            OperationState.SUCCEEDED,
            "The memory that the snapshot holds was lost: the VM was off by then, and was started from its disks.",
        ),
        (OperationState.RUNNING, ""),
    ],
)
def test_a_revert_that_went_on_without_the_memory_says_so_at_its_end(state: OperationState, said: str) -> None:
    steps = ((RESTORE, R.DONE, None), (START, R.DONE, None))
    assert metadata_message(operation(state, steps), None, 0).outcome_detail == ""
    assert metadata_message(replace(operation(state, steps), memory_lost=True), None, 0).outcome_detail == said


def test_the_api_has_a_word_for_every_kind() -> None:
    words = {kind_message(kind) for kind in KINDS}
    assert len(words) == len(KINDS)
    assert pb.OperationMetadata.KIND_UNSPECIFIED not in words


def test_a_step_that_polls_is_a_wait_whatever_comes_of_its_failure() -> None:
    step = planned_step(planned(MERGE, StepNature.FORWARD_ONLY), VM, HostId("hv01"))
    assert step.step_class == pb.Step.WAIT


STUCK = Failure(reason="HOST_ERROR", message="The disk is in use.")
NOBODY = Wait(Failure(reason="NO_EXECUTOR", message="No executor serves hv01."), NOW)


@pytest.mark.parametrize(
    ("state", "failure", "known", "reason", "message"),
    [
        (R.WAITING, None, None, "MERGE_IN_PROGRESS", "The host is merging disks."),
        (R.OUTCOME_UNKNOWN, STUCK, None, "OUTCOME_UNKNOWN", "Checking whether the step took effect."),
        (R.DUE, STUCK, None, "BACKING_OFF", "Will be retried soon: The disk is in use."),
        (R.WAITING, None, NOBODY, "NO_EXECUTOR", "No executor serves hv01."),
        (R.ISSUED, None, None, "", ""),
        (R.DUE, None, None, "", ""),
    ],
)
def test_an_active_operation_says_what_it_waits_for(
    state: StepState, failure: Failure | None, known: Wait | None, reason: str, message: str
) -> None:
    merging = operation(OperationState.RUNNING, ((REMOVE, R.DONE, None), (MERGE, state, None)))
    merging = replace(merging, steps=(merging.step(1), replace(merging.step(2), failure=failure)))
    metadata = metadata_message(merging, known, 0)
    assert metadata.wait == (pb.Wait(reason=reason, message=message, since=timestamp(NOW)) if reason else pb.Wait())
    ended = replace(merging, state=OperationState.FAILED)
    assert not metadata_message(ended, known, 0).HasField("wait")


def test_an_operation_that_looks_at_its_vm_before_a_step_says_so() -> None:
    later = NOW + timedelta(minutes=1)
    due = operation(OperationState.RUNNING, ((RESTORE, R.DONE, None), (START, R.DUE, None)))
    looking = replace(due, steps=(due.step(1), replace(due.step(2), observing=True, looked_since=later)))
    wait = metadata_message(looking, None, 0).wait
    assert (wait.reason, wait.since) == ("LOOKING", timestamp(later))


def test_a_step_that_undoes_another_says_so() -> None:
    undoing = operation(OperationState.RUNNING, ((STOP, R.DONE, None), (RESTORE, R.FAILED, None), (START, R.ISSUED, 1)))
    metadata = metadata_message(undoing, None, 0)
    assert [step.undo for step in metadata.steps] == [False, False, True]
    assert (metadata.current_step, metadata.current_step_number, metadata.step_count) == ("start", 3, 3)
