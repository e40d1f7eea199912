"""What becomes of a step whose effect the host answered FAILED: observed first, and only then final or tried again."""

import pytest

from snapshotd.application.host_grades import may_pass
from snapshotd.domain.commands import Proceed, TakeAnswer
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.lifecycle import OperationState, StepState
from tests.unit.application.test_fence import issued

NO_ROOM = "No room."
IN_USE = "Der Prozess kann nicht auf die Datei zugreifen. (0x80070020)"
FULL = "Es steht nicht genug Speicherplatz zur Verf\u00fcgung. ('0x80070070')."


@pytest.mark.parametrize(
    ("error_id", "text", "again"),
    [
        ("OperationFailed", NO_ROOM, False),
        ("OperationFailed", IN_USE, True),
        ("OperationFailed", IN_USE.replace("0x80070020", "0x800423f3"), True),
        ("OperationFailed", FULL, False),
        ("OperationFailed", f"{IN_USE} {FULL}", False),
        ("OperationFailed", "Something unheard of (0x80041234).", False),
        ("OperationFailed", "VM 0x8007002012 failed.", False),
        ("OperationTimeout", NO_ROOM, True),
        ("OperationTimeout", FULL, False),
        ("ObjectInUse", NO_ROOM, True),
        ("NotReached,snapshotd", NO_ROOM, True),
    ],
)
def test_a_failed_effect_is_observed_and_if_absent_tried_again_unless_the_host_said_that_it_cannot(
    error_id: str, text: str, *, again: bool
) -> None:
    world, operation, step = issued()
    failed = HostAnswer(verdict=Verdict.FAILED, error_id=f"{error_id},x", error_message=text)
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
        assert (ended.failure.reason, ended.failure.message) == ("HOST_ERROR", text)
        assert ended.failure.error_id == f"{error_id},x"


@pytest.mark.parametrize(
    ("error_id", "text", "again"),
    [
        ("InvalidState", NO_ROOM, True),
        ("ObjectInUse", NO_ROOM, True),
        ("InvalidState", FULL, False),
        ("AccessDenied", NO_ROOM, False),
        ("AccessDenied", IN_USE, True),
        ("InvalidParameter", "The virtual disk is corrupt (0xC03A000E).", False),
    ],
)
def test_a_refusal_is_tried_again_by_what_its_number_means_and_else_by_its_id(
    error_id: str, text: str, *, again: bool
) -> None:
    world, operation, step = issued()
    refused = HostAnswer(
        verdict=Verdict.NO_EFFECT, vms=(world.host.report(),), error_id=f"{error_id},x", error_message=text
    )
    world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=refused))
    assert world.vm.operations[operation.number].step(1).state is (StepState.DUE if again else StepState.FAILED)


def test_a_number_in_a_text_that_is_not_the_hosts_decides_nothing() -> None:
    assert may_pass("", FULL, refused=False)
    assert not may_pass("", IN_USE, refused=True)
