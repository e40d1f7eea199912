"""Deletes of several snapshots: what goes and what stays, on record and on the host, however far they come."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import pytest

from snapshotd.domain.commands import (
    GiveUpLook,
    HoldSnapshot,
    LoseOutcome,
    Proceed,
    RequestOperation,
    StallWait,
    SyncVm,
)
from snapshotd.domain.errors import (
    CancelTooLate,
    MergePending,
    OperationActive,
    WrongPower,
)
from snapshotd.domain.events import DriftDetected, ObservationIssued
from snapshotd.domain.ids import ActionName, SnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, Operation, SettledAs, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot_errors import (
    NoDescendants,
    SnapshotHeld,
)
from snapshotd.domain.state import replace
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.snapshot_delete import Scope
from snapshotd.operations.snapshot_delete_all import NOT_DELETED, Outcome
from snapshotd.ports import plain
from snapshotd.server.resource_messages import snapshot_message
from tests.asking import MERGE, REMOVE, delete, delete_all, revert_to, start_vm
from tests.fakes import World
from tests.unit.application.cases import check_invariants, create, settlement, sid

FINAL = "OperationFailed,X"
LOST = Failure(reason="CONNECTION_LOST", message="The connection was lost.")
WITH, ONLY = Scope.WITH_DESCENDANTS, Scope.ONLY_DESCENDANTS
MEMORY = {2, 4}


def grown() -> World:
    r"""Return a world with a tree of five snapshots, and checkpoints of others among them.

        1 ─┬─ 2 ─┬─ 3 ── theirs-3
           │     ├─ 4
           │     └─ theirs-2
           └─ theirs-1 ── 5, current

    2 and 4 have memory.
    """
    world = World(policy=Policy(max_per_vm=20))
    world.watch = check_invariants
    for n, below in ((1, None), (2, 1), (3, 2), (4, 2), (5, 1)):
        if below is not None:
            done(world, revert_to(sid(below)))
        if n in MEMORY and world.host.power is Power.STOPPED:
            done(world, start_vm())
        if n == 5:
            by_hand(world, "theirs-1")
        done(world, create(n, memory=n in MEMORY))
        if n in (2, 3):
            by_hand(world, f"theirs-{n}")
    world.host.effects.clear()
    world.log.clear()
    return world


def by_hand(world: World, name: str) -> None:
    """Have somebody else take a checkpoint, which a sync finds."""
    world.host.take(name)
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def done(world: World, request: RequestOperation) -> Operation:
    """Carry out a request."""
    world.do(request)
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED, operation.failure
    return operation


def newest(world: World) -> Operation:
    """Return the operation that was requested last."""
    return world.vm.operations[world.vm.last_number]


def until(world: World, about: int, action: ActionName, state: StepState) -> Step:
    """Go on until a step about the n-th snapshot is in a state; return it."""
    for _ in range(80):
        for step in newest(world).steps:
            if (step.plan.snapshot_id, step.plan.action, step.state) == (sid(about), action, state):
                return step
        world.turn()
    raise AssertionError(newest(world))


def left(world: World) -> dict[str, str | None]:
    """Return what stands on the host, and below what, by the names for people."""

    def name(full: str) -> str:
        return full.partition(" #")[0]

    there = world.host.checkpoints
    return {name(c.name): name(there[c.parent_id].name) if c.parent_id else None for c in there.values()}


def activity(world: World) -> VmActivity:
    """Return what is done to the VM."""
    return world.vm.activity


def states(world: World) -> dict[int, SnapshotState]:
    """Return the state of each snapshot that is not READY."""
    numbers = {sid(n): n for n in range(1, 20)}
    return {numbers[s.snapshot_id]: s.state for s in world.vm.snapshots.values() if s.state is not SnapshotState.READY}


def check_rest(world: World) -> None:
    """Check that a world that has come to rest is on record as it is, and that nothing was taken for drift."""
    assert world.vm.activity is VmActivity.IDLE
    assert world.vm.current_id == world.vm.nearest_own(world.host.current)
    for snapshot in world.vm.snapshots.values():
        there = world.host.checkpoints.get(snapshot.checkpoint_id) if snapshot.checkpoint_id else None
        assert (snapshot.state is SnapshotState.READY) is (there is not None), snapshot
        if there is not None:
            assert snapshot.parent_id == world.vm.nearest_own(there.parent_id)
    assert not [event for event in world.log if isinstance(event, DriftDetected)]
    assert {p for p in world.host.parents.values() if list(world.host.parents.values()).count(p) == 1} <= {
        "base.vhdx",
        *(c.disks[0].path for c in world.host.checkpoints.values()),
    }, "no file is left to merge"


OURS: dict[str, str | None] = {"s1": None, "s2": "s1", "s3": "s2", "s4": "s2", "s5": "theirs-1"}
WHOLE = OURS | {"theirs-1": "s1", "theirs-2": "s2", "theirs-3": "s3"}


def test_the_tree_of_these_tests_is_as_it_is_drawn() -> None:
    world = grown()
    assert left(world) == WHOLE
    assert {s.snapshot_id: s.parent_id for s in world.vm.snapshots.values()} == {
        sid(1): None,
        sid(2): sid(1),
        sid(3): sid(2),
        sid(4): sid(2),
        sid(5): sid(1),
    }
    assert world.vm.current_id == sid(5)


@pytest.mark.parametrize(
    ("request_", "order", "stays"),
    [
        (delete(sid(2), WITH), [3, 4, 2], {"s1": None, "s5": "theirs-1", "theirs-1": "s1", "theirs-2": "s1"}),
        (
            delete(sid(2), ONLY),
            [3, 4],
            {"s1": None, "s2": "s1", "s5": "theirs-1", "theirs-1": "s1", "theirs-2": "s2"},
        ),
        (delete(sid(1), WITH), [3, 4, 2, 5, 1], {"theirs-1": None, "theirs-2": None}),
        (delete(sid(1), ONLY), [3, 4, 2, 5], {"s1": None, "theirs-1": "s1", "theirs-2": "s1"}),
        (delete_all(), [3, 4, 2, 5, 1], {"theirs-1": None, "theirs-2": None}),
        (
            delete_all(only_with_memory=True),
            [4, 2],
            {"s1": None, "s3": "s1", "s5": "theirs-1", "theirs-1": "s1", "theirs-2": "s1"},
        ),
    ],
    ids=["2 and below", "below 2", "1 and below", "below 1", "all", "with memory"],
)
@pytest.mark.parametrize("how", [{}, {"lose": True}, {"twice": True}], ids=["smoothly", "answers lost", "all twice"])
def test_leaves_go_first_and_what_is_not_ours_stays_and_moves_up(
    request_: RequestOperation, order: list[int], stays: dict[str, str | None], how: dict[str, bool]
) -> None:
    world = grown()
    world.do(request_)
    operation = world.run(limit=200, **how)
    assert operation.state is OperationState.SUCCEEDED
    theirs_3 = next((name for name in ("s3", "s2", "s1") if name in stays), None)
    assert left(world) == stays | {"theirs-3": theirs_3}
    removals = [s.plan.snapshot_id for s in operation.steps if s.plan.action == REMOVE]
    assert removals == [sid(n) for n in order]
    assert [(action, step) for action, _, step in world.host.effects] == [
        (REMOVE, 2 * n + 1) for n in range(len(order))
    ]
    assert KINDS[operation.kind].removed(operation) == tuple(removals)
    assert states(world) == dict.fromkeys(order, SnapshotState.REMOVED)
    check_rest(world)


@pytest.mark.parametrize("request_", [delete(sid(2), WITH), delete(sid(1), ONLY), delete_all()])
def test_the_plan_tells_beforehand_what_will_be_so(request_: RequestOperation) -> None:
    world = grown()
    seen = KINDS[request_.kind].preview(world.vm, request_)
    parents = {s.snapshot_id: s.parent_id for s in world.vm.snapshots.values()}
    done(world, request_)
    assert seen.discarded == KINDS[request_.kind].removed(newest(world))
    assert (seen.current, seen.power) == (world.vm.current_id, world.vm.power)
    after = {s.snapshot_id: s.parent_id for s in world.vm.snapshots.values() if s.state is SnapshotState.READY}
    assert dict(seen.moved) == {own: parent for own, parent in after.items() if parents[own] != parent}
    there = left(world)
    for name, below in there.items():
        stands = f"below {below}" if below else "at the top"
        moves = f"Checkpoint {name} is not ours and stays. The host moves it: it will stand {stands}."
        assert (moves in seen.warnings) is (name.startswith("theirs") and WHOLE[name] != below)
    assert len(seen.warnings) == sum(WHOLE[name] != below for name, below in there.items() if name.startswith("theirs"))


def test_those_with_memory_leave_their_children_to_the_nearest_that_stays() -> None:
    world = grown()
    request = delete_all(only_with_memory=True)
    seen = KINDS[request.kind].preview(world.vm, request)
    assert (seen.moved, seen.discarded) == (((sid(3), sid(1)),), (sid(4), sid(2)))


def test_what_is_done_stands_when_a_later_one_fails_and_the_failure_says_what_is_left() -> None:
    world = grown()
    world.host.error_ids = {3: FINAL}
    world.do(delete(sid(2), WITH))
    operation = world.run()
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert operation.failure.error_id == FINAL
    assert operation.failure.message.endswith(f"({FINAL}). Deleted: s3. Not deleted: s4, s2.")
    assert KINDS[operation.kind].removed(operation) == (sid(3),)
    assert states(world) == {3: SnapshotState.REMOVED}
    assert world.vm.snapshots[sid(4)].failure == operation.failure
    assert world.vm.snapshots[sid(2)].failure is None, "it was not begun"
    assert "s2" in left(world)
    check_rest(world)


def test_a_delete_of_all_goes_on_past_each_failure_and_lists_them() -> None:
    world = grown()
    world.host.error_ids = {1: FINAL, 5: FINAL}
    world.do(delete_all())
    operation = world.run()
    assert operation.failure is not None
    assert (operation.state, operation.failure.reason) == (OperationState.FAILED, NOT_DELETED)
    text = operation.failure.message
    assert text.startswith("Cannot delete 2 of 5 snapshots of VM web01. s3: ")
    assert " s2: " in text
    assert "Deleted: s4, s5, s1. When the causes are gone, run `snapshotctl snapshot delete-all web01` again." in text
    achieved = KINDS[operation.kind].achieved(operation)
    assert isinstance(achieved, Outcome)
    assert achieved.removed == (sid(4), sid(5), sid(1))
    assert [(s, f.error_id) for s, f in achieved.failures] == [(sid(3), FINAL), (sid(2), FINAL)]
    assert [operation.step(n).state for n in (1, 2, 5, 6)] == [StepState.FAILED, StepState.SKIPPED] * 2
    assert states(world) == dict.fromkeys((4, 5, 1), SnapshotState.REMOVED)
    assert left(world) == {"theirs-1": None, "s2": None, "s3": "s2", "theirs-2": "s2", "theirs-3": "s3"}
    world.host.error_ids = {}
    done(world, delete_all())
    check_rest(world)


def test_a_snapshot_that_could_not_be_deleted_rests_while_the_others_go_on() -> None:
    world = grown()
    world.host.error_ids = {1: FINAL}
    world.do(delete_all())
    until(world, 4, REMOVE, StepState.ISSUED)
    kept = world.vm.snapshots[sid(3)]
    assert kept.state is SnapshotState.READY
    assert kept.failure is not None
    assert kept.failure.error_id == FINAL


def test_an_outcome_that_nobody_can_tell_does_not_stop_the_others() -> None:
    world = grown()
    world.do(delete_all())
    step = until(world, 4, REMOVE, StepState.ISSUED)
    number = newest(world).number
    world.do(LoseOutcome(number=number, step=step.plan.number, token=step.token, failure=LOST))
    world.do(Proceed())
    token = newest(world).step(step.plan.number).token
    world.do(GiveUpLook(number=number, step=step.plan.number, token=token, failure=LOST))
    assert states(world)[4] is SnapshotState.ERROR
    operation = world.run()
    assert operation.failure is not None
    assert operation.failure.reason == NOT_DELETED
    assert operation.step(step.plan.number).state is StepState.UNDETERMINED
    failed = world.vm.snapshots[sid(4)]
    assert failed.failure is not None
    assert failed.failure.reason == "OUTCOME_UNDETERMINED"
    assert states(world) == dict.fromkeys((1, 2, 3, 5), SnapshotState.REMOVED), "4 was found intact since"


def test_a_removal_that_a_person_says_had_no_effect_lets_its_snapshot_rest_at_once() -> None:
    world = grown()
    world.do(delete_all())
    until(world, 4, REMOVE, StepState.ISSUED)
    world.do(settlement(world, SettledAs.NO_EFFECT))
    assert newest(world).active
    assert states(world) == {3: SnapshotState.REMOVED}
    kept = world.vm.snapshots[sid(4)]
    assert kept.failure is not None
    assert kept.failure.message.startswith("The step had no effect, as a person said.")


def test_a_merge_that_stalls_does_not_stop_the_others_and_can_be_waited_for_again() -> None:
    world = grown()
    world.do(delete_all())
    step = until(world, 4, MERGE, StepState.WAITING)
    stalled = Failure(reason="MERGE_STALLED", message="Nothing has happened.")
    world.do(StallWait(number=newest(world).number, step=step.plan.number, failure=stalled))
    assert world.vm.snapshots[sid(4)].state is SnapshotState.ERROR
    assert world.vm.snapshots[sid(4)].unmerged
    operation = world.run()
    assert isinstance(achieved := KINDS[operation.kind].achieved(operation), Outcome)
    assert achieved.failures == ((sid(4), stalled),)
    assert world.vm.snapshots[sid(4)].state is SnapshotState.ERROR
    done(world, delete_all())
    assert set(states(world).values()) == {SnapshotState.REMOVED}


def test_a_removal_waits_until_the_power_is_known_also_where_the_plan_could_go_on_without_it() -> None:
    world = grown()
    world.do(delete_all())
    until(world, 4, MERGE, StepState.DONE)
    world.vm = replace(world.vm, power=Power.UNKNOWN)
    world.do(Proceed())
    assert newest(world).step(5).observing
    assert world.run().state is OperationState.SUCCEEDED


def test_what_must_not_be_removed_any_more_is_left_and_says_why_after_one_wait_for_all() -> None:
    world = grown()
    world.do(delete_all())
    until(world, 4, MERGE, StepState.DONE)
    before = [*world.host.effects]
    world.host.gone = True
    while not newest(world).step(5).observing:
        world.turn()
    operation = world.run()
    assert operation.state is OperationState.FAILED
    assert isinstance(achieved := KINDS[operation.kind].achieved(operation), Outcome)
    assert achieved.removed == (sid(3), sid(4))
    assert [(s, f.reason) for s, f in achieved.failures] == [(sid(n), "VM_ABSENT") for n in (2, 5, 1)]
    assert [s.state for s in operation.steps[4:]] == [StepState.SKIPPED] * 6
    assert world.host.effects == before
    assert states(world) == dict.fromkeys((3, 4), SnapshotState.REMOVED)
    looked = {event.step for event in world.log if isinstance(event, ObservationIssued)}
    assert looked & {5, 7, 9} == {5}, "not once for each snapshot"


def test_nothing_to_delete_has_succeeded_at_once() -> None:
    world = World()
    request = delete_all()
    assert KINDS[request.kind].preview(world.vm, request).warnings == ("There is no snapshot to delete.",)
    world.vm = replace(world.vm, power=Power.UNKNOWN)
    world.do(request)
    operation = newest(world)
    assert (operation.state, operation.steps) == (OperationState.SUCCEEDED, ())
    assert world.vm.activity is VmActivity.IDLE
    assert KINDS[operation.kind].result(operation) == Outcome((), ())


def test_a_delete_of_all_needs_the_power_if_there_is_something_to_delete() -> None:
    world = grown()
    world.vm = replace(world.vm, power=Power.UNKNOWN)
    with pytest.raises(WrongPower):
        world.do(delete_all())


def hold(world: World, n: int) -> None:
    """Have somebody hold a snapshot."""
    world.do(HoldSnapshot(snapshot_id=sid(n), why="for the audit"), actor="bob")


@pytest.mark.parametrize("scope", [WITH, ONLY])
def test_a_subtree_with_a_held_snapshot_is_refused_by_name(scope: Scope) -> None:
    world = grown()
    hold(world, 4)
    with pytest.raises(SnapshotHeld, match="Cannot delete snapshot s4: bob has held it"):
        world.do(delete(sid(1), scope))
    done(world, delete(sid(3)))


def test_a_hold_that_comes_in_between_ends_the_delete_of_a_subtree_there() -> None:
    world = grown()
    world.do(delete(sid(2), WITH))
    until(world, 3, MERGE, StepState.WAITING)
    hold(world, 2)
    operation = world.run()
    assert operation.failure is not None
    assert (operation.state, operation.failure.reason) == (OperationState.FAILED, "SNAPSHOT_HELD")
    assert operation.failure.message.endswith("Deleted: s3, s4. Not deleted: s2.")
    check_rest(world)


def test_a_delete_of_all_leaves_a_held_one_and_tells_that_beforehand_and_afterwards() -> None:
    world = grown()
    hold(world, 2)
    seen = KINDS[delete_all().kind].preview(world.vm, delete_all())
    assert seen.discarded == (sid(3), sid(4), sid(5), sid(1))
    assert seen.moved == ((sid(2), None),)
    assert any(said.startswith("Cannot delete snapshot s2: bob has held it") for said in seen.warnings)
    world.do(delete_all())
    until(world, 4, MERGE, StepState.WAITING)
    hold(world, 5)
    operation = world.run()
    assert isinstance(achieved := KINDS[operation.kind].achieved(operation), Outcome)
    assert achieved.removed == (sid(3), sid(4), sid(1))
    assert [(s, f.reason) for s, f in achieved.failures] == [(sid(2), "SNAPSHOT_HELD"), (sid(5), "SNAPSHOT_HELD")]
    assert operation.failure is not None
    assert "s2: Cannot delete snapshot s2: bob has held it" in operation.failure.message
    assert states(world) == dict.fromkeys((3, 4, 1), SnapshotState.REMOVED)
    check_rest(world)


def test_descendants_that_are_not_there_cannot_be_deleted() -> None:
    world = grown()
    with pytest.raises(NoDescendants, match="it has none"):
        world.do(delete(sid(5), ONLY))


def without_checkpoint(world: World, n: int) -> None:
    """Have a snapshot stand in the tree that never got a checkpoint, as one whose create failed."""
    world.host.error_ids = {1: FINAL}
    world.do(create(n))
    world.run()
    world.host.error_ids = {}
    failed = world.vm.snapshots[sid(n)]
    assert (failed.state, failed.checkpoint_id) == (SnapshotState.ERROR, None)


@pytest.mark.parametrize("request_", [delete(sid(1), WITH), delete_all()], ids=["with descendants", "all"])
def test_one_that_never_got_a_checkpoint_goes_with_the_others(request_: RequestOperation) -> None:
    world = grown()
    without_checkpoint(world, 6)
    assert world.vm.snapshots[sid(6)].parent_id == sid(5)
    world.do(request_)
    assert [s.plan.action for s in newest(world).steps if s.plan.snapshot_id == sid(6)] == [MERGE]
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED
    assert states(world) == dict.fromkeys(range(1, 7), SnapshotState.REMOVED)
    check_rest(world)


def test_one_that_never_got_a_checkpoint_does_not_free_the_vm_for_others() -> None:
    world = grown()
    without_checkpoint(world, 6)
    world.do(delete(sid(5), WITH))
    world.do(Proceed())
    assert (newest(world).steps[0].state, world.vm.activity) == (StepState.WAITING, VmActivity.EXPUNGING)
    with pytest.raises(OperationActive):
        world.do(start_vm())


def test_one_whose_checkpoint_somebody_has_removed_meanwhile_is_not_removed_again() -> None:
    world = grown()
    gone = world.vm.snapshots[sid(2)].checkpoint_id
    assert gone is not None
    world.do(delete(sid(2), WITH))
    until(world, 4, MERGE, StepState.WAITING)
    world.host.remove(gone)
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED
    assert [s.state for s in operation.steps[-2:]] == [StepState.SKIPPED, StepState.DONE]
    assert [step for _, _, step in world.host.effects] == [1, 3]
    assert world.vm.activity is VmActivity.IDLE
    assert states(world) == dict.fromkeys((2, 3, 4), SnapshotState.REMOVED)


@pytest.mark.parametrize("request_", [delete(sid(2), WITH), delete_all()], ids=["with descendants", "all"])
def test_the_vm_is_held_until_the_last_removal_and_each_snapshot_only_while_it_goes(request_: RequestOperation) -> None:
    world = grown()
    world.do(request_)
    until(world, 3, MERGE, StepState.WAITING)
    assert states(world) == {3: SnapshotState.EXPUNGING}
    assert newest(world).holds_vm
    assert activity(world) is VmActivity.EXPUNGING
    with pytest.raises(OperationActive):
        world.do(start_vm())
    last = 2 if request_ == delete(sid(2), WITH) else 1
    until(world, last, MERGE, StepState.WAITING)
    assert states(world)[last] is SnapshotState.EXPUNGING
    assert states(world)[3] is SnapshotState.REMOVED
    assert activity(world) is VmActivity.IDLE
    with pytest.raises(MergePending):
        world.do(create(9))


@pytest.mark.parametrize("running", [delete(sid(2), WITH), delete_all()], ids=["with descendants", "all"])
def test_a_delete_joins_one_that_does_just_that_or_is_deleting_just_this_snapshot(running: RequestOperation) -> None:
    world = grown()
    world.do(running)
    number = newest(world).number

    def joins(request: RequestOperation) -> bool:
        world.do(request, request_id=str(request), digest="d")
        return newest(world).number == number

    assert joins(running)
    with pytest.raises(OperationActive):
        world.do(delete(sid(3)))
    until(world, 3, REMOVE, StepState.ISSUED)
    assert joins(delete(sid(3)))
    for other in (delete(sid(4)), delete(sid(2)), delete(sid(2), ONLY), delete_all(only_with_memory=True)):
        with pytest.raises(OperationActive):
            world.do(other)
    until(world, 4, MERGE, StepState.WAITING)
    assert joins(delete(sid(4)))
    until(world, 2, MERGE, StepState.WAITING)
    assert joins(delete(sid(2)))


def test_each_snapshot_that_an_operation_is_to_delete_names_it_and_no_other_does() -> None:
    world = grown()
    world.do(delete(sid(2), WITH))
    name = newest(world).name
    told = {n: snapshot_message(world.vm.snapshots[sid(n)], world.vm).active_operation for n in range(1, 6)}
    assert told == {1: "", 2: name, 3: name, 4: name, 5: ""}


def test_a_delete_of_a_subtree_cannot_be_cancelled_once_it_has_begun() -> None:
    world = grown()
    world.do(delete(sid(2), WITH))
    until(world, 3, REMOVE, StepState.ISSUED)
    with pytest.raises(CancelTooLate):
        world.cancel(newest(world).number)


@pytest.mark.parametrize("at", [REMOVE, MERGE])
def test_a_delete_of_all_that_is_cancelled_ends_before_the_next_snapshot(at: ActionName) -> None:
    world = grown()
    world.do(delete_all())
    until(world, 4, at, StepState.ISSUED if at == REMOVE else StepState.WAITING)
    world.cancel(newest(world).number)
    operation = world.run()
    assert operation.state is OperationState.CANCELLED
    assert KINDS[operation.kind].removed(operation) == (sid(3), sid(4))
    assert states(world) == dict.fromkeys((3, 4), SnapshotState.REMOVED)
    check_rest(world)


def deep(count: int) -> World:
    """Return a world with a chain of so many snapshots."""
    world = World(policy=Policy(max_per_vm=50))
    for n in range(1, count + 1):
        done(world, create(n))
    return world


def recorded(world: World) -> int:
    """Return how many characters an operation takes on record."""
    return len(str(plain.encode(newest(world))))


@pytest.mark.parametrize("request_", [delete(sid(1), WITH), delete_all()], ids=["with descendants", "all"])
def test_an_operation_about_fifty_snapshots_keeps_the_facts_of_the_one_at_hand_only(request_: RequestOperation) -> None:
    world = deep(50)
    world.do(request_)
    planned = recorded(world)
    sizes = []
    world.watch = lambda _: sizes.append(recorded(world))
    assert world.run(limit=400).state is OperationState.SUCCEEDED
    assert len(newest(world).steps) == 100
    facts = max(sizes) - planned
    assert facts < planned, "what a step has found is not kept for each of them"


def test_a_decision_about_a_hundred_steps_appends_no_more_than_one_about_two() -> None:
    def most_events(request: RequestOperation, count: int) -> int:
        world = deep(count)
        world.do(request)
        most = 0
        while world.vm.active_operations:
            before = len(world.log)
            world.turn()
            most = max(most, len(world.log) - before)
        return most

    assert most_events(delete(sid(1), WITH), 50) <= most_events(delete(sid(1), WITH), 2) + 2


def ids(world: World, pick: Callable[[SnapshotState], bool]) -> set[SnapshotId]:
    """Return the snapshots in some states."""
    return {s.snapshot_id for s in world.vm.snapshots.values() if pick(s.state)}


def test_a_snapshot_in_error_below_is_deleted_too() -> None:
    world = grown()
    bad = replace(world.vm.snapshots[sid(4)], state=SnapshotState.ERROR)
    world.vm = replace(world.vm, snapshots=MappingProxyType({**world.vm.snapshots, sid(4): bad}))
    done(world, delete(sid(2), WITH))
    assert ids(world, lambda state: state is SnapshotState.REMOVED) == {sid(2), sid(3), sid(4)}
