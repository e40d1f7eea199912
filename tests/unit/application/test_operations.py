"""The generic tests, which run over every operation, so that a new one is tested by being listed in CASES."""

import pytest

from snapshotd.domain.commands import CancelOperation, LoseOutcome
from snapshotd.domain.errors import CancelTooLate
from snapshotd.domain.lifecycle import OperationState, SnapshotState, VmActivity
from snapshotd.domain.operation import Failure, OperationKind, StepAction
from tests.fakes import World
from tests.unit.application.cases import CASES, Case, check_end, ready

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@every_case
def test_an_operation_ends_with_each_effect_once(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.run()
    check_end(world, case)


@every_case
def test_an_operation_whose_every_message_comes_twice_ends_the_same(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.run(twice=True)
    check_end(world, case)


@every_case
def test_an_operation_whose_every_answer_is_lost_ends_the_same(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.run(lose=True)
    check_end(world, case)


@every_case
def test_an_operation_whose_every_command_is_lost_before_the_host_saw_it_ends_the_same(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    dropped: set[int] = set()

    def drop_once() -> None:
        found = world.open_step()
        if found and found[1].open and not found[1].observing and found[1].plan.number not in dropped:
            dropped.add(found[1].plan.number)
            raise_fence(world)

    for _ in range(60):
        drop_once()
        if not world.vm.active_operations:
            break
        world.turn()
    check_end(world, case)
    assert dropped


def raise_fence(world: World) -> None:
    """Lose the open step's command on its way, so that only an observation can tell what became of it."""
    found = world.open_step()
    assert found is not None
    operation, step = found
    lost = Failure(reason="CONNECTION_LOST", message="The connection was lost.")
    world.do(LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=lost))


@every_case
def test_an_operation_whose_first_step_fails_leaves_the_host_as_it_was(case: Case) -> None:
    world = ready(case)
    before = world.host.report()
    world.host.error_id = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.X"
    world.do(case.request)
    operation = world.run()
    best_effort = operation.steps[0].plan.nature.name == "BEST_EFFORT"
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert "OperationFailed" in operation.failure.error_id
    assert world.vm.activity is VmActivity.IDLE
    assert world.host.effects == []
    after = world.host.report()
    assert after.description == before.description
    assert after.power is before.power
    assert all(s.state in (SnapshotState.READY, SnapshotState.ERROR) for s in world.vm.snapshots.values())
    assert best_effort == (len([s for s in operation.steps if s.failure]) > 1)


@every_case
def test_an_operation_that_is_cancelled_before_its_first_step_ends_at_once(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.do(CancelOperation(number=world.vm.last_number))
    assert world.vm.operations[world.vm.last_number].state is OperationState.CANCELLED
    assert world.host.effects == []
    assert world.vm.activity is VmActivity.IDLE


undoable = pytest.mark.parametrize(
    "case", [c for c in CASES if c.effects[0] is not StepAction.REMOVE], ids=lambda c: c.name
)


@undoable
def test_a_cancellation_during_the_first_step_brings_everything_back(case: Case) -> None:
    world = ready(case)
    before = world.host.power
    world.do(case.request)
    while not (found := world.open_step()) or not found[1].open:
        world.turn()
    if found[1].plan.action is StepAction.RESTORE:
        with pytest.raises(CancelTooLate):
            world.do(CancelOperation(number=world.vm.last_number))
        return
    world.do(CancelOperation(number=world.vm.last_number))
    operation = world.run()
    assert operation.state is OperationState.CANCELLED
    assert world.host.power is before
    assert set(world.host.checkpoints) == {
        s.checkpoint_id for s in world.vm.snapshots.values() if s.state is SnapshotState.READY
    }
    assert not world.host.merging


def test_every_kind_of_operation_stands_in_a_case() -> None:
    kinds = set()
    for case in CASES:
        world = ready(case)
        world.do(case.request)
        kinds.add(world.vm.operations[world.vm.last_number].kind)
    assert kinds == set(OperationKind)
