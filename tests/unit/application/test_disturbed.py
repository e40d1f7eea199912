"""Operations while others change the VM by hand, and while answers are lost: nobody's work is undone but our own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import (
    LoseOutcome,
    Proceed,
    RequestOperation,
    SyncVm,
    TakeAnswer,
    TakePoll,
)
from snapshotd.domain.errors import CancelTooLate, OperationActive
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.state import replace
from snapshotd.steps.vm_stop import StopMode
from tests.asking import (
    CREATE,
    MERGE,
    REMOVE,
    RESTORE,
    START,
    STOP,
    create_snapshot,
    delete,
    revert_to,
    start_vm,
    stop_vm,
)
from tests.fakes import World
from tests.unit.application.cases import begin, chain, create, lose_command, sid

LOST = Failure(reason="CONNECTION_LOST", message="The connection was lost.")


def newest(world: World) -> Operation:
    """Return the operation that was requested last."""
    return world.vm.operations[world.vm.last_number]


def sync(world: World) -> None:
    """Compare the host with the record."""
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def until_issued(world: World, action: ActionName) -> None:
    """Go on until a command is on its way to the host."""
    for _ in range(60):
        found = world.open_step()
        if found and found[1].plan.action is action and found[1].state is StepState.ISSUED:
            return
        world.turn()
    raise AssertionError(world.vm)


def act_and_lose_the_answer(world: World) -> None:
    """Have the host do what it is asked for, and nobody hear of it."""
    found = world.open_step()
    assert found is not None
    operation, step = found
    world.act(operation, step)
    world.do(LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=LOST))


@pytest.mark.parametrize(
    ("power", "request_", "by_hand"),
    [
        (Power.STOPPED, start_vm(), Power.RUNNING),
        (Power.RUNNING, stop_vm(StopMode.SHUTDOWN), Power.STOPPED),
        (Power.RUNNING, stop_vm(StopMode.TURN_OFF), Power.STOPPED),
    ],
)
@pytest.mark.parametrize(
    "how", ["seen at the first observation", "seen by a comparison", "between two attempts", "cancelled"]
)
def test_what_somebody_else_did_to_the_power_is_left_as_it_is(
    power: Power, request_: RequestOperation, by_hand: Power, how: str
) -> None:
    world = World(power=power)
    world.do(request_)
    if how == "between two attempts":
        world.host.error_ids = {1: "ObjectInUse,x"}
        until_issued(world, START if by_hand is Power.RUNNING else STOP)
        world.turn()
    world.host.power = by_hand
    if how != "seen at the first observation":
        sync(world)
    if how == "cancelled" and newest(world).active:
        world.cancel(newest(world).number)
    ended = world.run()
    assert ended.state in (OperationState.FAILED, OperationState.CANCELLED)
    assert (world.host.power, world.host.effects) == (by_hand, [])


def test_a_delete_whose_merge_outlasts_twenty_other_operations_ends() -> None:
    world = World()
    chain(world)
    world.do(delete(sid(2)))
    deleting = newest(world)
    while newest(world).steps[1].state is not StepState.WAITING:
        world.turn()
    for _ in range(22):
        world.do(stop_vm(StopMode.TURN_OFF) if world.vm.power is Power.RUNNING else start_vm())
        carry_out_beside_a_merge(world)
    world.host.merge()
    report = world.host.report()
    world.do(TakePoll(number=deleting.number, step=2, report=report, asked_version=world.vm.version))
    assert world.vm.operations[deleting.number].state is OperationState.SUCCEEDED
    assert world.vm.snapshots[sid(2)].state is SnapshotState.REMOVED


def carry_out_beside_a_merge(world: World) -> None:
    """Carry the newest operation out, while an older one waits for its merge."""
    number = world.vm.last_number
    while newest(world).active:
        step = newest(world).open_step or newest(world).next_due
        assert step is not None
        if step.observing:
            answer = world.host.observe(step.token)
        elif step.state is StepState.ISSUED:
            answer = world.act(newest(world), step)
        else:
            world.do(Proceed())
            continue
        world.do(TakeAnswer(number=number, step=step.plan.number, token=step.token, answer=answer))


@pytest.mark.parametrize(("request_", "action"), [(create(9), CREATE), (stop_vm(StopMode.TURN_OFF), STOP)])
def test_an_undo_whose_command_is_lost_is_tried_again(request_: RequestOperation, action: ActionName) -> None:
    world = World()
    chain(world)
    there = set(world.host.checkpoints)
    world.do(request_)
    until_issued(world, action)
    world.cancel(newest(world).number)
    world.turn()
    until_issued(world, REMOVE if action == CREATE else START)
    lose_command(world)
    assert world.run().state is OperationState.CANCELLED
    assert (set(world.host.checkpoints), world.host.power) == (there, Power.RUNNING)


@pytest.mark.parametrize("seen", ["by a comparison", "by the removal's own observation"])
def test_an_unwanted_checkpoint_that_somebody_else_removes_releases_the_vm(seen: str) -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    world.cancel(1)
    world.turn()
    (made,) = (c.checkpoint_id for c in world.host.checkpoints.values())
    if seen != "by a comparison":
        until_issued(world, REMOVE)
        lose_command(world)
    world.host.remove(made)
    if seen == "by a comparison":
        sync(world)
    while newest(world).active and not any(s.state is StepState.WAITING for s in newest(world).steps):
        world.turn()
    assert world.vm.activity is VmActivity.IDLE
    world.do(stop_vm(StopMode.TURN_OFF))
    carry_out_beside_a_merge(world)
    assert newest(world).state is OperationState.SUCCEEDED
    world.run()
    assert world.vm.operations[1].state is OperationState.CANCELLED
    assert world.vm.activity is VmActivity.IDLE


def test_a_delete_that_ends_leaves_the_vm_to_the_operation_that_holds_it() -> None:
    world = World()
    chain(world)
    world.do(delete(sid(2)))
    deleting = newest(world)
    while newest(world).steps[1].state is not StepState.WAITING:
        world.turn()
    world.do(stop_vm(StopMode.TURN_OFF))
    world.do(Proceed())
    assert world.vm.activity is VmActivity.STOPPING
    world.host.merge()
    report = world.host.report()
    world.do(TakePoll(number=deleting.number, step=2, report=report, asked_version=world.vm.version))
    assert not world.vm.operations[deleting.number].active
    assert world.vm.activity is VmActivity.STOPPING
    assert world.run().state is OperationState.SUCCEEDED


BY_DEFAULT = "web01 - (11/25/2026 - 9:00:30 AM)"


def begin_and_die(world: World) -> None:
    """Have a script write that it begins, and die before it has done anything."""
    begin(world)
    lose_command(world)


@pytest.mark.parametrize(
    ("name", "ends"), [(BY_DEFAULT, OperationState.FAILED), ("a backup's", OperationState.SUCCEEDED)]
)
def test_what_appears_after_an_attempt_that_died_is_not_taken_for_its_checkpoint(
    name: str, ends: OperationState
) -> None:
    world = World()
    chain(world)
    world.do(create(9))
    until_issued(world, CREATE)
    begin_and_die(world)
    while newest(world).steps[0].attempts < 2:
        world.turn()
    lose_command(world)
    by_hand = world.host.take(name, has_memory=False)
    ended = world.run()
    assert ended.state is ends
    assert world.vm.by_checkpoint(by_hand) is None
    assert world.host.checkpoints[by_hand].name == name


def test_what_appears_after_a_create_that_is_done_is_not_taken_for_its_checkpoint() -> None:
    world = World()
    world.do(create(1, memory=True))
    until_issued(world, CREATE)
    act_and_lose_the_answer(world)
    for checkpoint in tuple(world.host.checkpoints.values()):
        world.host.remove(checkpoint.checkpoint_id)
    world.host.merge()
    by_hand = world.host.take(BY_DEFAULT, has_memory=True)
    assert world.run().state is OperationState.SUCCEEDED
    snapshot = world.vm.snapshots[sid(1)]
    assert (snapshot.state, snapshot.with_memory) == (SnapshotState.ERROR, True)
    assert world.vm.by_checkpoint(by_hand) is None
    assert world.host.checkpoints[by_hand].name == BY_DEFAULT
    assert len([effect for effect in world.host.effects if effect[0] == CREATE]) == 1


def test_a_revert_whose_checkpoint_goes_before_its_first_step_fails_and_changes_no_power() -> None:
    world = World()
    chain(world)
    world.host.effects.clear()
    world.do(revert_to(sid(1)))
    target = world.vm.snapshots[sid(1)].checkpoint_id
    assert target is not None
    world.host.remove(target)
    world.host.merge()
    sync(world)
    ended = world.run()
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert (ended.failure.reason, world.host.effects, world.host.power) == ("CHECKPOINT_MISSING", [], Power.RUNNING)


def test_a_revert_that_must_not_change_the_power_does_not_either_when_the_power_has_changed() -> None:
    world = World()
    chain(world)
    world.do(stop_vm(StopMode.TURN_OFF))
    world.run()
    world.host.effects.clear()
    world.do(revert_to(sid(1), refuse_power_change=True))
    world.host.power = Power.RUNNING
    ended = world.run()
    assert ended.failure is not None
    assert ended.failure.reason == "POWER_STATE_CHANGE_REFUSED"
    assert (world.host.power, world.host.effects) == (Power.RUNNING, [])


def test_a_revert_that_must_not_change_the_power_joins_none_that_may() -> None:
    world = World()
    chain(world)
    world.do(revert_to(sid(1)))
    with pytest.raises(OperationActive):
        world.do(revert_to(sid(1), refuse_power_change=True))


def test_a_revert_that_finds_the_vm_changed_has_not_begun_and_is_tried_again() -> None:
    world = World()
    chain(world)
    world.do(revert_to(sid(1)))
    until_issued(world, RESTORE)
    world.host.take("a backup's", has_memory=False)
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.current_id == sid(1)


def test_a_revert_that_the_journal_knows_as_done_is_done_whatever_came_after_it() -> None:
    world = World()
    chain(world)
    world.do(revert_to(sid(2)))
    until_issued(world, RESTORE)
    act_and_lose_the_answer(world)
    world.host.take("a backup's", has_memory=False)
    assert world.run().state is OperationState.SUCCEEDED
    restores = [effect for effect in world.host.effects if effect[0] == RESTORE]
    assert len(restores) == 1


def test_a_slow_poll_overwrites_nothing_that_was_learned_since() -> None:
    world = World()
    chain(world)
    world.do(stop_vm(StopMode.TURN_OFF))
    world.run()
    world.do(delete(sid(2)))
    deleting = newest(world)
    while newest(world).steps[1].state is not StepState.WAITING:
        world.turn()
    world.host.merge()
    slow = TakePoll(number=deleting.number, step=2, report=world.host.report(), asked_version=world.vm.version)
    world.do(start_vm())
    carry_out_beside_a_merge(world)
    world.do(slow)
    assert world.vm.operations[deleting.number].state is OperationState.SUCCEEDED
    assert world.vm.power is world.host.power is Power.RUNNING


def test_a_checkpoint_that_turns_up_after_its_create_has_failed_belongs_to_its_snapshot() -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    act_and_lose_the_answer(world)
    world.host.journal = replace(world.host.journal, begun=True, done=False, output={})
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    answer = world.host.observe(found[1].token)
    (report,) = answer.vms
    away = replace(report, power=Power.ABSENT, description=None)
    world.now += timedelta(seconds=world.policy.move_wait_s)
    world.do(TakeAnswer(number=1, step=1, token=found[1].token, answer=replace(answer, vms=(away,))))
    assert world.vm.snapshots[sid(1)].state is SnapshotState.ERROR
    sync(world)
    (made,) = world.host.checkpoints
    assert world.vm.snapshots[sid(1)].checkpoint_id == made
    assert any(isinstance(event, e.SnapshotCheckpointIdentified) for event in world.log)
    world.do(delete(sid(1)))
    assert world.run().state is OperationState.SUCCEEDED
    assert not world.host.checkpoints


def test_a_clock_that_is_set_back_does_not_prolong_a_back_off() -> None:
    world = World()
    chain(world)
    world.host.error_ids = {1: "ObjectInUse,x"}
    world.do(create(7))
    while not newest(world).steps[0].attempts or newest(world).steps[0].state is not StepState.DUE:
        world.turn()
    world.host.error_ids = {}
    world.now -= timedelta(days=1)
    world.do(Proceed())
    assert newest(world).steps[0].state is StepState.ISSUED


def test_a_delete_that_has_only_to_wait_can_be_cancelled_until_it_begins() -> None:
    world = World()
    world.host.error_ids = {1: "OperationFailed,x"}
    world.do(create(1))
    world.run()
    world.host.error_ids = {}
    world.do(delete(sid(1)))
    assert newest(world).state is OperationState.PENDING
    world.cancel(newest(world).number)
    assert newest(world).state is OperationState.CANCELLED


NO_WAY_BACK, UNDONE = "there may be no way back", "it is already being undone"


def never_made() -> World:
    """Return a world in which a snapshot that never had a checkpoint is being deleted, beside a merge."""
    world = World()
    world.host.error_ids = {1: "OperationFailed,x"}
    world.do(create(1))
    world.run()
    world.host.error_ids = {}
    world.host.merging = True
    world.do(delete(sid(1)))
    return world


def removed() -> World:
    """Return a world in which a snapshot is being deleted."""
    world = World()
    chain(world)
    world.do(delete(sid(2)))
    return world


def not_as_asked() -> World:
    """Return a world in which a create makes what was not asked for, and undoes that."""
    world = World()
    world.host.vss = False
    world.do(create(1))
    return world


@pytest.mark.parametrize(
    ("begun", "action", "why"),
    [
        (never_made, MERGE, NO_WAY_BACK),
        (removed, REMOVE, NO_WAY_BACK),
        (removed, MERGE, NO_WAY_BACK),
        (not_as_asked, REMOVE, UNDONE),
        (not_as_asked, MERGE, UNDONE),
    ],
)
def test_what_cannot_be_cancelled_any_more_says_why(begun: Callable[[], World], action: ActionName, why: str) -> None:
    world = begun()
    while not (found := world.open_step()) or found[1].plan.action != action or found[1].observing:
        world.turn() if found else world.do(Proceed())
    with pytest.raises(CancelTooLate, match=why):
        world.cancel(newest(world).number)
    assert newest(world).active
    assert not newest(world).cancel_requested


def test_a_create_that_is_cancelled_stays_so_while_its_checkpoint_merges() -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    world.cancel(1)
    while not any(s.state is StepState.WAITING for s in newest(world).steps):
        world.turn()
    assert world.cancel(1).events == []
    assert newest(world).too_late_to_cancel().startswith(UNDONE)
    assert world.run().state is OperationState.CANCELLED


def test_a_cancel_that_comes_again_is_answered_as_the_first_time() -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    world.cancel(1)
    world.turn()
    assert newest(world).undoing
    assert world.cancel(1).events == []


def test_snapshots_whose_checkpoints_are_gone_do_not_count_towards_the_limit() -> None:
    world = World()
    for n in range(1, 11):
        world.do(create(n))
        world.run()
    for checkpoint in tuple(world.host.checkpoints.values()):
        world.host.remove(checkpoint.checkpoint_id)
    world.host.merge()
    sync(world)
    world.do(create(11))
    assert world.run().state is OperationState.SUCCEEDED


@pytest.mark.parametrize("spelt", [str.upper, str.title])
def test_a_merge_is_seen_whatever_the_case_that_a_path_is_spelt_in(spelt: Callable[[str], str]) -> None:
    world = World()
    chain(world)
    world.do(delete(sid(2)))
    number = newest(world).number
    while newest(world).steps[1].state is not StepState.WAITING:
        world.turn()
    world.host.merge()
    report = spelt_otherwise(world.host.report(), spelt)
    world.do(TakePoll(number=number, step=2, report=report, asked_version=world.vm.version))
    assert world.vm.operations[number].state is OperationState.SUCCEEDED


def spelt_otherwise(report: VmReport, spelt: Callable[[str], str]) -> VmReport:
    """Return a report in which parents' paths are spelt otherwise than the files themselves."""
    assert report.description is not None

    files = tuple(replace(f, parent_path=spelt(f.parent_path)) for f in report.description.files)
    return replace(report, description=replace(report.description, files=files))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_fallback_that_is_out_of_sight_when_the_create_ends_is_still_known(*, allowed: bool) -> None:
    world = World()
    world.host.vss, world.host.dies_unnamed, world.host.error_ids = False, True, {2: "ObjectNotFound,x"}
    world.do(create(1, fallback=allowed))
    while not (found := world.open_step()) or found[1].plan.number != 2:
        world.turn()
    (hidden,) = world.host.checkpoints.items()
    world.host.checkpoints.clear()
    world.host.current = None
    ended = world.run()
    world.host.checkpoints[hidden[0]] = hidden[1]
    world.host.current = hidden[1].checkpoint_id
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    own = world.vm.snapshots[sid(1)]
    if allowed:
        assert (ended.state, own.state, own.with_memory) == (OperationState.SUCCEEDED, SnapshotState.READY, True)
    else:
        assert ended.failure is not None
        assert (ended.failure.reason, own.state) == ("FALLBACK_REFUSED", SnapshotState.REMOVED)


def undetermined_revert() -> World:
    """Return a world in which nobody can tell whether a revert to the first snapshot took effect."""
    world = World()
    chain(world)
    world.do(stop_vm(StopMode.TURN_OFF))
    world.run()
    world.do(revert_to(sid(1)))
    until_issued(world, RESTORE)
    begin_and_die(world)
    world.host.take("a backup's")
    assert world.run().state is OperationState.FAILED
    return world


def test_a_snapshot_that_is_given_up_is_not_healed_by_the_same_report_and_keeps_its_failure() -> None:
    world = undetermined_revert()
    given_up = world.vm.snapshots[sid(1)]
    assert given_up.failure is not None
    assert (given_up.state, given_up.failure.reason) == (SnapshotState.ERROR, "OUTCOME_UNDETERMINED")
    sync(world)
    healed = world.vm.snapshots[sid(1)]
    assert (healed.state, healed.failure) == (SnapshotState.READY, given_up.failure)


def test_a_checkpoint_that_is_found_again_disproves_that_it_was_missing() -> None:
    world = World()
    chain(world)
    there = dict(world.host.checkpoints)
    world.host.checkpoints.clear()
    sync(world)
    missing = world.vm.snapshots[sid(1)]
    assert missing.failure is not None
    assert (missing.state, missing.failure.reason) == (SnapshotState.ERROR, "CHECKPOINT_MISSING")
    world.host.checkpoints.update(there)
    sync(world)
    found = world.vm.snapshots[sid(1)]
    assert (found.state, found.failure) == (SnapshotState.READY, None)


def causes(world: World) -> list[tuple[Power, str]]:
    """Return the power changes on record since the VM was registered, with their causes."""
    return [(x.to_power, x.cause) for x in world.log if isinstance(x, e.VmPowerChanged)][1:]


def drifted(world: World) -> list[e.DriftKind]:
    """Return the kinds of the drift on record."""
    return [x.kind for x in world.log if isinstance(x, e.DriftDetected)]


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        (create(9), CREATE),
        (delete(sid(2)), REMOVE),
        (delete(sid(2)), MERGE),
        (revert_to(sid(2)), RESTORE),
        (revert_to(sid(1)), RESTORE),
        (stop_vm(StopMode.SAVE), STOP),
        (stop_vm(StopMode.SHUTDOWN), STOP),
    ],
)
@pytest.mark.parametrize("seen", ["by the answer of a step", "by its observation"])
def test_what_an_administrator_did_to_the_power_is_drift_whoever_sees_it_first(
    request_: RequestOperation, action: ActionName, seen: str
) -> None:
    world = World()
    chain(world)
    world.do(request_)
    while not (found := world.open_step()) or found[1].plan.action != action or found[1].observing:
        world.turn()
    already = len(causes(world))
    if seen == "by its observation" and found[1].state is StepState.ISSUED:
        lose_command(world)
    world.host.power = Power.PAUSED if world.host.power is Power.RUNNING else Power.RUNNING
    by_hand = world.host.power
    world.turn()
    world.turn()
    assert causes(world)[already:][:1] == [(by_hand, "drift")]
    assert drifted(world)[:1] == [e.DriftKind.POWER_STATE_CHANGED]


@pytest.mark.parametrize("action", [STOP, RESTORE])
def test_what_a_step_would_have_done_is_not_its_doing_if_no_script_has_begun_it(action: ActionName) -> None:
    world = World()
    chain(world)
    world.do(stop_vm(StopMode.TURN_OFF) if action == STOP else revert_to(sid(2)))
    until_issued(world, action)
    lose_command(world)
    world.host.power = Power.STOPPED if action == STOP else Power.SAVED
    world.turn()
    world.turn()
    assert causes(world)[:1] == [(world.host.power, "drift")]


def test_a_power_that_a_killed_restore_has_left_is_its_own_doing_and_no_other_is() -> None:
    for left, cause in ((Power.SAVED, "step"), (Power.STOPPED, "drift")):
        world = World()
        chain(world)
        world.do(revert_to(sid(2)))
        until_issued(world, RESTORE)
        begin_and_die(world)
        world.host.power = left
        world.turn()
        world.turn()
        assert causes(world)[:1] == [(left, cause)]
        assert world.run().state is OperationState.SUCCEEDED


def test_a_power_that_the_look_before_the_first_step_finds_is_drift() -> None:
    world = World()
    world.do(create(1))
    world.host.power = Power.STOPPED
    assert world.run().state is OperationState.SUCCEEDED
    assert causes(world) == [(Power.STOPPED, "drift")]
    assert drifted(world) == [e.DriftKind.POWER_STATE_CHANGED]


def test_a_registration_is_the_cause_of_the_first_power_on_record() -> None:
    (first,) = [x for x in World().log if isinstance(x, e.VmPowerChanged)]
    assert (first.from_power, first.to_power, first.cause) == (Power.UNKNOWN, Power.RUNNING, "registration")


@pytest.mark.parametrize("how", ["lost on its way", "begun and dead", "refused", "failed for good"])
def test_a_create_that_is_cancelled_and_has_made_nothing_leaves_no_snapshot(how: str) -> None:
    world = World()
    world.do(create(1))
    until_issued(world, CREATE)
    world.cancel(1)
    if how == "begun and dead":
        begin_and_die(world)
    elif how == "lost on its way":
        lose_command(world)
    else:
        world.host.error_ids = {1: "ObjectInUse,x" if how == "refused" else "OperationFailed,x"}
    assert world.run().state is OperationState.CANCELLED
    own = world.vm.snapshots[sid(1)]
    assert (own.state, own.failure, world.vm.current_id) == (SnapshotState.REMOVED, None, None)
    assert any(isinstance(event, e.SnapshotCreationCancelled) for event in world.log)
    world.host.error_ids = {}
    world.do(create_snapshot(sid(2), "s1"))
    assert world.run().state is OperationState.SUCCEEDED
