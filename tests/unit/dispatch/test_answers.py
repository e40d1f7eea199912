"""An executor's word counts only from the executor, and for the VM and the step, that were asked."""

from __future__ import annotations

import pytest

from snapshotd.dispatch.answers import fitting
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import HostAnswer, Unread, Verdict
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from tests.asking import CREATE
from tests.fakes import START, VM_ID, FakeHost
from tests.unit.application.cases import CASES, check_end
from tests.unit.dispatch.test_dispatcher import LOST, Room, asked
from tests.unit.dispatch.test_unreachable_host import until_effect

CREATION = next(c for c in CASES if c.name == "create disk")
HOST = HostId("hv01")
OTHER = "22222222-2222-4222-8222-222222222222"
MADE: JsonObject = {"checkpoint_id": "cccccccc-0000-4000-8000-000000000001", "has_memory": False}


def effect(room: Room) -> tuple[str, Order]:
    """Return the effect under way."""
    (send,) = [s for s in room.sent if s.order.kind is OrderKind.EFFECT]
    return send.dispatch_id, send.order


def test_an_outcome_from_another_executor_is_not_believed() -> None:
    room = asked(CREATION)
    room.attach()
    room.take(room.dispatcher.attached("other", frozenset({"*"}), room.moment))
    until_effect(room)
    dispatch_id, order = effect(room)
    done = room.answer(order)
    assert room.dispatcher.answered("other", dispatch_id, done, room.moment) == []
    assert room.world.vm.active_operations, "nothing has happened to the operation"
    room.take(room.dispatcher.answered("ex", dispatch_id, done, room.moment))
    check_end(room.world, CREATION)


def test_a_late_outcome_from_another_executor_is_not_believed_and_that_of_its_own_is() -> None:
    room = asked(CREATION)
    room.attach()
    until_effect(room)
    dispatch_id, order = effect(room)
    done = room.answer(order)
    room.sent.clear()
    room.take(room.dispatcher.detached("ex", room.moment))
    assert room.dispatcher.answered("other", dispatch_id, done, room.moment) == []
    room.take(room.dispatcher.answered("ex", dispatch_id, done, room.moment))
    check_end(room.world, CREATION)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: replace(a, vms=(replace(a.vms[0], vm_id=OTHER),)),
        lambda a: replace(a, vms=()),
        lambda a: replace(a, vms=a.vms * 2),
        lambda a: replace(a, output={}),
        lambda a: replace(a, output={"checkpoint_id": None, "has_memory": False}),
        lambda a: replace(a, output={**a.output, "more": 1}),
        lambda a: replace(a, output={**a.output, "has_memory": "yes"}),
        lambda a: replace(a, verdict=Verdict.REPORTED),
        lambda a: replace(a, verdict=Verdict.OBSERVED),
        lambda a: replace(a, verdict=Verdict.NO_EFFECT),
    ],
    ids=[
        "another VM",
        "no report",
        "two reports",
        "no output",
        "no checkpoint",
        "more than the output",
        "another type",
        "a report",
        "an observation",
        "an output of what was refused",
    ],
)
def test_an_answer_that_does_not_fit_is_no_answer_and_the_host_is_observed(spoil: object) -> None:
    room = asked(CREATION)
    room.attach()
    until_effect(room)
    dispatch_id, order = effect(room)
    room.sent.clear()
    assert callable(spoil)
    room.take(room.dispatcher.answered("ex", dispatch_id, spoil(room.answer(order)), room.moment))
    (step, *_) = room.world.vm.active_operations[0].steps
    assert step.state is StepState.OUTCOME_UNKNOWN
    assert step.failure is not None
    assert step.failure.reason == "MALFORMED_ANSWER"
    room.run()
    check_end(room.world, CREATION)


def test_a_done_without_its_output_that_comes_again_and_again_ends_the_operation() -> None:
    room = asked(CREATION)
    room.attach()
    for _ in range(500):
        if not room.world.vm.active_operations:
            break
        if not room.sent:
            room.tick(5)
        elif room.sent[0].order.kind is OrderKind.EFFECT:
            done = HostAnswer(verdict=Verdict.DONE, vms=(room.world.host.report(),))
            room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, done, room.moment))
        else:
            room.deliver()
    ended = room.world.vm.operations[room.world.vm.last_number]
    assert ended.state is OperationState.FAILED
    assert ended.step(1).attempts == room.policy.max_attempts


def order(kind: OrderKind, *, all_vms: bool = False) -> Order:
    """Return an order of a kind."""
    action = CREATE if kind in (OrderKind.EFFECT, OrderKind.OBSERVE) else None
    of_host = all_vms or kind is OrderKind.TAKE_OVER
    return Order(kind=kind, host_id=HOST, deadline=START, vm_id=None if of_host else VM_ID, action=action)


ALLOWED = {
    OrderKind.REPORT: {"REPORTED", "FAILED", "FOREIGN_INSTALLATION", "NO_ANSWER"},
    OrderKind.POLL: {"REPORTED", "FAILED", "FOREIGN_INSTALLATION", "NO_ANSWER"},
    OrderKind.OBSERVE: {"OBSERVED", "IN_PROGRESS", "STALE", "BUSY", "FAILED", "FOREIGN_INSTALLATION", "NO_ANSWER"},
    OrderKind.EFFECT: {v.name for v in Verdict} - {"REPORTED", "OBSERVED"},
    OrderKind.TAKE_OVER: {"DONE", "FAILED", "FOREIGN_INSTALLATION", "NO_ANSWER"},
}


@pytest.mark.parametrize("kind", OrderKind)
@pytest.mark.parametrize("verdict", Verdict)
def test_each_kind_of_order_has_its_verdicts(kind: OrderKind, verdict: Verdict) -> None:
    silent = verdict in (Verdict.STALE, Verdict.BUSY, Verdict.FOREIGN_INSTALLATION, Verdict.FAILED, Verdict.NO_ANSWER)
    output = MADE if (kind, verdict) == (OrderKind.EFFECT, Verdict.DONE) else {}
    answer = HostAnswer(verdict=verdict, vms=() if silent else (FakeHost().report(),), output=output, error_id="E")
    fits = fitting(order(kind), answer) is answer
    assert fits is (verdict.name in ALLOWED[kind])


def test_a_report_of_all_vms_may_hold_any_and_one_that_could_not_be_read() -> None:
    reports = (FakeHost().report(), replace(FakeHost().report(), vm_id=OTHER, unread=Unread("x", "E", "m")))
    answer = HostAnswer(verdict=Verdict.REPORTED, vms=reports)
    assert fitting(order(OrderKind.REPORT, all_vms=True), answer) is answer
    unread = replace(answer, vms=(replace(FakeHost().report(), unread=Unread("x", "E", "m")),))
    assert fitting(order(OrderKind.POLL), unread).error_id == "MALFORMED_ANSWER"


def test_the_report_of_another_vm_ends_no_wait_for_a_merge() -> None:
    room = asked(next(c for c in CASES if c.name == "delete in the middle"))
    room.attach()
    while not room.sent or room.sent[0].order.kind is not OrderKind.POLL:
        room.deliver() if room.sent else room.tick()
    room.world.host.merge()
    merged = replace(room.world.host.report(), vm_id=OTHER)
    version = room.world.vm.version
    answer = HostAnswer(verdict=Verdict.REPORTED, vms=(merged,))
    room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, answer, room.moment))
    assert room.world.vm.version == version
    assert room.waits() == "MALFORMED_ANSWER"


def test_the_stream_of_an_executor_that_falls_silent_is_ended_by_its_lease() -> None:
    room = asked(CREATION)
    room.attach()
    room.seconds += 8.5
    room.take(room.dispatcher.tick(room.moment))
    assert room.ended == ["ex"]
    room.take(room.dispatcher.tick(room.moment))
    assert room.ended == ["ex"]
    assert LOST.error_id == "CONNECTION_LOST"
