"""Slots: what is recorded is sent at once, nothing starves, and whoever has waited longest comes first."""

from __future__ import annotations

import pytest

from snapshotd.dispatch.orders import OrderKind
from snapshotd.domain.commands import Proceed, SyncVm
from snapshotd.domain.events import StepIssued
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, stop_vm
from tests.fakes import World
from tests.unit.application.cases import chain, create, sid
from tests.unit.dispatch.crowd import HV01, Crowd, vm_id


def known(crowd: Crowd) -> Crowd:
    """Make the journals of all VMs known, so that each operation begins with its effect."""
    for world in crowd.worlds.values():
        world.host.observe(0)
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    return crowd


def issued(crowd: Crowd) -> int:
    """Return how many steps are on record as issued, and not answered."""
    return sum(
        s.state is StepState.ISSUED for w in crowd.worlds.values() for o in w.vm.active_operations for s in o.steps
    )


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_of_a_hundred_creates_only_as_many_are_issued_as_can_be_sent_and_each_is_sent_at_once(slots: int) -> None:
    crowd = known(Crowd(100, slots))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
    while crowd.active():
        crowd.record_all()
        assert issued(crowd) == crowd.kinds().count(OrderKind.EFFECT) <= max(1, slots - 1)
        crowd.tick(20)
        for send in tuple(crowd.sent):
            time_left = (send.order.deadline - crowd.now).total_seconds()
            assert time_left >= World().policy.create_wait_s - 20, "no time was spent in a queue"
            crowd.answer(send)
    ended = [w.vm.operations[w.vm.last_number].state for w in crowd.worlds.values()]
    assert ended == [OperationState.SUCCEEDED] * 100


def test_a_slot_is_taken_while_its_step_is_being_recorded() -> None:
    crowd = known(Crowd(9))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
    assert len(crowd.records) == 3
    crowd.tick()
    assert len(crowd.records) == 3


def test_a_slot_is_free_again_when_the_record_is_refused() -> None:
    crowd = known(Crowd(9))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
    refused = crowd.records.pop(0)
    crowd.take(crowd.dispatcher.refused(refused.vm_id, RuntimeError("refused"), crowd.moment))
    assert [r.vm_id for r in crowd.records] == [vm_id(1), vm_id(2), vm_id(3)]


def test_a_slot_is_free_again_when_what_was_recorded_sends_nothing() -> None:
    crowd = known(Crowd(5))
    for n, at in enumerate(crowd.worlds):
        crowd.ask(at, create(9))
        if n == 0:
            # Between the decision to go on and the Record, the operation ends for another reason.
            crowd.attach()
            (record,) = crowd.records
            world = crowd.worlds[at]
            world.cancel(world.vm.last_number)
            assert record.command == Proceed()
            crowd.record()
    crowd.record_all()
    assert crowd.kinds() == [OrderKind.EFFECT] * 3


def test_what_people_ask_gets_through_while_effects_take_long_and_others_wait() -> None:
    crowd = known(Crowd(50))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
    crowd.record_all()
    crowd.question("k")
    (report,) = [s for s in crowd.sent if s.order.kind is OrderKind.REPORT]
    crowd.answer(report)
    assert [r.key for r in crowd.replies] == ["k"]


def test_looks_go_on_while_effects_take_long_and_people_ask_again_and_again() -> None:
    crowd = Crowd(10)
    for world in crowd.worlds.values():
        chain(world)
    crowd.attach()
    merging = list(crowd.worlds)[:4]
    for at in merging:
        crowd.ask(at, delete(sid(2)))
        crowd.record_all()
        crowd.answer(crowd.sent[-1])
    for at in list(crowd.worlds)[4:]:
        crowd.ask(at, create(9))
        crowd.record_all()
    crowd.sent = [s for s in crowd.sent if s.order.kind is not OrderKind.EFFECT]
    # The effects never end; somebody asks each second.
    for n in range(60):
        crowd.question(f"k{n}")
        crowd.tick()
        for send in [s for s in crowd.sent if s.order.kind in (OrderKind.POLL, OrderKind.REPORT)][:1]:
            crowd.answer(send)
        crowd.sent = [s for s in crowd.sent if s.order.kind is not OrderKind.EFFECT]
    assert not set(merging) & set(crowd.active()), "each was polled, and has ended"
    assert len(crowd.replies) >= 20


def test_effects_go_on_while_very_many_looks_and_questions_are_due() -> None:
    crowd = known(Crowd(30))
    crowd.attach()
    lost = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="CONNECTION_LOST")
    for at in list(crowd.worlds)[1:]:
        crowd.ask(at, stop_vm(StopMode.TURN_OFF))
        crowd.record_all()
        effects = [s for s in crowd.sent if s.order.kind is OrderKind.EFFECT]
        for send in effects:
            crowd.answer(send, lost)
    for n in range(30):
        crowd.question(f"k{n}")
    assert OrderKind.EFFECT not in crowd.kinds()
    assert len(crowd.sent) == 3, "one slot is left"
    crowd.ask(vm_id(0), stop_vm(StopMode.TURN_OFF))
    crowd.record_all()
    assert crowd.kinds().count(OrderKind.EFFECT) == 1


def test_who_has_waited_longest_comes_first_whatever_else_its_vm_is_asked() -> None:
    crowd = known(Crowd(12))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, stop_vm(StopMode.TURN_OFF))
    order: list[object] = []
    while crowd.active():
        crowd.record_all()
        for send in [s for s in crowd.sent if s.order.kind is OrderKind.EFFECT][:1]:
            order.append(send.order.vm_id)
            crowd.answer(send)
        crowd.tick()
    assert order == list(crowd.worlds)


def test_a_question_that_gets_no_slot_in_time_is_told_so() -> None:
    crowd = known(Crowd(1, slots=1))
    crowd.attach()
    crowd.ask(vm_id(0), create(9))
    crowd.record_all()
    crowd.question("k")
    for _ in range(61):
        crowd.tick()
    (reply,) = crowd.replies
    assert reply.answer is not None
    assert (reply.answer.error_id, reply.answer.error_message) == (
        "DEADLINE_EXCEEDED",
        "All sessions of the host were busy until the deadline; nothing was sent.",
    )


def test_a_question_that_waits_is_told_when_the_executor_goes() -> None:
    crowd = known(Crowd(1, slots=1))
    crowd.attach()
    crowd.ask(vm_id(0), create(9))
    crowd.record_all()
    crowd.question("k")
    assert not crowd.replies
    crowd.take(crowd.dispatcher.detached("ex", crowd.moment))
    assert [(r.key, r.answer) for r in crowd.replies] == [("k", None)]


def test_one_host_takes_no_slot_of_another() -> None:
    crowd = known(Crowd(20, hosts=("hv01", "hv02")))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
    crowd.record_all()
    hosts = [s.order.host_id for s in crowd.sent]
    assert (hosts.count(HV01), len(hosts)) == (3, 6)


def test_a_vm_whose_operations_have_ended_is_not_kept() -> None:
    crowd = known(Crowd(3))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
        crowd.record_all()
    for send in tuple(crowd.sent):
        crowd.answer(send)
    assert not crowd.active()
    assert not crowd.dispatcher._vms
    assert not crowd.dispatcher._watches._known


def test_each_record_of_a_step_is_followed_by_its_send() -> None:
    crowd = known(Crowd(40))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
    while crowd.active():
        while crowd.records:
            at = crowd.records[0].vm_id
            sent, events = len(crowd.sent), len(crowd.worlds[at].log)
            crowd.record()
            if any(isinstance(e, StepIssued) for e in crowd.worlds[at].log[events:]):
                assert [s.order.vm_id for s in crowd.sent[sent : sent + 1]] == [at]
        crowd.answer(crowd.sent[0]) if crowd.sent else crowd.tick()
