"""A VM that moves to another host in the middle of an operation: nothing of it stays with the host that it has left."""

from __future__ import annotations

import pytest

from snapshotd.dispatch.orders import OrderKind
from snapshotd.dispatch.slots import Share
from snapshotd.domain.events import DriftDetected, DriftKind, OperationRequested
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import StepState
from tests.asking import delete
from tests.fakes import VM_ID
from tests.unit.application.administrator import compare_hosts, copy
from tests.unit.application.cases import AT_WORK, CASES, Case, check_success, ready, sid
from tests.unit.application.export_attempts import as_told
from tests.unit.dispatch.test_dispatcher import HOST, LOST, Room, asked

HV02 = HostId("hv02")


def move(room: Room) -> None:
    """Have the VM move, and both hosts say so."""
    world = room.world
    there = copy(world.host)
    there.effects = world.host.effects
    world.host.gone = True
    compare_hosts(world, there)
    world.host = there
    room.take(room.dispatcher.changed(world.vm, room.moment))


def free(room: Room, host_id: HostId) -> bool:
    """Return whether nothing takes a slot of a host, or waits for one."""
    slots = room.dispatcher.flights.slots(host_id)
    return not any(slots._taken.values()) and not any(slots._waiting.values())


@pytest.mark.parametrize("case", AT_WORK, ids=lambda case: case.name)
def test_an_operation_whose_order_is_on_its_way_when_its_vm_moves_goes_on_on_the_other_host(case: Case) -> None:
    orders = 0
    while True:
        room = asked(case)
        room.attach()
        for _ in range(orders):
            while not room.sent:
                room.tick()
            room.deliver()
        while room.world.vm.active_operations and not room.sent:
            room.tick()
        if not room.world.vm.active_operations:
            break
        orders += 1
        if room.world.host.gone or room.world.vm.host_id != HOST:
            continue  # removed or moved by the operation itself
        before = room.sent.pop(0)
        move(room)
        assert before.dispatch_id in room.abandoned
        assert free(room, HOST)
        sent = len(room.seen)
        room.take(room.dispatcher.answered("ex", before.dispatch_id, LOST, room.moment))
        room.run()
        assert {send.order.host_id for send in room.seen[sent - len(room.sent) :]} <= {HV02}
        first = next(send.order for send in room.seen if send.order.host_id == HV02)
        assert first.kind is not OrderKind.EFFECT
        check_success_elsewhere(room, case)
    assert orders


def check_success_elsewhere(room: Room, case: Case) -> None:
    """Check the end as a case says; since its request only the move itself is drift."""
    world = room.world
    asked_for = (n for n, event in enumerate(world.log) if isinstance(event, OperationRequested) and not event.follows)
    requested = max(asked_for)
    drifts = [event for event in world.log[requested:] if isinstance(event, DriftDetected)]
    assert [drift.kind for drift in drifts] == [DriftKind.VM_MOVED]
    world.log = [event for event in world.log if event not in drifts]
    check_success(world, case)
    assert as_told(case, world.host.effects)


def test_an_operation_that_waits_for_a_host_that_is_away_goes_on_where_its_vm_has_moved_to() -> None:
    room = asked(CASES[0])
    room.dispatcher.feeding.attach("other", frozenset({"hv02"}), room.seconds)
    room.tick()
    assert room.waits() == "NO_EXECUTOR"
    move(room)
    assert {send.order.host_id for send in room.seen} == {HV02}
    assert room.waits() == ""


def test_an_operation_that_waits_for_a_slot_of_its_old_host_does_not_wait_there_any_more() -> None:
    room = asked(CASES[0])
    slots = room.dispatcher.flights.slots(HOST)
    while slots.free(Share.EFFECT):
        slots.take(Share.EFFECT)
    while slots.free(Share.LOOK):
        slots.take(Share.LOOK)
    room.attach()
    assert room.sent == []
    assert any(slots._waiting.values())
    move(room)
    assert not any(slots._waiting.values())
    assert [send.order.host_id for send in room.sent] == [HV02]


def until_sought(room: Room) -> None:
    """Go on until the VM is looked for on other hosts."""
    for _ in range(50):
        if room.dispatcher.sought():
            return
        if room.sent:
            room.deliver()
        else:
            room.tick()


def test_a_vm_that_its_host_does_not_have_is_sought_while_an_operation_waits_for_it() -> None:
    room = asked(CASES[0])
    room.attach()
    there = copy(room.world.host)
    room.world.host.gone = True
    assert room.dispatcher.sought() == ()
    until_sought(room)
    assert (room.dispatcher.sought(), room.waits()) == ((VM_ID,), "VM_MISSING")
    compare_hosts(room.world, there)
    room.world.host = there
    room.take(room.dispatcher.changed(room.world.vm, room.moment))
    assert room.dispatcher.sought() == ()
    room.run()


def test_a_vm_whose_merge_is_waited_for_is_sought_too() -> None:
    world = ready(CASES[0])
    world.do(delete(sid(2)))
    room = Room(world)
    room.attach()
    while (found := world.open_step()) is None or found[1].state is not StepState.WAITING:
        if room.sent:
            room.deliver()
        else:
            room.tick()
    world.host.gone = True
    until_sought(room)
    assert room.waits() == "VM_MISSING"


def test_while_two_hosts_have_a_vm_nothing_is_sent_to_either() -> None:
    room = asked(CASES[0])
    there = copy(room.world.host)
    compare_hosts(room.world, there)
    room.take(room.dispatcher.changed(room.world.vm, room.moment))
    room.attach()
    for _ in range(20):
        room.tick(60)
    assert room.seen == []
    assert room.waits() == "CLAIMED_BY_TWO_HOSTS"
