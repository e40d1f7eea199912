"""An effect that its host has not begun, since it could not look at the VM: done once in the end, or not at all."""

from __future__ import annotations

import pytest

from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.lifecycle import OperationState, StepState, VmActivity
from snapshotd.steps.catalogue import ACTIONS
from tests.unit.application.cases import AT_WORK, CASES, Case, check_end
from tests.unit.dispatch.test_dispatcher import Room, asked
from tests.unit.dispatch.test_looks_in_vain import every_case, newest

RIGHTS = "RightsMissing,snapshotd"
all_cases = pytest.mark.parametrize("case", AT_WORK, ids=lambda c: c.name)


def at_the_first_effect(case: Case) -> tuple[Room, Order]:
    """Return a room in which the account has lost its rights while the first effect was on its way."""
    room = asked(case)
    room.attach()
    while not (room.sent and room.sent[0].order.kind is OrderKind.EFFECT):
        room.deliver() if room.sent else room.tick()
    room.world.host.unseen = RIGHTS
    order = room.sent[0].order
    room.deliver()
    return room, order


def wait(room: Room, seconds: float) -> None:
    """Let time pass, and orders be answered."""
    began = room.seconds
    while room.world.vm.active_operations and room.seconds - began < seconds:
        room.deliver() if room.sent else room.tick(10)


@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted"])
@all_cases
def test_it_waits_with_the_reason_and_is_done_once_when_the_rights_are_there(case: Case, *, restart: bool) -> None:
    room, order = at_the_first_effect(case)
    wait(room, 300)
    why = room.dispatcher.wait(room.world.vm.vm_id, newest(room).number)
    assert why is not None
    assert (why.failure.reason, why.failure.error_id) == ("HOST_SCRIPT_FAILED", RIGHTS)
    assert why.failure.message == "It may not be seen."
    assert newest(room).step(order.step).state is StepState.DUE
    version = room.world.vm.version
    wait(room, 120)
    assert room.world.vm.version == version, "it does not fill the log"
    if restart:
        room.start("second")
        room.attach()
    room.world.host.unseen = ""
    room.run()
    check_end(room.world, case)


@every_case
def test_it_certainly_was_not_done_if_they_never_come(case: Case) -> None:
    room, order = at_the_first_effect(case)
    while room.world.vm.active_operations:
        wait(room, 600)
        assert room.seconds < 24 * 3600
    ended = newest(room)
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert (ended.failure.reason, ended.failure.error_id) == ("NOT_BEGUN", RIGHTS)
    assert "was not begun" in ended.failure.message
    assert "Last failure: It may not be seen." in ended.failure.message
    assert all(step.state is not StepState.UNDETERMINED for step in ended.steps)
    assert room.world.vm.activity is VmActivity.IDLE
    room.world.host.unseen = ""
    assert room.world.host.effect(order).verdict is Verdict.STALE, "what comes late, or twice, cannot begin"
    assert room.world.host.effects == []


def test_it_waits_for_as_long_as_the_step_may_take() -> None:
    room, order = at_the_first_effect(CASES[0])
    assert order.action is not None
    wait(room, ACTIONS[order.action].time_limit_s(room.policy) - 120)
    assert newest(room).active
    wait(room, 300)
    assert not newest(room).active


def test_it_can_be_cancelled_meanwhile() -> None:
    room, order = at_the_first_effect(CASES[0])
    wait(room, 60)
    room.world.cancel(newest(room).number)
    room.take(room.dispatcher.changed(room.world.vm, room.moment))
    room.run()
    assert newest(room).state is OperationState.CANCELLED
    room.world.host.unseen = ""
    assert room.world.host.effect(order).verdict is Verdict.STALE
    assert room.world.host.effects == []


def test_an_effect_that_is_refused_so_while_each_look_succeeds_ends_after_its_attempts() -> None:
    room = asked(CASES[0])
    room.attach()
    refused = HostAnswer(verdict=Verdict.NOT_BEGUN, error_id="StorageUnreachable,snapshotd", error_message="Away.")
    while room.world.vm.active_operations:
        if room.sent and room.sent[0].order.kind is OrderKind.EFFECT:
            room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, refused, room.moment))
        else:
            room.deliver() if room.sent else room.tick()
    ended = newest(room)
    assert ended.failure is not None
    assert (ended.failure.reason, ended.failure.error_id) == ("NOT_BEGUN", "StorageUnreachable,snapshotd")
    assert ended.steps[0].attempts == room.policy.max_attempts
    assert room.world.host.effects == []


def test_rights_that_are_missing_once_an_effect_may_have_begun_leave_its_outcome_unknown() -> None:
    room = asked(CASES[0])
    room.attach()
    while not (room.sent and room.sent[0].order.kind is OrderKind.EFFECT):
        room.deliver() if room.sent else room.tick()
    failed = HostAnswer(verdict=Verdict.FAILED, error_id=RIGHTS, error_message="It may not be seen.")
    room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, failed, room.moment))
    assert newest(room).steps[0].state is StepState.OUTCOME_UNKNOWN
    room.world.host.unseen = RIGHTS
    wait(room, 2 * room.policy.create_wait_s)
    ended = newest(room)
    assert ended.failure is not None
    assert ended.failure.reason == "OUTCOME_UNDETERMINED"
