"""A look that cannot be taken ages like one that shows nothing; only the host's own absence does not count."""

from __future__ import annotations

import pytest

from snapshotd.dispatch.orders import OrderKind
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import OperationState, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Operation, StepNature
from snapshotd.domain.state import replace
from snapshotd.steps.catalogue import ACTIONS
from tests.unit.application.cases import AT_WORK, CASES, Case, check_end
from tests.unit.dispatch.test_dispatcher import LOST, Room, asked

BEST_EFFORT_FIRST = "revert of a stopped VM to a memory snapshot"
every_case = pytest.mark.parametrize(
    "case", [c for c in AT_WORK if c.name != BEST_EFFORT_FIRST and not c.goes_on], ids=lambda c: c.name
)
"""All but those that go on without their first step."""
MERGE = next(c for c in CASES if c.name == "delete in the middle")
GONE = HostAnswer(
    verdict=Verdict.FAILED, error_id="StorageUnreachable,snapshotd", error_message="The VM's folder is not there."
)
BUSY = HostAnswer(verdict=Verdict.BUSY)
STALE = HostAnswer(verdict=Verdict.STALE)
ODD = HostAnswer(verdict=Verdict.OBSERVED)
"""No report in it: MALFORMED_ANSWER."""
in_vain = pytest.mark.parametrize("answer", [GONE, BUSY, STALE, ODD], ids=["gone", "busy", "stale", "malformed"])
SILENT = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED")
FOREIGN = HostAnswer(verdict=Verdict.FOREIGN_INSTALLATION)


def newest(room: Room) -> Operation:
    """Return the newest operation."""
    return room.world.vm.operations[room.world.vm.last_number]


def unknown(case: Case) -> Room:
    """Return a room in which the outcome of an effect is unknown."""
    room = asked(case)
    room.attach()
    while not any(s.state is StepState.OUTCOME_UNKNOWN for s in newest(room).steps):
        if room.sent:
            room.deliver(lose=room.sent[0].order.kind is OrderKind.EFFECT)
        else:
            room.tick()
    return room


def look(room: Room, kind: OrderKind, answer: HostAnswer, seconds: float) -> None:
    """Answer looks of a kind so for as long, or until the operation has ended."""
    began = room.seconds
    while room.world.vm.active_operations and room.seconds - began < seconds:
        if room.sent and room.sent[0].order.kind is kind:
            room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, answer, room.moment))
        elif room.sent:
            room.deliver()
        else:
            room.tick(10)


def limit_s(room: Room) -> float:
    """Return the time limit of the step that is open."""
    step = newest(room).open_step
    assert step is not None
    return ACTIONS[step.plan.action].time_limit_s(room.policy)


@in_vain
@every_case
def test_an_unknown_outcome_that_can_never_be_looked_at_is_undetermined_after_the_steps_time(
    case: Case, answer: HostAnswer
) -> None:
    room = unknown(case)
    limit = limit_s(room)
    look(room, OrderKind.OBSERVE, answer, limit - 120)
    assert newest(room).active, "not before"
    look(room, OrderKind.OBSERVE, answer, 300)
    ended = newest(room)
    (step,) = [s for s in ended.steps if s.state is StepState.UNDETERMINED]
    assert step.failure is not None
    assert step.failure.reason == "OUTCOME_UNDETERMINED"
    assert "could not be looked at for too long. Last failure: " in step.failure.message
    assert step.failure.error_id == answer.error_id
    if step.plan.nature is StepNature.BEST_EFFORT:
        return  # the plan goes on
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert ended.failure.reason == "OUTCOME_UNDETERMINED"
    assert step.failure.message in ended.failure.message
    assert room.world.vm.activity is VmActivity.IDLE
    assert not room.sent


def test_a_merge_that_can_never_be_looked_at_has_stalled_and_says_why() -> None:
    room = asked(MERGE)
    room.attach()
    look(room, OrderKind.POLL, GONE, 2 * room.policy.merge_stall_s)
    ended = newest(room)
    assert ended.failure is not None
    assert ended.failure.reason == "MERGE_STALLED"
    assert "Last failure: The VM's folder is not there." in ended.failure.message
    assert ended.failure.error_id == GONE.error_id
    (snapshot,) = [s for s in room.world.vm.snapshots.values() if s.state is SnapshotState.ERROR]
    assert snapshot.snapshot_id == ended.snapshot_id


def test_a_merge_of_which_only_some_looks_fail_ages_all_the_same() -> None:
    room = asked(MERGE)
    room.attach()
    until_merging(room)
    stuck = HostAnswer(verdict=Verdict.REPORTED, vms=(replace(room.world.host.report(), activities=()),))
    began = room.seconds
    while room.world.vm.active_operations:
        look(room, OrderKind.POLL, GONE, 90)
        look(room, OrderKind.POLL, stuck, 90)
    assert room.seconds - began < room.policy.merge_stall_s + 300


def until_merging(room: Room) -> None:
    """Go on until the merge is waited for."""
    while not any(s.state is StepState.WAITING for s in newest(room).steps):
        room.deliver() if room.sent else room.tick()


@pytest.mark.parametrize("answer", [LOST, SILENT, FOREIGN], ids=["lost", "silent", "foreign"])
def test_while_the_host_itself_cannot_be_asked_nothing_ages(answer: HostAnswer) -> None:
    room = unknown(CASES[0])
    look(room, OrderKind.OBSERVE, answer, 24 * 3600)
    room.run()
    check_end(room.world, CASES[0])
    room = asked(MERGE)
    room.attach()
    look(room, OrderKind.POLL, answer, 24 * 3600)
    room.run()
    check_end(room.world, MERGE)


def test_the_time_in_which_the_host_was_away_does_not_count_and_that_before_it_does() -> None:
    room = unknown(CASES[0])
    limit = limit_s(room)
    look(room, OrderKind.OBSERVE, GONE, limit - 200)
    look(room, OrderKind.OBSERVE, LOST, 10 * limit)
    assert newest(room).active
    look(room, OrderKind.OBSERVE, GONE, 600)
    assert not newest(room).active


def test_a_look_that_shows_the_hypervisor_at_work_begins_anew() -> None:
    room = unknown(CASES[0])
    limit = limit_s(room)
    working = HostAnswer(verdict=Verdict.IN_PROGRESS, vms=(replace(room.world.host.report(), activities=("BACKUP",)),))
    for _ in range(5):
        look(room, OrderKind.OBSERVE, GONE, limit - 200)
        look(room, OrderKind.OBSERVE, working, 120)
    assert newest(room).active
    room.run()
    check_end(room.world, CASES[0])


def test_a_vm_that_cannot_be_read_before_anything_was_sent_waits_and_can_be_cancelled() -> None:
    room = asked(CASES[3])
    room.world.vm = replace(room.world.vm, journal_id="")
    room.start("again")
    room.attach()
    look(room, OrderKind.OBSERVE, GONE, 24 * 3600)
    assert newest(room).state is OperationState.PENDING
    assert room.waits() == "HOST_SCRIPT_FAILED"
    room.world.cancel(newest(room).number)
    assert newest(room).state is OperationState.CANCELLED


@in_vain
def test_a_step_past_the_pivot_whose_vm_can_never_be_looked_at_ends_its_operation(answer: HostAnswer) -> None:
    room = asked(next(c for c in CASES if c.name == "revert of a running VM to a memory snapshot"))
    room.attach()
    host = room.world.host
    apply = host.apply

    def apply_and_hang(checkpoint_id: CheckpointId) -> None:
        apply(checkpoint_id)
        host.transition = "Stopping"

    host.apply = apply_and_hang  # type: ignore[method-assign]  # the fake's own clockwork
    for _ in range(20):
        if newest(room).step(1).state is not StepState.DONE:
            room.deliver() if room.sent else room.tick()
    assert newest(room).too_late_to_cancel()
    assert newest(room).active
    look(room, OrderKind.OBSERVE, answer, 2 * ACTIONS[newest(room).step(2).plan.action].time_limit_s(room.policy))
    ended = newest(room)
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert "The disks are back at snapshot" in ended.failure.message
