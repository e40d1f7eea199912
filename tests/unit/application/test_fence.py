"""The core's half of the fence model's rules: each test breaks when its rule is taken out of the core."""

from datetime import timedelta

import pytest

from snapshotd.domain.commands import LoseOutcome, Proceed, SyncVm, TakeAnswer
from snapshotd.domain.events import ObservationIssued, StepIssued
from snapshotd.domain.host_report import HostAnswer, Journal, JournalState, Verdict
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from tests.fakes import START, World
from tests.unit.application.cases import create, sid

LOST = Failure(reason="CONNECTION_LOST", message="The connection was lost.")


def issued() -> tuple[World, Operation, Step]:
    """Return a world with a create whose step is issued and has not reached the host."""
    world = World()
    world.do(create(1))
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.turn()
    return world, *found


def observing() -> tuple[World, Operation, Step]:
    """Return a world in which that step's outcome is unknown, and an observation is on record."""
    world, operation, step = issued()
    world.do(LoseOutcome(number=operation.number, step=1, token=step.token, failure=LOST))
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    assert found[1].observing
    return world, *found


def test_a_token_is_the_version_of_the_event_that_issued_it() -> None:
    world, _, step = issued()
    assert isinstance(world.log[step.token - 1], StepIssued)
    world, _, step = observing()
    assert isinstance(world.log[step.token - 1], ObservationIssued)


def test_tokens_only_grow() -> None:
    world, operation, first = issued()
    world.do(LoseOutcome(number=operation.number, step=1, token=first.token, failure=LOST))
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    assert found[1].token > first.token


def test_newest_only_an_answer_without_effect_counts_only_with_the_newest_token() -> None:
    world, operation, step = issued()
    old = step.token
    world.do(LoseOutcome(number=operation.number, step=1, token=old, failure=LOST))
    world.do(Proceed())
    late = HostAnswer(verdict=Verdict.NO_EFFECT, vms=(world.host.report(),), error_id="OperationFailed,x")
    draft = world.do(TakeAnswer(number=operation.number, step=1, token=old, answer=late))
    assert draft.events == []
    assert world.vm.operations[operation.number].active


def test_newest_only_an_old_observation_is_ignored() -> None:
    world, operation, step = observing()
    seen = HostAnswer(verdict=Verdict.OBSERVED, vms=(world.host.report(),))
    assert world.do(TakeAnswer(number=operation.number, step=1, token=step.token - 1, answer=seen)).events == []


def test_done_settles_the_open_step_whatever_token_it_carries() -> None:
    world, operation, step = issued()
    done = world.act(operation, step)
    world.do(LoseOutcome(number=operation.number, step=1, token=step.token, failure=LOST))
    world.do(Proceed())
    world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=done))
    assert world.vm.operations[operation.number].state is OperationState.SUCCEEDED


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"checkpoint_id": "x"},
        {"checkpoint_id": 7, "has_memory": True},
        {"checkpoint_id": "x", "has_memory": True, "more": "y"},
    ],
)
def test_done_that_does_not_say_what_came_of_it_is_looked_into(output: JsonObject) -> None:
    world, operation, step = issued()
    done = replace(world.act(operation, step), output=output)
    world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=done))
    unknown = world.vm.operations[operation.number].step(1)
    assert unknown.state is StepState.OUTCOME_UNKNOWN
    assert unknown.failure is not None
    assert unknown.failure.reason == "MALFORMED_ANSWER"
    assert world.run().state is OperationState.SUCCEEDED
    assert len(world.host.effects) == 1


def test_job_wait_nothing_is_concluded_while_the_hypervisor_works() -> None:
    world, operation, step = observing()
    busy = replace(world.host.report(), activities=("CREATE",))
    answer = HostAnswer(verdict=Verdict.OBSERVED, vms=(busy,))
    assert world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=answer)).events == []


def test_journal_id_an_effect_is_not_issued_before_the_journal_is_known() -> None:
    world = World()
    assert world.vm.journal_id == ""
    world.do(create(1))
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    assert found[1].state is StepState.DUE
    assert found[1].observing
    assert world.vm.operations[1].state is OperationState.PENDING
    assert world.run().state is OperationState.SUCCEEDED


def test_journal_id_a_newcomer_beside_a_lost_journal_is_never_adopted() -> None:
    world, operation, step = issued()
    world.act(operation, step)
    (made,) = world.host.checkpoints.values()
    world.host.checkpoints[made.checkpoint_id] = replace(made, name="web01 - (11/25/2026 - 9:00:00 AM)")
    world.host.journal = Journal(state=JournalState.MISSING)
    world.do(LoseOutcome(number=operation.number, step=1, token=step.token, failure=LOST))
    ended = world.run()
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert ended.failure.reason == "OUTCOME_UNDETERMINED"
    assert world.vm.snapshots[sid(1)].state is SnapshotState.ERROR
    assert len(world.host.effects) == 1


@pytest.mark.parametrize("fits", ["all", "name", "parent", "automatic", "time"])
def test_an_unmarked_newcomer_is_adopted_only_if_all_evidence_fits(fits: str) -> None:
    world, operation, step = issued()
    world.act(operation, step)
    (made,) = world.host.checkpoints.values()
    made = replace(made, name="web01 - (11/25/2026 - 9:00:00 AM)")
    match fits:
        case "name":
            made = replace(made, name="before the upgrade")
        case "parent":
            made = replace(made, parent_id=made.checkpoint_id)
        case "time":
            made = replace(made, created_at=START - timedelta(hours=1))
        case "automatic":
            made = replace(made, automatic=True)
        case _:
            pass
    world.host.checkpoints[made.checkpoint_id] = made
    world.host.journal = replace(world.host.journal, done=False, begun=True)
    world.do(LoseOutcome(number=operation.number, step=1, token=step.token, failure=LOST))
    for _ in range(20):
        found = world.open_step()
        if not world.vm.active_operations or (found and found[1].plan.number == 2):
            break
        world.turn()
    adopted = world.vm.operations[1].step(1).state is StepState.DONE
    assert adopted == (fits in ("all", "time"))
    assert len(world.host.effects) == 1


def test_a_newcomer_is_somebody_elses_if_the_journal_says_that_ours_never_began() -> None:
    world, operation, step = issued()
    foreign = world.host.take("by hand")
    world.do(LoseOutcome(number=operation.number, step=1, token=step.token, failure=LOST))
    ended = world.run()
    assert ended.state is OperationState.SUCCEEDED
    own = world.vm.snapshots[sid(1)]
    assert own.checkpoint_id != foreign
    assert world.vm.by_checkpoint(foreign) is None


def test_act_on_before_a_changed_host_is_judged_and_asked_again_with_what_is_there() -> None:
    world, operation, step = issued()
    foreign = world.host.take("by hand")
    answer = world.act(operation, step)
    assert answer.verdict is Verdict.CHANGED
    world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=answer))
    assert world.vm.operations[1].step(1).state is StepState.DUE
    assert world.run().state is OperationState.SUCCEEDED
    again = [e for e in world.log if isinstance(e, StepIssued)][-1]
    assert again.attempt == 2
    assert again.before.values["checkpoint_ids"] == [foreign]


def test_an_unreachable_host_does_not_grow_the_stream() -> None:
    world, operation, step = observing()
    version = world.vm.version
    for _ in range(50):
        world.do(Proceed())
        world.do(LoseOutcome(number=operation.number, step=1, token=step.token, failure=LOST))
    assert world.vm.version == version


@pytest.mark.parametrize(
    "verdict",
    [Verdict.IN_PROGRESS, Verdict.STALE, Verdict.BUSY, Verdict.WRONG_JOURNAL, Verdict.FAILED, Verdict.NO_ANSWER],
)
def test_an_answer_that_settles_nothing_makes_the_outcome_unknown_and_never_failed(verdict: Verdict) -> None:
    world, operation, step = issued()
    world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=HostAnswer(verdict=verdict)))
    assert world.vm.operations[1].step(1).state is StepState.OUTCOME_UNKNOWN


def test_an_effect_is_tried_at_most_five_times() -> None:
    world = World()
    world.host.error_ids = {1: "ObjectInUse,Microsoft.HyperV.PowerShell.Commands.CheckpointVM"}
    world.do(create(1))
    ended = world.run(limit=200)
    assert ended.state is OperationState.FAILED
    assert ended.step(1).attempts == world.policy.max_attempts
    assert ended.failure is not None
    assert ended.failure.error_id == world.host.error_ids[1]


def test_a_new_operation_of_a_restored_log_is_not_taken_for_one_that_the_log_has_lost() -> None:
    world = World(power=Power.STOPPED)
    world.do(create(1))
    world.run()
    backup = world.vm
    world.do(create(2))
    world.run()
    effects = list(world.host.effects)
    world.vm = backup
    world.do(create(3))
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    answer = world.act(*found)
    assert (found[0].number, answer.verdict) == (2, Verdict.STALE)
    assert world.host.effects == effects


@pytest.mark.parametrize("whose", ["another snapshot's", "a foreign one's"])
def test_a_checkpoint_that_was_there_before_is_not_believed_to_have_been_made(whose: str) -> None:
    world = World(power=Power.STOPPED)
    if whose == "another snapshot's":
        world.do(create(1))
        world.run()
    else:
        world.host.take("by hand")
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    ((there, _),) = world.host.checkpoints.items()
    world.do(create(2))
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.do(Proceed()) if found is None else world.turn()
    lie = {"checkpoint_id": there, "has_memory": False}
    done = HostAnswer(verdict=Verdict.DONE, vms=(world.host.report(),), output=lie)
    world.do(TakeAnswer(number=found[0].number, step=1, token=found[1].token, answer=done))
    assert world.vm.operations[found[0].number].step(1).state is StepState.OUTCOME_UNKNOWN
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.snapshots[sid(2)].checkpoint_id != there


def test_a_done_that_differs_from_what_the_journal_kept_is_not_believed() -> None:
    world, operation, step = issued()
    answer = world.act(operation, step)
    assert answer.vm is not None
    kept = replace(answer.vm.journal, output=answer.output)
    lie = {**answer.output, "checkpoint_id": "dddddddd-0000-4000-8000-000000000001"}
    told = replace(answer, vms=(replace(answer.vm, journal=kept),), output=lie)
    world.do(TakeAnswer(number=operation.number, step=1, token=step.token, answer=told))
    assert world.vm.operations[operation.number].step(1).state is StepState.OUTCOME_UNKNOWN
