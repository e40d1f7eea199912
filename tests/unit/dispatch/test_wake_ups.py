"""What waits costs nothing, and each reason to wait is ended by that which ends it, without any safety net."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from snapshotd.dispatch.orders import OrderKind
from snapshotd.dispatch.outputs import Fault, Record
from snapshotd.domain.commands import SyncVm
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, stop_vm
from tests.unit.application.administrator import compare_hosts, copy
from tests.unit.application.cases import CASES, chain, create, sid
from tests.unit.dispatch.crowd import HV01, Crowd, vm_id
from tests.unit.dispatch.test_dispatcher import HOST, Room, asked
from tests.unit.dispatch.test_slots import known
from tests.unit.dispatch.test_unreachable_host import unsent

HV02 = HostId("hv02")
BUSY = HostAnswer(verdict=Verdict.BUSY)


def looks(crowd: Crowd) -> int:
    """Return how often the core was asked what comes next with an operation."""
    return crowd.dispatcher.needs.looks


def wait(crowd: Crowd, at: VmId) -> str:
    """Return why the operation of a VM waits."""
    found = crowd.dispatcher.wait(at, crowd.worlds[at].vm.last_number)
    return found.failure.reason if found else ""


def stop_all(crowd: Crowd) -> Crowd:
    """Ask each VM to stop, their journals being known."""
    for at in known(crowd).worlds:
        crowd.ask(at, stop_vm(StopMode.TURN_OFF))
        crowd.record_all()
    return crowd


def effects(crowd: Crowd) -> list[VmId | None]:
    """Return the VMs of the effects under way."""
    return [send.order.vm_id for send in crowd.sent if send.order.kind is OrderKind.EFFECT]


# --- what is not due costs nothing ------------------------------------------------------------------------------------


def test_a_tick_looks_at_no_vm_that_waits_for_a_slot_an_answer_an_executor_or_a_host_that_is_away() -> None:
    crowd = Crowd(150, hosts=("hv01", "hv02", "hv03"))
    crowd.attach("hv01", "hv03")
    stop_all(crowd)
    for send in [s for s in crowd.sent if s.order.host_id == "hv03"]:
        crowd.answer(send, unsent())
    while crowd.dispatcher.behind(crowd.moment):
        crowd.tick(0)
    reasons = [wait(crowd, at) for at in crowd.worlds]
    assert {r: reasons.count(r) for r in reasons} == {
        "": 3,
        "AWAITING_SLOT": 47,
        "NO_EXECUTOR": 50,
        "HOST_UNREACHABLE": 50,
    }
    before = looks(crowd)
    for _ in range(60):  # until the probe is given up
        crowd.tick()
    assert looks(crowd) == before


def test_a_tick_looks_at_those_of_many_polled_vms_whose_poll_is_due() -> None:
    crowd = Crowd(20, slots=20)
    crowd.attach()
    for at, world in crowd.worlds.items():
        chain(world)
        crowd.ask(at, delete(sid(2)))
        crowd.record_all()
        crowd.tick(0.01)

    def answer_all() -> int:
        count = 0
        for send in tuple(crowd.sent):
            if send.order.kind is OrderKind.POLL and send.order.vm_id is not None:
                report = crowd.worlds[send.order.vm_id].host.report(send.order.watched_files)  # it still merges
                crowd.answer(send, HostAnswer(verdict=Verdict.REPORTED, vms=(report,)))
                count += 1
            else:
                crowd.answer(send)
        return count

    for _ in range(40):  # until the interval between two polls is at its longest
        answer_all()
        crowd.tick()
    before, polls = looks(crowd), 0
    for _ in range(100):
        crowd.tick()
        polls += answer_all()
    assert 190 <= polls <= 210, "ten seconds between two"
    assert looks(crowd) - before == 3 * polls, "when it is due, when it has its slot, and after its answer"


def test_of_very_many_vms_that_are_woken_at_once_each_call_looks_at_some_and_says_that_others_are_left() -> None:
    crowd = stop_all(Crowd(200, hosts=tuple(f"hv{n:02d}" for n in range(20))))
    before = looks(crowd)
    crowd.attach()
    steps = [looks(crowd) - before]
    while crowd.dispatcher.behind(crowd.moment):
        before = looks(crowd)
        crowd.tick(0)
        steps.append(looks(crowd) - before)
    assert sum(steps) == 200 + 60, "each, and once more those that have got a slot"
    assert max(steps) <= 64 + 60
    crowd.record_all()
    assert len(effects(crowd)) == 60


def test_the_safety_net_looks_at_each_vm_once_in_a_while() -> None:
    crowd = stop_all(Crowd(30, look_again_s=600.0))
    before = looks(crowd)
    for _ in range(100):
        crowd.tick(59)
    assert 8 * 30 <= looks(crowd) - before <= 10 * 30


def test_a_host_that_goes_away_does_not_make_one_call_look_at_all_that_wait_for_it() -> None:
    crowd = stop_all(Crowd(200))
    crowd.attach()
    while crowd.dispatcher.behind(crowd.moment):
        crowd.tick(0)
    crowd.record_all()
    before = looks(crowd)
    for send in tuple(crowd.sent):
        crowd.take(crowd.dispatcher.answered("ex", send.dispatch_id, unsent(), crowd.moment))
        assert looks(crowd) - before <= 64
        before = looks(crowd)
    crowd.sent.clear()
    while crowd.dispatcher.behind(crowd.moment):
        crowd.tick(0)
    crowd.record_all()
    assert {wait(crowd, at) for at in crowd.worlds} == {"HOST_UNREACHABLE"}


# --- each reason to wait has its own end ------------------------------------------------------------------------------


def test_an_operation_that_waits_for_a_slot_says_so_since_when_and_goes_on_when_one_is_free() -> None:
    crowd = known(Crowd(5))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
        crowd.record_all()
    since = crowd.now
    assert [wait(crowd, at) for at in crowd.worlds] == ["", "", "", "AWAITING_SLOT", "AWAITING_SLOT"]
    crowd.tick(30)
    crowd.ask(vm_id(3), SyncVm(report=crowd.worlds[vm_id(3)].host.report(), asked_version=0))
    waits = crowd.dispatcher.wait(vm_id(3), 1)
    assert waits is not None
    assert (waits.failure.reason, waits.since) == ("AWAITING_SLOT", since)
    assert waits.failure.message == "Other operations are at work on host hv01; it comes after them."
    crowd.answer(crowd.sent[0])
    assert effects(crowd)[-1] == vm_id(3)
    assert (wait(crowd, vm_id(3)), wait(crowd, vm_id(4))) == ("", "AWAITING_SLOT")
    crowd.take(crowd.dispatcher.detached("ex", crowd.moment))
    crowd.sent.clear()
    crowd.record_all()
    assert wait(crowd, vm_id(4)) == "NO_EXECUTOR"


def test_an_executor_that_attaches_wakes_the_vms_of_the_hosts_that_it_serves_and_no_others() -> None:
    crowd = stop_all(Crowd(20, hosts=("hv01", "hv02")))
    before = looks(crowd)
    crowd.attach("hv02")
    assert looks(crowd) == before + 10 + 3, "all, and once more those that have got a slot"
    crowd.record_all()
    assert {crowd.worlds[at].vm.host_id for at in effects(crowd) if at} == {HV02}
    before = looks(crowd)
    crowd.take(crowd.dispatcher.attached("second", frozenset({"*"}), crowd.moment))
    assert looks(crowd) == before + 10 + 3, "those of hv01: hv02 is served already"
    crowd.record_all()
    assert len(effects(crowd)) == 6


def test_an_executor_that_goes_leaves_its_hosts_to_the_next_one_at_once() -> None:
    crowd = stop_all(Crowd(8, slots=1))
    crowd.attach()
    crowd.take(crowd.dispatcher.attached("second", frozenset({"hv01"}), crowd.moment))
    crowd.record_all()
    assert len(effects(crowd)) == 1
    crowd.sent.clear()
    crowd.take(crowd.dispatcher.detached("ex", crowd.moment))
    crowd.record_all()
    assert [send.executor for send in crowd.sent] == ["second"]


def test_an_executor_that_falls_silent_is_noticed_and_its_vms_wait_for_another() -> None:
    room = asked(CASES[0])
    room.attach()
    assert room.sent
    for _ in range(9):
        room.seconds += 1
        room.world.now += timedelta(seconds=1)
        room.take(room.dispatcher.tick(room.moment))
    assert room.ended == ["ex"]
    assert room.waits() == "NO_EXECUTOR"
    room.sent.clear()
    room.attach()
    room.run()
    assert not room.world.vm.active_operations


def test_a_host_that_is_back_wakes_its_own_vms_and_no_others() -> None:
    crowd = Crowd(20, hosts=("hv01", "hv02"))
    crowd.attach()
    stop_all(crowd)
    for send in tuple(crowd.sent):
        crowd.answer(send, unsent())
    crowd.tick()
    probes = {send.order.host_id: send for send in crowd.sent}
    before = looks(crowd)
    crowd.answer(probes[HV01])
    assert 10 <= looks(crowd) - before <= 13, "each, and the one that is sent again"
    assert [crowd.worlds[at].vm.host_id for at in effects(crowd) if at] == [HV01]


def test_who_waits_for_a_host_is_told_when_the_reason_is_another_one() -> None:
    room = asked(CASES[0])
    room.attach()
    while not room.sent or room.sent[0].order.kind is not OrderKind.EFFECT:
        room.deliver() if room.sent else room.tick()
    for reason in ("HOST_UNREACHABLE", "AUTHENTICATION_FAILED"):
        while not room.sent:
            room.tick()
        room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, unsent(reason), room.moment))
        assert room.waits() == reason


def test_a_host_that_is_forgotten_is_tried_again() -> None:
    room = asked(CASES[0])
    room.attach()
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, unsent(), room.moment))
    room.dispatcher.forget(HOST)
    room.take(room.dispatcher.tick(room.moment))
    assert [s.order.kind for s in room.sent] == [OrderKind.EFFECT]


def test_a_vm_that_two_hosts_had_goes_on_when_one_of_them_has_it_no_more() -> None:
    room = asked(CASES[0])
    there = copy(room.world.host)
    compare_hosts(room.world, there)
    room.take(room.dispatcher.changed(room.world.vm, room.moment))
    room.attach()
    assert (room.sent, room.waits()) == ([], "CLAIMED_BY_TWO_HOSTS")
    there.gone = True
    compare_hosts(room.world, there)
    room.take(room.dispatcher.changed(room.world.vm, room.moment))
    assert len(room.sent) == 1
    room.run()
    assert not room.world.vm.active_operations


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_record_that_ends_without_an_event_gives_its_slot_to_others_of_the_host_that_its_vm_has_left(
    *, interrupted: bool
) -> None:
    crowd = known(Crowd(2, slots=1))
    crowd.attach()
    for at in crowd.worlds:
        crowd.ask(at, create(9))
    (record,) = crowd.records
    crowd.records.clear()
    moved = crowd.worlds[record.vm_id]
    there = copy(moved.host)
    moved.host.gone = True
    compare_hosts(moved, there)
    crowd.take(crowd.dispatcher.changed(moved.vm, crowd.moment))
    assert moved.vm.host_id == HV02
    if interrupted:
        crowd.dispatcher.interrupted(record.vm_id)
        crowd.tick(0)
    else:
        crowd.take(crowd.dispatcher.refused(record.vm_id, RuntimeError("refused"), crowd.moment))
    assert vm_id(1) in [r.vm_id for r in crowd.records]


def test_while_a_vm_rests_after_a_fault_no_operation_of_it_is_served() -> None:
    room = asked(next(c for c in CASES if c.name == "delete in the middle"))
    room.attach()
    while not any(s.state is StepState.WAITING for o in room.world.vm.active_operations for s in o.steps):
        room.deliver() if room.sent else room.tick()
    room.take(room.dispatcher.detached("ex", room.moment))
    room.sent.clear()
    room.world.do(stop_vm(StopMode.TURN_OFF))
    room.take(room.dispatcher.changed(room.world.vm, room.moment))
    room.seconds += 60
    (record,) = room.dispatcher.attached("ex", frozenset({"*"}), room.moment)
    assert isinstance(record, Record)
    (fault,) = room.dispatcher.refused(record.vm_id, RuntimeError("refused"), room.moment)
    assert isinstance(fault, Fault), "the merge, which is to be polled, waits too"
    room.tick()
    assert {s.order.kind for s in room.sent} == {OrderKind.POLL, OrderKind.EFFECT}


def test_a_look_that_nothing_is_recorded_of_is_taken_again_and_each_time_later() -> None:
    room = asked(CASES[0])
    room.attach()
    while not any(s.state is StepState.OUTCOME_UNKNOWN for o in room.world.vm.active_operations for s in o.steps):
        room.deliver(lose=True) if room.sent else room.tick()
    times: list[float] = []
    while len(times) < 6:
        if room.sent:
            times.append(room.seconds)
            room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, BUSY, room.moment))
        else:
            room.tick()
    assert [b - a for a, b in pairwise(times)] == [1, 2, 4, 8, 16]


def test_a_fault_of_a_vm_that_nothing_is_left_to_do_for_is_shown_no_longer() -> None:
    room = asked(next(c for c in CASES if c.name == "create disk"))
    room.attach()
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    room.run()
    assert not room.world.vm.active_operations
    room.dispatcher.refused(room.world.vm.vm_id, RuntimeError("a late answer"), room.moment)
    assert list(room.dispatcher.faults)
    room.tick()
    assert not list(room.dispatcher.faults)


# --- clocks -----------------------------------------------------------------------------------------------------------


def backing_off() -> Room:
    """Return a room in which a step had no effect, and is tried again later."""
    room = asked(next(c for c in CASES if c.name == "create disk"))
    room.attach()
    room.world.host.error_ids = {1: "ObjectInUse,x"}
    while not any(s.attempts == 4 and s.state is StepState.DUE for s in room.world.vm.active_operations[0].steps):
        room.deliver() if room.sent else room.tick()
    room.world.host.error_ids = {}
    assert not room.sent
    return room


def test_a_retry_comes_at_its_time_and_costs_no_look_before() -> None:
    room = backing_off()
    began, before = room.seconds, room.dispatcher.needs.looks
    while not room.sent:
        room.tick()
    assert room.seconds - began == room.policy.backoff_s(4)
    assert room.dispatcher.needs.looks <= before + 3


@pytest.mark.parametrize("by", [timedelta(days=-1), timedelta(days=1)], ids=["back", "forward"])
def test_a_wall_clock_that_is_set_holds_up_no_retry(by: timedelta) -> None:
    room = backing_off()
    room.world.now += by
    room.tick()
    assert [s.order.kind for s in room.sent] == [OrderKind.EFFECT]
    room.run()
    assert not room.world.vm.active_operations


@pytest.mark.parametrize("by", [timedelta(days=-1), timedelta(days=1)], ids=["back", "forward"])
@pytest.mark.parametrize("kind", [OrderKind.EFFECT, OrderKind.POLL])
def test_an_order_is_given_up_after_the_time_that_it_had_whatever_the_wall_clock_is_set_to(
    kind: OrderKind, by: timedelta
) -> None:
    room = asked(next(c for c in CASES if c.name == "delete in the middle"))
    room.attach()
    while not any(s.order.kind is kind for s in room.sent):
        room.deliver() if room.sent else room.tick()
    (send,) = room.sent
    room.sent.clear()
    allowed_s = (send.order.deadline - room.world.now).total_seconds() + room.policy.answer_grace_s
    sent_s = room.seconds
    room.world.now += by
    while not room.abandoned:
        room.tick(5)
    assert room.seconds - sent_s - 5 <= allowed_s < room.seconds - sent_s + 5
    room.run()
    assert not room.world.vm.active_operations


def test_a_question_is_given_up_after_its_time_whatever_the_wall_clock_is_set_to() -> None:
    crowd = stop_all(Crowd(1, slots=1))
    crowd.attach()
    crowd.record_all()
    crowd.question("k")
    crowd.now -= timedelta(days=1)
    for _ in range(60):
        crowd.tick()
        assert not crowd.replies
    crowd.tick()
    assert [r.key for r in crowd.replies] == ["k"]


# --- who is active ----------------------------------------------------------------------------------------------------


def test_the_dispatcher_knows_the_vms_with_an_active_operation_and_no_others() -> None:
    crowd = known(Crowd(4))
    crowd.attach()
    for world in crowd.worlds.values():
        crowd.take(crowd.dispatcher.changed(world.vm, crowd.moment))
    assert list(crowd.dispatcher.active()) == []
    crowd.ask(vm_id(2), stop_vm(StopMode.TURN_OFF))
    assert [vm.vm_id for vm in crowd.dispatcher.active()] == [vm_id(2)]
    crowd.record_all()
    crowd.answer(crowd.sent[0])
    assert list(crowd.dispatcher.active()) == []
    assert crowd.worlds[vm_id(2)].vm.power is Power.STOPPED


def test_an_older_fold_changes_nothing() -> None:
    crowd = known(Crowd(1))
    before = crowd.worlds[vm_id(0)].vm
    crowd.ask(vm_id(0), stop_vm(StopMode.TURN_OFF))
    crowd.take(crowd.dispatcher.changed(before, crowd.moment))
    assert [vm.version for vm in crowd.dispatcher.active()] == [crowd.worlds[vm_id(0)].vm.version]
