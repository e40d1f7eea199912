"""Orders, whole: what is sent to a host for each kind of step, and what is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.dispatch.orders import Order, OrderKind, effect_order, observe_order, poll_order
from snapshotd.domain.commands import Proceed, RequestOperation
from snapshotd.domain.ids import ActionName, HostId
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.recorded import JsonObject
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, MERGE, REMOVE, RENAME, RESTORE, START, STOP, delete, revert_to, start_vm, stop_vm
from tests.fakes import START as BEGINNING
from tests.fakes import VM_ID, World
from tests.unit.application.cases import chain, create, lose_command, sid

HOST = HostId("hv01")
SOON = BEGINNING + timedelta(minutes=5)
FILES = ("base.vhdx", "d3.avhdx", "d5.avhdx", "d7.avhdx")
THERE = [f"cccccccc-0000-4000-8000-{n:012d}" for n in (2, 4, 6)]
"""The checkpoints of the chain, the first first."""
RUNNING: JsonObject = {"power": "RUNNING"}
BY_CHECKPOINTS: JsonObject = {"power": "RUNNING", "checkpoint_ids": THERE, "current_checkpoint_id": THERE[2]}


def until(world: World, action: ActionName, state: StepState) -> tuple[Operation, Step]:
    """Go on until a step is in a state; return its operation, too."""
    for _ in range(60):
        found = world.open_step()
        if found and found[1].plan.action == action and found[1].state is state:
            return found
        world.turn()
    raise AssertionError(world.vm)


def asked(request: RequestOperation) -> World:
    """Return a world with a chain of three in which something has been asked for."""
    world = World()
    chain(world)
    world.do(request)
    return world


@pytest.mark.parametrize(
    ("request_", "action", "before", "values"),
    [
        (stop_vm(StopMode.SAVE), STOP, RUNNING, {"mode": "SAVE"}),
        (
            create(9, fallback=True),
            CREATE,
            BY_CHECKPOINTS,
            {"checkpoint_name": f"s9 #{sid(9)}", "with_memory": False, "allow_fallback": True},
        ),
        (
            revert_to(sid(2)),
            RESTORE,
            {**BY_CHECKPOINTS, "leaf_paths": ["d7.avhdx"]},
            {"checkpoint_id": THERE[1]},
        ),
        (
            delete(sid(2)),
            REMOVE,
            {"checkpoint_ids": THERE, "chain_files": list(FILES)},
            {"checkpoint_id": THERE[1]},
        ),
    ],
    ids=[STOP, CREATE, RESTORE, REMOVE],
)
def test_an_effect_is_sent_with_all_that_it_depends_on(
    request_: RequestOperation, action: ActionName, before: JsonObject, values: JsonObject
) -> None:
    world = asked(request_)
    operation, step = until(world, action, StepState.ISSUED)
    assert step.deadline is not None
    assert effect_order(world.vm, operation, step) == Order(
        kind=OrderKind.EFFECT,
        host_id=HOST,
        deadline=step.deadline,
        vm_id=VM_ID,
        operation=operation.name,
        step=1,
        action=action,
        token=step.issued_token,
        journal_id="journal-1",
        before=before,
        input=values,
        watched_files=(),
    )


def test_a_renaming_is_sent_with_the_checkpoint_that_its_operation_has_made() -> None:
    world = World()
    chain(world)
    world.host.dies_unnamed = True
    world.do(create(9))
    operation, step = until(world, RENAME, StepState.ISSUED)
    order = effect_order(world.vm, operation, step)
    assert order.before == {"checkpoint_ids": [*THERE, world.host.current]}
    assert order.input == {"checkpoint_id": world.host.current, "checkpoint_name": f"s9 #{sid(9)}"}


def test_a_start_is_sent_without_values_and_depends_on_the_power_alone() -> None:
    world = World(power=Power.SAVED)
    world.do(start_vm())
    order = effect_order(world.vm, *until(world, START, StepState.ISSUED))
    assert (order.action, order.before, order.input) == (START, {"power": "SAVED"}, {})


def test_an_observation_names_its_step_and_watches_the_files_on_record() -> None:
    world = asked(delete(sid(2)))
    until(world, REMOVE, StepState.ISSUED)
    lose_command(world)
    world.do(Proceed())
    operation, step = until(world, REMOVE, StepState.OUTCOME_UNKNOWN)
    assert step.token > step.issued_token
    assert observe_order(world.vm, operation, step, SOON) == Order(
        kind=OrderKind.OBSERVE,
        host_id=HOST,
        deadline=SOON,
        vm_id=VM_ID,
        operation=operation.name,
        step=1,
        action=REMOVE,
        token=step.token,
        journal_id="",
        before={},
        input={},
        watched_files=FILES,
    )


def test_an_observation_and_a_poll_watch_the_files_and_jobs_of_their_action(monkeypatch: pytest.MonkeyPatch) -> None:
    for action in (REMOVE, MERGE):
        own = type(ACTIONS[action])
        monkeypatch.setattr(own, "watched_files", lambda *_: ("new.vhdx", "base.vhdx"))
        monkeypatch.setattr(own, "watched_jobs", lambda *_: ("J-1",))
    world = asked(delete(sid(2)))
    look = observe_order(world.vm, *until(world, REMOVE, StepState.ISSUED), SOON)
    assert (look.watched_files, look.watched_jobs) == ((*FILES, "new.vhdx"), ("J-1",))
    poll = poll_order(world.vm, until(world, MERGE, StepState.WAITING)[1], SOON)
    assert (poll.watched_files, poll.watched_jobs) == (("new.vhdx", "base.vhdx"), ("J-1",))


def test_a_poll_names_no_step_and_watches_the_files_that_the_removal_found() -> None:
    world = asked(delete(sid(2)))
    _, step = until(world, MERGE, StepState.WAITING)
    assert poll_order(world.vm, step, SOON) == Order(
        kind=OrderKind.POLL,
        host_id=HOST,
        deadline=SOON,
        vm_id=VM_ID,
        operation=None,
        step=0,
        action=None,
        token=0,
        journal_id="",
        before={},
        input={},
        watched_files=FILES,
    )
