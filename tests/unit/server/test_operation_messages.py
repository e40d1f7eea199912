"""How far an operation is, or was when it ended; and steps in words."""

from datetime import UTC, datetime

import pytest

from snapshotd.domain.ids import HostId, OperationName, SnapshotId, VmId
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.operation import OperationKind, PlannedStep, StepAction, StepNature, StopMode
from snapshotd.ports.views import OperationRow, StepRow
from snapshotd.server.operation_messages import metadata_message, planned_step

VM = VmId("11111111-2222-3333-4444-555555555501")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, R = StepAction, StepState
Steps = tuple[tuple[StepAction, StepState, int | None], ...]


def row(state: OperationState, steps: Steps) -> OperationRow:
    """Return an operation with steps: action, state, and what it undoes."""
    return OperationRow(
        name=OperationName(f"operations/{VM}.1"),
        vm_id=VM,
        host_id=HostId("hv01"),
        number=1,
        kind=OperationKind.REVERT_TO_SNAPSHOT,
        state=state,
        snapshot_id=SnapshotId(VM),
        stop_mode=None,
        steps=tuple(
            StepRow(
                plan=PlannedStep(number=n, action=action, nature=StepNature.FORWARD_ONLY, undoes=undoes),
                state=step_state,
                attempts=1,
                started_at=NOW,
                ended_at=None,
                failure=None,
            )
            for n, (action, step_state, undoes) in enumerate(steps, 1)
        ),
        actor="ann",
        request_id="",
        cancel_requested=False,
        undoing=False,
        failure=None,
        requested_at=NOW,
        started_at=NOW,
        updated_at=NOW,
        ended_at=None if state.active else NOW,
    )


@pytest.mark.parametrize(
    ("state", "steps", "percent"),
    [
        (OperationState.RUNNING, ((A.STOP, R.DONE, None), (A.RESTORE, R.ISSUED, None)), 50),
        (OperationState.RUNNING, ((A.REMOVE, R.DONE, None), (A.MERGE, R.WAITING, None)), 65),
        (OperationState.SUCCEEDED, ((A.CREATE, R.DONE, None), (A.RENAME, R.SKIPPED, None)), 100),
        (OperationState.CANCELLED, ((A.CREATE, R.SKIPPED, None), (A.RENAME, R.SKIPPED, None)), 0),
        (OperationState.FAILED, ((A.CREATE, R.FAILED, None), (A.RENAME, R.SKIPPED, None)), 0),
        (OperationState.FAILED, ((A.REMOVE, R.DONE, None), (A.MERGE, R.FAILED, None)), 50),
        (OperationState.FAILED, ((A.STOP, R.DONE, None), (A.RESTORE, R.DONE, None)), 99),
        (OperationState.CANCELLED, ((A.CREATE, R.DONE, None), (A.RENAME, R.DONE, None), (A.REMOVE, R.DONE, 1)), 0),
        (OperationState.FAILED, ((A.STOP, R.DONE, None), (A.RESTORE, R.FAILED, None), (A.START, R.DONE, 0)), 0),
        (OperationState.FAILED, ((A.STOP, R.DONE, None), (A.RESTORE, R.FAILED, None), (A.START, R.FAILED, 0)), 50),
    ],
)
def test_what_was_done_is_told_and_no_more(state: OperationState, steps: Steps, percent: int) -> None:
    assert metadata_message(row(state, steps), None, 30).percent == percent


def test_the_last_step_of_a_revert_says_that_it_acts_only_where_it_must() -> None:
    def described(nature: StepNature) -> str:
        step = PlannedStep(number=1, action=A.STOP, nature=nature, stop_mode=StopMode.TURN_OFF)
        return planned_step(step, VM, HostId("hv01")).description

    assert described(StepNature.FORWARD_ONLY) == "Turn the VM off, if it is on by then."
    assert described(StepNature.UNDOABLE) == "Turn the VM off, as by pulling the plug."
