"""What goes on after a step or an operation has ended: a plan that is made anew, and a request that follows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from projections.projections import Projections
from snapshotd.domain import events as e
from snapshotd.domain.commands import Proceed, RequestOperation
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.operation import Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import Kind
from snapshotd.server.operation_messages import metadata_message
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.store.codec import decode, encode
from tests.fakes import World
from tests.memory_log import MemoryLog
from tests.unit.projections.histories import RecordedWorld
from tests.unit.projections.oracle import compare
from tests.unit.test_another_kind import Note, NotingHost, TakeNote, TakeUrgentNote, VmNote, noting

REFUSED = "OperationFailed,X"
ROUNDS = 3


class TakeNoteAgain(TakeNote):
    """A note that is tried in three rounds, each with another text."""

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Plan two steps."""
        return self._round("1")

    def again(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[PlannedStep, ...]:
        """Plan both anew."""
        return self._round(str(operation.rounds + 1)) if operation.rounds < ROUNDS else ()

    def _round(self, text: str) -> tuple[PlannedStep, ...]:
        note = VmNote().planned(Note(text), nature=StepNature.UNDOABLE)
        return note, replace(note, input=VmNote.input.write(Note(text + "!")))


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, TakeNote.name, TakeNoteAgain())
    monkeypatch.setitem(KINDS, TakeUrgentNote.name, TakeUrgentNote())
    monkeypatch.setitem(ACTIONS, VmNote.name, VmNote())


def begun(world: World, *refused: int) -> NotingHost:
    """Ask for a note, on a host that refuses these steps."""
    host = noting(world)
    host.error_ids = dict.fromkeys(refused, REFUSED)
    world.do(TakeNote().request(Note("x")))
    return host


def test_a_plan_that_failed_is_made_anew_and_what_was_left_of_it_is_skipped() -> None:
    world = World()
    host = begun(world, 2)
    operation = world.run()
    assert (operation.state, host.notes, operation.rounds) == (OperationState.SUCCEEDED, "2!", 2)
    assert [s.state for s in operation.steps] == [StepState.DONE, StepState.FAILED, StepState.DONE, StepState.DONE]
    assert operation.failure is None


def test_it_is_undone_when_no_round_is_left() -> None:
    world = World()
    host = begun(world, 2, 4, 6)
    operation = world.run()
    assert (operation.state, host.notes, operation.rounds) == (OperationState.FAILED, "web01", ROUNDS)
    assert operation.failure is not None
    assert REFUSED in operation.failure.text
    assert [s.plan.undoes for s in operation.steps[6:]] == [5, 3, 1]


def test_each_round_begins_later_than_the_one_before() -> None:
    world = World()
    begun(world, 1, 3)
    waits = []
    for rounds in (2, 3):
        while world.vm.operations[1].rounds < rounds:
            world.turn()
        since = world.now
        while (found := world.open_step()) is None or found[1].state is not StepState.ISSUED:
            if found is not None:
                world.turn(seconds=0)
                continue
            world.now += timedelta(seconds=0.25)
            world.do(Proceed())
        waits.append((world.now - since).total_seconds())
    assert waits == [Policy().backoff_s(1), Policy().backoff_s(2)]


def test_a_cancellation_ends_the_rounds() -> None:
    world = World()
    host = begun(world, 2, 4, 6)
    while world.vm.operations[1].rounds < 2:
        world.turn()
    world.cancel(1)
    operation = world.run()
    assert (operation.state, operation.rounds, host.notes) == (OperationState.CANCELLED, 2, "web01")


async def test_rounds_and_what_follows_are_kept_read_back_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following(monkeypatch, "after")
    world = RecordedWorld()
    begun(world, 2)
    world.run()
    read_back = [replace(x, event=decode(*encode(x.event))) for x in world.envelopes]
    assert read_back == world.envelopes
    projections = Projections(MemoryLog(read_back), tmp_path / "views.db")
    await projections.catch_up()
    await compare(projections.views, world.envelopes)
    shown = [await projections.views.operation(world.vm.operations[n].name) for n in (1, 2)]
    projections.close()
    assert shown == [world.vm.operations[1], world.vm.operations[2]]
    assert metadata_message(world.vm.operations[2], None, 0).follows == world.vm.operations[1].name


def following(monkeypatch: pytest.MonkeyPatch, text: str) -> World:
    """Have an urgent note follow each note."""

    def follows(self: Kind, vm: VirtualMachine, operation: Operation, policy: Policy) -> RequestOperation:
        return TakeUrgentNote().request(Note(text))

    monkeypatch.setattr(TakeNoteAgain, "follows", follows)
    monkeypatch.setattr(TakeUrgentNote, "follows", lambda *_: None)
    return World()


def test_what_follows_is_requested_with_the_end_and_on_the_callers_behalf(monkeypatch: pytest.MonkeyPatch) -> None:
    world = following(monkeypatch, "after")
    host = noting(world)
    world.do(TakeNote().request(Note("x")), actor="bob", request_id="r", digest="d")
    seen: list[tuple[OperationState, int]] = []
    world.watch = lambda vm: seen.append((vm.operations[1].state, vm.last_number))
    last = world.run()
    assert (OperationState.SUCCEEDED, 1) not in seen, "never is the first over without the second"
    first = world.vm.operations[1]
    assert (first.state, last.state, host.notes) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED, "after")
    assert (last.actor, last.follows, first.follows) == ("bob", first.name, None)
    assert [seen.operation for seen in world.vm.requests.recent.values()] == [first.name]


def test_nothing_follows_what_has_failed_or_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    world = following(monkeypatch, "after")
    begun(world, 2, 4, 6)
    assert world.run().number == 1
    world.do(TakeNote().request(Note("x")))
    world.cancel(2)
    assert (world.run().number, world.vm.operations[2].state) == (2, OperationState.CANCELLED)


def test_a_follower_that_is_refused_is_told_and_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = following(monkeypatch, "")
    begun(world)
    operation = world.run()
    assert (operation.number, operation.state) == (1, OperationState.SUCCEEDED)
    (refusal,) = (event for event in world.log if isinstance(event, e.FollowUpRefused))
    assert (refusal.kind, refusal.failure.reason) == (TakeUrgentNote.name, InvalidArgument.reason)
