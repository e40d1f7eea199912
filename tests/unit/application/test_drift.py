"""Drift at rest: what others do is told once, with what was on record and what is there, and is followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snapshotd.domain.commands import GiveUpLook, Proceed, SyncVm
from snapshotd.domain.events import DriftDetected, DriftKind
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState
from tests.asking import CREATE, revert_to
from tests.fakes import World
from tests.unit.application.administrator import ACTS, Act, change, sync
from tests.unit.application.cases import chain, create, sid
from tests.unit.application.comparing import compare
from tests.unit.application.test_disturbed import LOST, act_and_lose_the_answer, until_issued


def at_rest() -> World:
    """Return a world with a chain of three snapshots."""
    world = World()
    chain(world)
    return world


def told(world: World) -> list[DriftDetected]:
    """Return the drift on record."""
    return [event for event in world.log if isinstance(event, DriftDetected)]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_what_an_administrator_does_is_told_once_with_both_values_and_followed(act: Act) -> None:
    world = at_rest()
    act.before(world)
    known = len(told(world))
    act.do(world)
    sync(world)
    drifts = told(world)[known:]
    assert [drift.kind for drift in drifts] == list(act.kinds)
    assert all(drift.recorded != drift.observed for drift in drifts)
    first = (drifts[0].recorded, drifts[0].observed)
    assert first == (
        first[0] if act.recorded is None else act.recorded,
        first[1] if act.observed is None else act.observed,
    )
    compare(world)
    sync(world)
    assert told(world)[known:] == drifts


def undetermined(world: World, *, memory: bool = False) -> None:
    """Have a create take its checkpoint, and end without anybody knowing: its VM is away when it is looked at."""
    world.do(create(9, memory=memory))
    until_issued(world, CREATE)
    act_and_lose_the_answer(world)
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    lost = GiveUpLook(number=found[0].number, step=1, token=found[1].token, failure=LOST)
    world.do(lost)
    assert world.vm.snapshots[sid(9)].state is SnapshotState.ERROR


@pytest.mark.parametrize("memory", [False, True])
def test_a_create_that_ended_undetermined_is_ready_when_its_checkpoint_is_found_marked_and_intact(
    *, memory: bool
) -> None:
    world = at_rest()
    undetermined(world, memory=memory)
    sync(world)
    snapshot = world.vm.snapshots[sid(9)]
    assert (snapshot.state, snapshot.failure, snapshot.with_memory) == (SnapshotState.READY, None, memory)
    assert (snapshot.parent_id, world.vm.current_id) == (sid(3), sid(9))
    compare(world)
    world.do(revert_to(sid(9)))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_create_that_ended_undetermined_stays_as_it_is_while_its_checkpoint_is_not_intact() -> None:
    world = at_rest()
    undetermined(world)
    (made,) = [c for c in world.host.checkpoints.values() if c.name.endswith(sid(9))]
    change(world, made.checkpoint_id, checkpoint_type="Missing")
    sync(world)
    assert world.vm.snapshots[sid(9)].state is SnapshotState.ERROR
    change(world, made.checkpoint_id, checkpoint_type="Standard")
    sync(world)
    assert world.vm.snapshots[sid(9)].state is SnapshotState.READY


def test_a_snapshot_whose_removal_failed_because_it_is_unwanted_stays_in_error() -> None:
    world = at_rest()
    world.do(create(9))
    until_issued(world, CREATE)
    world.cancel(world.vm.last_number)
    world.host.error_ids = dict.fromkeys((3, 4, 5), "OperationFailed,x")
    assert world.run().state is not OperationState.SUCCEEDED
    sync(world)
    sync(world)
    snapshot = world.vm.snapshots[sid(9)]
    assert (snapshot.state, snapshot.checkpoint_id in world.host.checkpoints) == (SnapshotState.ERROR, True)


def test_what_a_host_shows_is_by_the_host_and_what_a_person_asks_for_by_the_person() -> None:
    world = at_rest()
    world.host.power = Power.STOPPED
    world.host.take("by hand")
    asked = world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version), actor="ann")
    assert {asked.actor_of(event) for event, _ in asked.events} == {"hv01"}
    asked = world.do(create(9), actor="ann")
    assert {asked.actor_of(event) for event, _ in asked.events} == {"ann"}


def test_every_kind_of_drift_is_explained() -> None:
    text = (Path(__file__).parents[3] / "docs/drift.md").read_text()
    assert [kind.name for kind in DriftKind if not re.search(rf"^\|.*\b{kind.name}\b.* \|", text, re.MULTILINE)] == []
