"""As of when a VM is known: an answer that was long on its way does not look fresh."""

from __future__ import annotations

from datetime import timedelta

from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.host_report import HostAnswer, Verdict
from tests.fakes import VM_ID
from tests.unit.application.cases import CASES
from tests.unit.dispatch.test_dispatcher import HOST, Room, asked

CREATION = next(c for c in CASES if c.name == "create disk")


def creating() -> Room:
    """Return a room in which an effect is under way."""
    room = asked(CREATION)
    room.attach()
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    return room


def test_a_report_is_as_old_as_its_question() -> None:
    room = asked(CREATION)
    room.dispatcher.feeding.attach("ex", frozenset({"*"}), room.seconds)
    asked_at = room.world.now
    order = Order(kind=OrderKind.REPORT, host_id=HOST, deadline=asked_at + timedelta(minutes=1), vm_id=VM_ID)
    room.take(room.dispatcher.asked("k", order, room.moment))
    (report,) = room.sent
    room.sent.clear()
    room.tick(50)
    answer = HostAnswer(verdict=Verdict.REPORTED, vms=(room.world.host.report(),))
    room.take(room.dispatcher.answered("ex", report.dispatch_id, answer, room.moment))
    assert room.dispatcher.observed.get(HOST, VM_ID) == asked_at


def test_an_effect_reports_as_of_its_end() -> None:
    room = creating()
    room.tick(50)
    room.deliver()
    assert room.dispatcher.observed.get(HOST, VM_ID) == room.world.now


def test_an_answer_that_an_executor_held_while_it_was_away_is_as_old_as_its_order() -> None:
    room = creating()
    (effect,) = room.sent
    sent_at = room.world.now
    done = room.answer(effect.order)
    room.sent.clear()
    room.take(room.dispatcher.detached("ex", room.moment))
    room.tick(3600)
    room.take(room.dispatcher.answered("ex", effect.dispatch_id, done, room.moment))
    assert room.dispatcher.observed.get(HOST, VM_ID) == sent_at


def test_an_older_report_does_not_make_a_vm_older() -> None:
    room = creating()
    (effect,) = room.sent
    done = room.answer(effect.order)
    room.sent.clear()
    room.take(room.dispatcher.detached("ex", room.moment))
    room.attach()
    order = Order(kind=OrderKind.REPORT, host_id=HOST, deadline=room.world.now + timedelta(hours=1), vm_id=VM_ID)
    room.tick(60)
    room.sent.clear()
    room.take(room.dispatcher.asked("k", order, room.moment))
    room.deliver()
    seen = room.dispatcher.observed.get(HOST, VM_ID)
    room.take(room.dispatcher.answered("ex", effect.dispatch_id, done, room.moment))
    assert room.dispatcher.observed.get(HOST, VM_ID) == seen


def test_what_is_not_believed_is_not_observed() -> None:
    room = creating()
    (effect,) = room.sent
    before = room.dispatcher.observed.get(HOST, VM_ID)
    room.tick(30)
    done = room.answer(effect.order)
    assert room.dispatcher.answered("other", effect.dispatch_id, done, room.moment) == []
    assert room.dispatcher.answered("ex", "never sent", done, room.moment) == []
    assert room.dispatcher.observed.get(HOST, VM_ID) == before
