"""What becomes of a step whose effect the host answered FAILED: observed first, and only then final or tried again."""

import pytest

from snapshotd.domain.commands import Proceed, TakeAnswer
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.lifecycle import OperationState, StepState
from tests.unit.application.test_fence import issued


@pytest.mark.parametrize(
    ("error_id", "again"),
    [
        ("OperationFailed", False),
        ("OperationTimeout", True),
        ("ObjectInUse", True),
        ("NotReached,snapshotd", True),
    ],
)
def test_a_failed_effect_is_observed_and_if_absent_tried_again_unless_the_host_said_that_it_cannot(
    error_id: str, *, again: bool
) -> None:
    world, operation, step = issued()
    failed = HostAnswer(verdict=Verdict.FAILED, error_id=f"{error_id},x", error_message="No room.")
    world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=failed))
    assert world.vm.operations[operation.number].step(1).state is StepState.OUTCOME_UNKNOWN
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    seen = HostAnswer(verdict=Verdict.OBSERVED, vms=(world.host.report(),))
    world.do(TakeAnswer(number=operation.number, step=1, token=found[1].token, answer=seen))
    assert world.vm.operations[operation.number].active == again
    ended = world.run()
    assert ended.state is (OperationState.SUCCEEDED if again else OperationState.FAILED)
    if not again:
        assert ended.failure is not None
        assert (ended.failure.message, ended.failure.error_id) == ("No room.", "OperationFailed,x")
