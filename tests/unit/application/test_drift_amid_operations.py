"""Drift in the middle of every kind of operation: whatever others do, and whenever, the record is what is there.

Each case of `cases.py` is stopped before its first step, with each step on its way, with each step done and its answer
lost, and while a merge is waited for. Then the administrator acts, and everything goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from snapshotd.domain.commands import LoseOutcome, StallWait
from snapshotd.domain.events import DriftDetected, DriftKind
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure
from snapshotd.steps.catalogue import ACTIONS
from tests.fakes import World
from tests.unit.application.administrator import ACTS, Act, compare_hosts, copy, sync
from tests.unit.application.cases import AT_WORK, CASES, DATA, GIB, Case, drift_in, ready
from tests.unit.application.comparing import compare
from tests.unit.application.export_attempts import as_told

LOST = Failure(reason="CONNECTION_LOST", message="The connection was lost.")
STALLED = Failure(reason="MERGE_STALLED", message="Nothing has happened for long.")
UNASKED = Failure(reason="HOST_UNREACHABLE", message="It is down.")


@dataclass(frozen=True)
class Moment:
    """A point in an operation."""

    turns: int
    lost: bool
    """The step that is on its way is carried out, and its answer is lost."""


def at(case: Case, moment: Moment) -> World:
    """Return the world of a case at a moment of its operation."""
    return _reached(case.name, moment).fork()


@cache
def _reached(name: str, moment: Moment) -> World:
    case = next(case for case in CASES if case.name == name)
    world = ready(case)
    world.do(case.request)
    for _ in range(moment.turns):
        world.turn()
    if moment.lost:
        found = world.open_step()
        assert found is not None
        operation, step = found
        world.act(operation, step)
        world.do(LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=LOST))
    return world


def _moments(case: Case) -> Iterator[Moment]:
    yield Moment(0, lost=False)
    world = ready(case)
    world.do(case.request)
    turns = 0
    while world.vm.active_operations:
        found = world.open_step()
        if found is not None and found[1].state in (StepState.ISSUED, StepState.WAITING):
            yield Moment(turns, lost=False)
            if found[1].state is StepState.ISSUED:
                yield Moment(turns, lost=True)
        world.turn()
        turns += 1


MOMENTS = {case.name: tuple(_moments(case)) for case in CASES}


def come_to_rest(world: World) -> None:
    """Let everything end, and compare the host with the record once more."""
    for _ in range(40):
        if world.vm.active_operations:
            world.turn()
    for operation in world.vm.active_operations:
        # A merge of disks that are gone, or that others still use, is given up.
        step = operation.open_step
        assert step is not None
        assert step.state is StepState.WAITING
        world.do(StallWait(number=operation.number, step=step.plan.number, failure=STALLED))
    world.run()
    world.host.merge()
    sync(world)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whatever_others_do_amid_an_operation_the_record_is_what_is_there(case: Case, act: Act) -> None:
    for moment in MOMENTS[case.name]:
        world = at(case, moment)
        act.before(world)
        act.do(world)
        sync(world)
        come_to_rest(world)
        compare(world)


ANOTHER = r"E:\another.vhdx"
BARE = tuple(case for case in CASES if case.bare)


def subject(case: Case) -> tuple[str, str]:
    """Return the place and the file that a case about a volume is about."""
    new = [(place, path) for place, path, _ in case.volumes if path != DATA]
    return (*new, ("SCSI:0:1", DATA))[0]


def take_out(world: World, place: str, path: str) -> None:
    """Detach it."""
    world.host.volumes.pop(place, None)


def put_in(world: World, place: str, path: str) -> None:
    """Attach it, as the operation would."""
    world.host.on_disk.setdefault(path, GIB)
    world.host.volumes[place] = path


def put_elsewhere(world: World, place: str, path: str) -> None:
    """Attach it at another place, and nowhere else."""
    world.host.on_disk.setdefault(path, GIB)
    world.host.volumes.pop(place, None)
    world.host.volumes["SCSI:0:20"] = path


def put_another(world: World, place: str, path: str) -> None:
    """Attach another one at the place."""
    world.host.on_disk[ANOTHER] = GIB
    world.host.volumes[place] = ANOTHER


def resize_it(world: World, place: str, path: str) -> None:
    """Give it another size, if it is there."""
    if path in world.host.on_disk:
        world.host.on_disk[path] = 7 * GIB


@pytest.mark.parametrize("hand", [take_out, put_in, put_elsewhere, put_another, resize_it])
@pytest.mark.parametrize("case", BARE, ids=lambda case: case.name)
def test_whatever_others_do_to_the_very_volume_of_an_operation_the_record_is_what_is_there(
    case: Case, hand: Callable[[World, str, str], None]
) -> None:
    for moment in MOMENTS[case.name]:
        world = at(case, moment)
        hand(world, *subject(case))
        sync(world)
        come_to_rest(world)
        compare(world)
        effects = [(name, step) for _, name, step in world.host.effects]
        assert len(set(effects)) == len(effects)
        if hand in (put_another, put_elsewhere):
            new = ANOTHER if hand is put_another else subject(case)[1]
            assert new in [drift.observed for drift in drift_in(world)]
        settled = len(drift_in(world))
        sync(world)
        assert len(drift_in(world)) == settled


def told(world: World) -> list[DriftKind]:
    """Return the kinds of the drift on record that are about where the VM is."""
    places = (DriftKind.VM_MOVED, DriftKind.VM_CLAIMED_BY_TWO_HOSTS, DriftKind.VM_CLAIM_ENDED)
    return [event.kind for event in world.log if isinstance(event, DriftDetected) and event.kind in places]


@pytest.mark.parametrize("first", ["the other host reports", "its own host reports", "its operation looks"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_vm_that_moves_amid_an_operation_is_followed_and_the_operation_goes_on_there(case: Case, first: str) -> None:
    for moment in MOMENTS[case.name]:
        world = at(case, moment)
        here, there = world.host, copy(world.host)
        if here.gone or world.vm.host_id != "hv01":
            continue  # removed or moved by the operation itself: what comes to another host now is not this VM's move
        here.gone = True
        done = len(here.effects)
        if first == "its own host reports":
            sync(world)
        elif first == "its operation looks":
            world.turn(seconds=0)
            world.turn(seconds=0)
        compare_hosts(world, there)
        world.host = there
        assert (world.vm.host_id, told(world)) == ("hv02", [DriftKind.VM_MOVED])
        come_to_rest(world)
        compare(world)
        assert world.vm.operations[world.vm.last_number].state.name == "SUCCEEDED"
        assert as_told(case, here.effects + there.effects)
        assert not any(ACTIONS[action].needs_vm for action, _, _ in here.effects[done:])


@pytest.mark.parametrize("own", [None, UNASKED], ids=["both have it", "its own cannot be asked"])
@pytest.mark.parametrize("stays", ["hv01", "hv02"])
@pytest.mark.parametrize("case", AT_WORK, ids=lambda case: case.name)
def test_while_two_hosts_have_a_vm_nothing_is_done_to_it_and_then_it_goes_on_where_it_stays(
    case: Case, stays: str, own: Failure | None
) -> None:
    for moment in MOMENTS[case.name]:
        world = at(case, moment)
        here, there = world.host, copy(world.host)
        if here.gone or world.vm.host_id != "hv01":
            continue  # as above
        compare_hosts(world, there, own=own)
        effects = list(here.effects)
        for _ in range(5):
            if (found := world.open_step()) is None or found[1].state is not StepState.ISSUED:
                world.turn()
        assert (here.effects, there.effects) == (effects, [])
        assert world.vm.operations[world.vm.last_number].active
        (there if stays == "hv01" else here).gone = True
        compare_hosts(world, there)
        world.host = here if stays == "hv01" else there
        ended = DriftKind.VM_CLAIM_ENDED if stays == "hv01" else DriftKind.VM_MOVED
        assert (world.vm.host_id, told(world)) == (stays, [DriftKind.VM_CLAIMED_BY_TWO_HOSTS, ended])
        come_to_rest(world)
        compare(world)
        assert world.vm.operations[world.vm.last_number].state.name == "SUCCEEDED"
