"""The generic tests, which run over every operation, so that a new one is tested by being listed in CASES."""

import pytest

from snapshotd.domain.errors import CancelTooLate
from snapshotd.domain.events import DriftDetected
from snapshotd.domain.host_report import Checkpoint, VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Operation, StepNature
from snapshotd.operations.catalogue import KINDS
from snapshotd.steps.checkpoint_name import checkpoint_name
from tests.asking import CREATE, REMOVE, RENAME, RESTORE, START, STOP
from tests.fakes import World
from tests.unit.application.cases import (
    CASES,
    FOREIGN,
    REFUSED,
    SAFETY,
    Case,
    Refused,
    check_end,
    check_success,
    lose_command,
    power_told,
    ready,
    sid,
)

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
every_case_with_steps = pytest.mark.parametrize("case", [c for c in CASES if c.effects], ids=lambda c: c.name)


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


@every_case_with_steps
def test_an_operation_whose_every_command_is_lost_before_the_host_saw_it_ends_the_same(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    dropped: set[int] = set()

    def drop_once() -> None:
        found = world.open_step()
        if found and found[1].open and not found[1].observing and found[1].plan.number not in dropped:
            dropped.add(found[1].plan.number)
            lose_command(world)

    for _ in range(60):
        drop_once()
        if not world.vm.active_operations:
            break
        world.turn()
    check_end(world, case)
    assert dropped


every_refused = pytest.mark.parametrize("refused", REFUSED, ids=lambda r: r.name)
CREATE_CASE = next(c for c in CASES if c.name == "create disk")
FINAL = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.X"
PASSING = "ObjectInUse,Microsoft.HyperV.PowerShell.Commands.X"


def test_a_step_of_every_nature_that_the_host_can_refuse_is_refused_somewhere() -> None:
    assert {(r.plan.nature, r.plan.action) for r in REFUSED} >= {
        (StepNature.UNDOABLE, START),
        (StepNature.UNDOABLE, STOP),
        (StepNature.UNDOABLE, CREATE),
        (StepNature.PIVOT, RESTORE),
        (StepNature.PIVOT, REMOVE),
        (StepNature.FORWARD_ONLY, CREATE),
        (StepNature.FORWARD_ONLY, START),
        (StepNature.FORWARD_ONLY, REMOVE),
        (StepNature.FORWARD_ONLY, STOP),
        (StepNature.BEST_EFFORT, START),
        (StepNature.BEST_EFFORT, REMOVE),
    }


@every_refused
def test_a_step_that_fails_means_for_the_operation_what_its_nature_says(refused: Refused) -> None:
    world = ready(refused.case)
    before = world.host.report()
    world.host.error_ids = dict.fromkeys(refused.steps, FINAL)
    world.do(refused.case.request)
    operation = world.run()
    step = operation.step(refused.plan.number)
    assert step.state is StepState.FAILED
    assert step.failure is not None
    assert step.failure.error_id == FINAL
    destroyed = world.host.gone and not world.vm.released
    assert world.vm.activity is (VmActivity.DESTROYED if destroyed else VmActivity.IDLE)
    assert world.vm.power is power_told(world)
    match refused.plan.nature:
        case StepNature.BEST_EFFORT if refused.case.goes_on:
            check_failed(world, operation)
            check_all_but_one_is_done(world, refused)
        case StepNature.BEST_EFFORT:
            check_success(world, refused.case)
        case StepNature.UNDOABLE | StepNature.PIVOT:
            check_failed(world, operation)
            check_brought_back(world, operation, before, refused.case)
        case _:
            check_failed(world, operation)
            check_finished_effects_stay(world, operation, refused.case)


def check_failed(world: World, operation: Operation) -> None:
    """Check that an operation says why it failed, and that every snapshot rests."""
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert FINAL in operation.failure.text
    removed = KINDS[operation.kind].removed(operation)
    for snapshot in world.vm.snapshots.values():
        made = snapshot.checkpoint_id in world.host.checkpoints
        gone = SnapshotState.REMOVED if snapshot.snapshot_id in removed else SnapshotState.ERROR
        assert snapshot.state is (SnapshotState.READY if made else gone)


def check_all_but_one_is_done(world: World, refused: Refused) -> None:
    """Check that a step which was refused has held up none that does not need it."""
    operation = world.vm.operations[world.vm.last_number]
    for step in operation.steps:
        held_up = step.plan.snapshot_id == refused.plan.snapshot_id
        assert (step.state is StepState.DONE) is not held_up
        if held_up and step.plan.snapshot_id is not None:
            assert world.vm.snapshots[step.plan.snapshot_id].checkpoint_id in world.host.checkpoints
    assert world.vm.current_id == world.vm.nearest_own(world.host.current)


def check_brought_back(world: World, operation: Operation, before: VmReport, case: Case) -> None:
    """Check that the host is as it was, since each effect there was is undone.

    But a safety snapshot is kept, and a snapshot that was deleted does not come back.
    """
    after = world.host.report()
    done = [s.plan for s in operation.steps if s.state is StepState.DONE and not s.plan.polls]
    kept = [p.number for p in done if case.safety and p.action == CREATE]
    forward = (p for p in done if p.nature is StepNature.FORWARD_ONLY and p.undoes is None)
    gone = [p.number for p in forward if p.action == REMOVE]
    undone = [p.undoes for p in done if p.undoes is not None]
    if gone:
        assert (after.power, world.host.offering) == (before.power, _offering(before))
        assert len(undone) == len(done) - len(undone) - len(gone)
        assert len(world.host.checkpoints) == len(_checkpoints(before)) - len(gone)
        assert [number for _, _, number in world.host.effects] == [p.number for p in done]
        return
    assert set(undone) >= {p.number for p in done if p.undoes is None} - set(kept)
    assert (world.host.copies.folders, bool(world.host.copies.files)) == ({}, case.copied)
    if kept:
        assert world.vm.current_id == SAFETY == world.vm.nearest_own(world.host.current)
        world.host.remove(world.host.current or CheckpointId(""))
        world.host.merge()
        assert after.power is before.power
        after = world.host.report()
    assert (after.description, after.power) == (before.description, before.power)
    assert [number for _, _, number in world.host.effects] == [p.number for p in done]


def _offering(report: VmReport) -> Offering | None:
    return report.description.offering if report.description else None


def _checkpoints(report: VmReport) -> tuple[Checkpoint, ...]:
    return report.description.checkpoints if report.description else ()


def check_finished_effects_stay(world: World, operation: Operation, case: Case) -> None:
    """Check that after the pivot nothing is undone, nor where a safety snapshot was not taken; the record says so."""
    assert not operation.undoing
    done = [s.plan.number for s in operation.steps if s.state is StepState.DONE and not s.plan.polls]
    assert done or case.safety or case.effects[0] == REMOVE
    assert [number for _, _, number in world.host.effects] == done
    current = operation.snapshot_id if done and RESTORE in case.effects else world.vm.current_id
    assert world.vm.current_id == current == world.vm.nearest_own(world.host.current)
    assert (world.host.power is case.power) or done


@every_refused
def test_a_step_that_the_host_refuses_for_now_is_issued_again_until_it_is_done(refused: Refused) -> None:
    world = ready(refused.case)
    number = refused.plan.number
    world.host.error_ids = dict.fromkeys(refused.steps, FINAL) | {number: PASSING}
    world.do(refused.case.request)
    for _ in range(60):
        if world.vm.operations[world.vm.last_number].step(number).attempts == world.policy.max_attempts:
            break
        world.turn()
    del world.host.error_ids[number]
    operation = world.run()
    assert operation.step(number).state is StepState.DONE
    check_success(world, refused.case)


def adopted(*, refused: bool) -> tuple[World, Operation]:
    """Let a create's script die before it has named its checkpoint; the host may refuse to name it later, too."""
    world = ready(CREATE_CASE)
    world.host.dies_unnamed = True
    world.host.error_ids = {2: FINAL} if refused else {}
    world.do(CREATE_CASE.request)
    return world, world.run()


@pytest.mark.parametrize("refused", [False, True], ids=["named", "refused a name"])
def test_an_adopted_checkpoint_is_kept_and_named_if_the_host_lets_it(*, refused: bool) -> None:
    world, operation = adopted(refused=refused)
    assert operation.state is OperationState.SUCCEEDED
    assert [s.state for s in operation.steps] == [StepState.DONE, StepState.FAILED if refused else StepState.DONE]
    own = world.vm.snapshots[sid(9)]
    assert (own.state, own.checkpoint_id, world.vm.current_id) == (SnapshotState.READY, world.host.current, sid(9))
    assert own.checkpoint_id is not None
    assert (world.host.checkpoints[own.checkpoint_id].name == checkpoint_name(own)) is not refused
    assert [action for action, _, _ in world.host.effects] == [CREATE, RENAME][: 2 - refused]


def test_an_adopted_checkpoint_is_no_drift() -> None:
    world, _ = adopted(refused=False)
    assert not any(isinstance(event, DriftDetected) for event in world.log)


@pytest.mark.parametrize("refused", [r for r in REFUSED if r.plan.number == 2 and r.plan.nature is StepNature.PIVOT])
def test_an_undo_that_fails_too_leaves_on_record_what_is_there(refused: Refused) -> None:
    world = ready(refused.case)
    world.do(refused.case.request)
    undo = len(world.vm.operations[world.vm.last_number].steps) + 1
    world.host.error_ids = {refused.plan.number: FINAL, undo: "InvalidParameter,X"}
    operation = world.run()
    assert (operation.step(undo).plan.undoes, operation.step(undo).state) == (1, StepState.FAILED)
    check_failed(world, operation)
    assert [number for _, _, number in world.host.effects] == [1]
    assert world.vm.activity is VmActivity.IDLE
    assert world.vm.power is world.host.power is not refused.case.power


@every_case_with_steps
def test_an_operation_that_is_cancelled_before_its_first_step_ends_at_once(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.cancel(world.vm.last_number)
    assert world.vm.operations[world.vm.last_number].state is OperationState.CANCELLED
    assert world.host.effects == []
    assert world.vm.activity is VmActivity.IDLE


undoable = pytest.mark.parametrize(
    "case", [c for c in CASES if c.effects and c.effects[0] != REMOVE], ids=lambda c: c.name
)


@undoable
def test_a_cancellation_during_the_first_step_brings_everything_back(case: Case) -> None:
    world = ready(case)
    before = world.host.power
    world.do(case.request)
    while not (found := world.open_step()) or not found[1].open:
        world.turn()
    if found[1].plan.nature is StepNature.PIVOT:
        with pytest.raises(CancelTooLate):
            world.cancel(world.vm.last_number)
        return
    world.cancel(world.vm.last_number)
    operation = world.run()
    assert operation.state is OperationState.CANCELLED
    assert world.host.power is before
    ready_ones = {s.checkpoint_id for s in world.vm.snapshots.values() if s.state is SnapshotState.READY}
    assert set(world.host.checkpoints) == ready_ones | ({FOREIGN} if case.foreign else set())
    assert not world.host.merging


@pytest.mark.parametrize("refusal", [PASSING, None], ids=["refused for now", "lost on its way"])
def test_the_undo_of_a_cancelled_operation_is_issued_again_until_it_is_done(refusal: str | None) -> None:
    world = ready(CASES[0])
    world.do(CASES[0].request)
    while not (found := world.open_step()) or not found[1].open:
        world.turn()
    world.cancel(world.vm.last_number)
    while not (found := world.open_step()) or found[1].plan.undoes is None:
        world.turn()
    if refusal is None:
        lose_command(world)
    else:
        world.host.error_ids = {2: refusal}
        world.turn()
        world.host.error_ids = {}
    operation = world.run()
    assert (operation.state, world.host.power) == (OperationState.CANCELLED, Power.STOPPED)


def test_every_kind_of_operation_stands_in_a_case() -> None:
    kinds = set()
    for case in CASES:
        world = ready(case)
        world.do(case.request)
        kinds.add(world.vm.operations[world.vm.last_number].kind)
    assert kinds == set(KINDS)
