"""Whatever keeps an operation from coming forward for hours: it ends by itself, or is told as overdue and can be ended.

Each case is stopped after each of its happenings by each trouble that may last for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from snapshotd.application.overdue import overdue_since
from snapshotd.dispatch.orders import OrderKind
from snapshotd.domain.commands import UnregisterVm
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.lifecycle import Power, SnapshotState, VmActivity
from snapshotd.domain.operation import SettledAs
from tests.fakes import VM_ID
from tests.unit.application.cases import CASES, Case, settle
from tests.unit.dispatch.test_dispatcher import Room, asked

NEVER = tuple(
    HostAnswer(verdict=Verdict.NO_ANSWER, error_id=reason, error_message="It will not.")
    for reason in (
        "HOST_UNREACHABLE",
        "AUTHENTICATION_FAILED",
        "CREDENTIAL_MISSING",
        "HOST_REFUSED",
        "CONNECTION_LOST",
        "DEADLINE_EXCEEDED",
        "MALFORMED_ANSWER",
    )
)
"""No order is answered any more."""
USELESS = (
    HostAnswer(verdict=Verdict.FOREIGN_INSTALLATION, error_message="The journals are somebody else's."),
    HostAnswer(verdict=Verdict.FAILED, error_id="JournalFailed,snapshotd", error_message="Access is denied."),
    HostAnswer(verdict=Verdict.BUSY),
)
"""The host answers so for ever."""


def stopped(case: Case) -> Iterator[Room]:
    """Yield a case as it was before each of its happenings."""
    for happened in range(60):
        room = asked(case)
        room.attach()
        for _ in range(happened):
            if room.sent:
                room.deliver()
            elif room.world.vm.active_operations:
                room.tick()
        if not room.world.vm.active_operations:
            return
        yield room


def in_trouble(room: Room, answer: HostAnswer | None) -> None:
    """Let hours pass in which every order is answered so; None: there is no executor any more."""
    if answer is None:
        room.sent.clear()
        room.take(room.dispatcher.detached("ex", room.moment))
    for _ in range(40):
        while room.sent and answer is not None:
            sent = room.sent.pop(0)
            room.take(room.dispatcher.answered("ex", sent.dispatch_id, answer, room.moment))
        room.tick(600)


def check_a_way_out(room: Room, case: Case) -> None:
    """Check that the operation has ended or is told as overdue, and that it ends when somebody gives it up."""
    world = room.world
    for operation in world.vm.active_operations:
        watch = room.dispatcher.watch(VM_ID, operation.number)
        assert watch is not None
        assert overdue_since(operation, world.now, world.policy, watch.worked_at) is not None
        settle(world, SettledAs.GIVEN_UP, operation.number)
    room.take(room.dispatcher.changed(world.vm, room.moment))
    assert world.vm.active_operations == ()
    removed = case.after is Power.ABSENT and world.vm.power is Power.ABSENT
    assert world.vm.activity is (VmActivity.DESTROYED if removed else VmActivity.IDLE)
    assert {s.state for s in world.vm.snapshots.values()} <= {
        SnapshotState.READY,
        SnapshotState.ERROR,
        SnapshotState.REMOVED,
    }
    if not removed:
        world.do(UnregisterVm())


@pytest.mark.parametrize("answer", [None, *NEVER, *USELESS], ids=lambda a: (a.error_id or a.verdict.name) if a else "-")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_there_is_a_way_out_of_every_trouble(case: Case, answer: HostAnswer | None) -> None:
    for cancelled in (False, True):
        for room in stopped(case):
            (operation,) = room.world.vm.active_operations
            if cancelled and operation.too_late_to_cancel():
                continue
            if cancelled:
                room.world.cancel(operation.number)
                room.take(room.dispatcher.changed(room.world.vm, room.moment))
            in_trouble(room, answer)
            check_a_way_out(room, case)


def test_an_effect_that_is_under_way_when_it_is_given_up_is_waited_for_no_longer() -> None:
    room = next(r for r in stopped(CASES[0]) if r.sent and r.sent[0].order.kind is OrderKind.EFFECT)
    settle(room.world, SettledAs.GIVEN_UP)
    room.take(room.dispatcher.changed(room.world.vm, room.moment))
    assert room.abandoned == [room.sent[0].dispatch_id]
    version = room.world.vm.version
    room.deliver()
    assert room.world.vm.version == version, "and its late answer changes nothing"
