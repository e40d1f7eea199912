"""A host that cannot be reached: it is probed, nothing is recorded for it, and nothing that waits uses up its time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.commands import SyncVm
from snapshotd.domain.events import ObservationIssued, StepIssued, StepNotSent
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.lifecycle import OperationState, StepState, VmActivity
from snapshotd.domain.operation import Operation
from snapshotd.operations.catalogue import KINDS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import stop_vm
from tests.unit.application.cases import AT_WORK, CASES, Case, check_end, create
from tests.unit.dispatch.crowd import Crowd, vm_id
from tests.unit.dispatch.test_dispatcher import HOST, Room, asked

LOST = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="CONNECTION_LOST", error_message="Cut off.")
HOURS = 4 * 3600
every_case = pytest.mark.parametrize("case", AT_WORK, ids=lambda c: c.name)
every_reason = pytest.mark.parametrize(
    "reason", ["HOST_UNREACHABLE", "AUTHENTICATION_FAILED", "CREDENTIAL_MISSING", "HOST_REFUSED"]
)


def unsent(reason: str = "HOST_UNREACHABLE") -> HostAnswer:
    """Return what an executor answers that could not send an order."""
    return HostAnswer(verdict=Verdict.NO_ANSWER, error_id=reason, error_message=f"{reason}: nothing was sent.")


def until_effect(room: Room) -> None:
    """Go on until an effect is under way."""
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()


def outage(room: Room, seconds: int, answer: HostAnswer, tick_s: int = 1) -> list[tuple[float, OrderKind]]:
    """Let nothing be sent for so long; return when what was tried."""
    tried = []
    began = room.seconds
    while room.seconds - began < seconds:
        while room.sent:
            send = room.sent.pop(0)
            tried.append((room.seconds - began, send.order.kind))
            room.take(room.dispatcher.answered("ex", send.dispatch_id, answer, room.moment))
        room.tick(tick_s)
    return tried


def events(room: Room, kind: type[object]) -> int:
    """Return how many events of a kind are on record."""
    return sum(isinstance(event, kind) for event in room.world.log)


def newest(room: Room) -> Operation:
    """Return the newest operation."""
    return room.world.vm.operations[room.world.vm.last_number]


@every_reason
@every_case
def test_an_outage_of_hours_before_an_effect_is_sent_delays_it_and_nothing_else(case: Case, reason: str) -> None:
    room = asked(case)
    room.attach()
    until_effect(room)
    issued, observations = events(room, StepIssued), events(room, ObservationIssued)
    outage(room, HOURS, unsent(reason), tick_s=60)
    assert (events(room, StepIssued), events(room, ObservationIssued)) == (issued, observations)
    assert events(room, StepNotSent) == 1
    assert room.waits() == reason
    step = newest(room).next_due
    assert step is not None
    assert step.attempts == 0
    until_effect(room)
    (effect,) = room.sent
    first = newest(room).open_step
    assert first is not None
    assert first.attempts == 1
    limit = timedelta(seconds=KINDS[newest(room).kind].time_limit_s(newest(room), first, room.policy))
    assert effect.order.deadline == room.world.now + limit, "its time begins when it is sent"
    room.run()
    check_end(room.world, case)


@every_case
def test_an_outage_that_cuts_off_an_effect_does_not_use_up_its_time(case: Case) -> None:
    room = asked(case)
    room.attach()
    until_effect(room)
    room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, LOST, room.moment))
    observations = events(room, ObservationIssued)
    outage(room, HOURS, unsent(), tick_s=60)
    assert events(room, ObservationIssued) <= observations + 1
    room.run()
    check_end(room.world, case)


@every_case
def test_a_daemon_that_was_away_for_hours_goes_on_with_a_step_that_never_reached_its_host(case: Case) -> None:
    room = asked(case)
    room.attach()
    until_effect(room)
    room.tick(HOURS)
    room.start("second")
    room.attach()
    room.run()
    check_end(room.world, case)


@every_case
def test_a_script_that_never_began_was_not_ended_at_its_deadline(case: Case) -> None:
    room = asked(case)
    room.attach()
    until_effect(room)
    silent = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message="Ended.")
    room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, silent, room.moment))
    room.run()
    check_end(room.world, case)


@pytest.mark.parametrize("before", ["effect", "observation", "poll"])
def test_a_host_that_is_away_gets_one_probe_at_a_time_and_each_later(before: str) -> None:
    room = asked(next(c for c in CASES if c.name == "delete in the middle"))
    room.attach()
    until_effect(room)
    if before == "observation":
        room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, LOST, room.moment))
    elif before == "poll":
        room.deliver()
        while not room.sent:
            room.tick()
    version = room.world.vm.version
    tried = outage(room, 600, unsent())
    assert all(kind is OrderKind.REPORT for _, kind in tried[1:])
    times = [at for at, _ in tried]
    assert [b - a for a, b in itertools.pairwise(times)][:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert room.world.vm.version <= version + 1
    room.run()
    assert newest(room).state is OperationState.SUCCEEDED


def test_a_probe_that_is_not_answered_is_not_sent_beside_another() -> None:
    room = asked(CASES[0])
    room.attach()
    until_effect(room)
    room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, unsent(), room.moment))
    for _ in range(60):
        room.tick()
    assert [s.order.kind for s in room.sent] == [OrderKind.REPORT]


@pytest.mark.parametrize("reason", ["AUTHENTICATION_FAILED", "CREDENTIAL_MISSING"])
def test_a_host_that_cannot_be_signed_in_to_is_probed_at_the_longest_interval_from_the_first(reason: str) -> None:
    room = asked(CASES[0])
    room.attach()
    until_effect(room)
    times = [at for at, _ in outage(room, 600, unsent(reason))]
    assert len(times) <= 11
    assert all(b - a >= room.policy.backoff_max_s for a, b in itertools.pairwise(times))


def many(vms: int) -> Crowd:
    """Return VMs whose journals are known, each asked to stop, on a host that an executor serves."""
    crowd = Crowd(vms)
    for world in crowd.worlds.values():
        world.host.observe(0)
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, stop_vm(StopMode.TURN_OFF))
    crowd.record_all()
    return crowd


def refuse(crowd: Crowd, which: Callable[[OrderKind], bool], reason: str) -> None:
    """Refuse orders, carry out the others."""
    for send in tuple(crowd.sent):
        crowd.answer(send, unsent(reason) if which(send.order.kind) else None)


def count(crowd: Crowd, kind: type[object]) -> int:
    """Return how many events of a kind are on record."""
    return sum(isinstance(event, kind) for world in crowd.worlds.values() for event in world.log)


def test_of_many_vms_on_a_host_that_is_away_none_gets_a_record_and_all_go_on_when_it_is_back() -> None:
    crowd = many(12)
    for _ in range(100):
        refuse(crowd, lambda _: True, "HOST_UNREACHABLE")
        crowd.tick(9)
        crowd.record_all()
    assert count(crowd, StepIssued) == 3, "those that were sent before anybody knew"
    assert len(crowd.active()) == 12
    for _ in range(200):
        refuse(crowd, lambda _: False, "")
        crowd.tick()
        crowd.record_all()
    assert not crowd.active()
    assert all(w.vm.operations[w.vm.last_number].state is OperationState.SUCCEEDED for w in crowd.worlds.values())


def test_a_host_that_answers_probes_and_refuses_commands_does_not_fill_the_log() -> None:
    crowd = many(12)
    for _ in range(360):
        refuse(crowd, lambda kind: kind is OrderKind.EFFECT, "HOST_REFUSED")
        crowd.tick(10)
        crowd.record_all()
    assert count(crowd, StepIssued) < 80, "one order at a time, each later"
    assert len(crowd.active()) == 12
    assert all(s.attempts == 0 for w in crowd.worlds.values() for o in w.vm.active_operations for s in o.steps)


def test_what_was_never_sent_is_cancelled_while_its_host_is_away() -> None:
    room = asked(CASES[0])
    room.attach()
    until_effect(room)
    outage(room, 60, unsent())
    operation = newest(room)
    room.world.cancel(operation.number)
    assert newest(room).state is OperationState.CANCELLED
    assert room.world.vm.activity is VmActivity.IDLE


def test_an_effect_whose_executor_went_while_it_was_recorded_was_not_sent() -> None:
    crowd = Crowd(1)
    world = crowd.worlds[vm_id(0)]
    world.host.observe(0)
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    crowd.attach()
    crowd.ask(vm_id(0), create(9))
    crowd.take(crowd.dispatcher.detached("ex", crowd.moment))
    crowd.record_all()
    assert not crowd.sent
    step = world.vm.active_operations[0].steps[0]
    assert (step.state, step.attempts) == (StepState.DUE, 0)
    crowd.attach()
    crowd.record_all()
    crowd.answer(crowd.sent[0])
    assert not crowd.active()


def test_a_step_that_was_being_recorded_when_its_host_went_away_is_not_sent() -> None:
    crowd = many(1)
    (effect,) = crowd.sent
    at = vm_id(0)
    crowd.answer(effect)
    crowd.ask(at, create(9))
    crowd.question("k")
    (report,) = crowd.sent
    crowd.sent.clear()
    crowd.take(crowd.dispatcher.answered("ex", report.dispatch_id, unsent(), crowd.moment))
    crowd.record_all()
    assert not crowd.sent
    step = crowd.worlds[at].vm.active_operations[0].steps[0]
    assert (step.state, step.attempts) == (StepState.DUE, 0)


def test_a_new_executor_tries_a_host_that_is_away_at_once() -> None:
    room = asked(CASES[0])
    room.attach()
    until_effect(room)
    outage(room, 1800, unsent(), tick_s=60)
    room.sent.clear()
    room.take(room.dispatcher.detached("ex", room.moment))
    room.attach()
    assert [s.order.kind for s in room.sent] == [OrderKind.REPORT]


def test_a_persons_question_that_a_host_answers_brings_it_back() -> None:
    room = asked(CASES[0])
    room.attach()
    until_effect(room)
    outage(room, 1800, unsent(), tick_s=60)
    room.tick()
    room.sent.clear()
    order = Order(kind=OrderKind.REPORT, host_id=HOST, deadline=room.world.now + timedelta(minutes=1))
    room.take(room.dispatcher.asked("k", order, room.moment))
    room.deliver()
    assert room.replies[-1].key == "k"
    assert [s.order.kind for s in room.sent] == [OrderKind.EFFECT]
