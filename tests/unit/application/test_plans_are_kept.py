"""The plan that is shown beforehand is what is carried out, or the operation is refused: for any tree and any kind.

Each life draws a world, a request, and what happens between plan and request. Kinds come from the catalogue.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from copy import copy as shallow
from dataclasses import dataclass
from functools import cache
from itertools import count

import pytest

from snapshotd.api.v1.operation_pb2 import Plan, Step
from snapshotd.application.decide import decide
from snapshotd.application.draft import Context
from snapshotd.domain.commands import HoldSnapshot, RequestOperation, SyncVm
from snapshotd.domain.errors import PlanChanged, SnapshotdError
from snapshotd.domain.events import OperationRequested
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.operation import Operation
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.server.operation_messages import plan_message, planned_step
from snapshotd.server.wire_values import wire_power
from tests.fakes import World
from tests.unit.application.cases import ready
from tests.unit.application.drawn_requests import CASES_OF, Drawing

FIRST = int(os.environ.get("SNAPSHOTD_TEST_SEED", "0"))
SEEDS = range(FIRST, FIRST + 16 * len(KINDS))
ENDED_AS_PLANNED = {StepState.DONE, StepState.SKIPPED}


class Life:
    """A VM with any tree, and what happens to it.

    Args:
        seed: of all chance, and which kind it is about.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        kinds = list(KINDS)
        self.case = self.chance.choice(CASES_OF[kinds[seed % len(kinds)]])
        self.world = ready(self.case)
        self.fresh = count(100)
        self.draw = Drawing(self.chance, self.world, self.fresh)

    def fork(self) -> Life:
        """Return a life that is as this one is, and goes its own way."""
        other = shallow(self)
        other.world = self.world.fork()
        other.draw = Drawing(self.chance, other.world, self.fresh)
        return other

    def happen(self) -> None:
        """Let something happen to the VM that becomes part of the record."""
        share = self.chance.random()
        if share < 0.35:
            self.done(self.draw.any_kind())
        elif share < 0.6 and self.world.vm.snapshots:
            held = self.chance.choice(list(self.world.vm.snapshots))
            with contextlib.suppress(SnapshotdError):
                self.world.do(HoldSnapshot(snapshot_id=held, why="somebody needs it"))
        else:
            self.by_hand()
            self.world.do(SyncVm(report=self.world.host.report(), asked_version=self.world.vm.version))

    def by_hand(self) -> None:
        """Have an administrator do something that is not on record yet."""
        host, chance = self.world.host, self.chance
        if host.gone:
            return
        checkpoints = [c.checkpoint_id for c in host.checkpoints.values()]
        match chance.randrange(7):
            case 0 if checkpoints:
                host.remove(chance.choice(checkpoints))
                host.merge()
            case 1 if checkpoints:
                host.apply(chance.choice(checkpoints))
            case 2 | 3:
                host.power = chance.choice([Power.RUNNING, Power.STOPPED, Power.SAVED, Power.PAUSED])
            case 4 if host.volumes:
                place = chance.choice(list(host.volumes))
                host.volumes[place] = f"D:\\swapped{host.made}.vhdx"
                host.on_disk[host.volumes[place]] = 1 << 30
                host.made += 1
            case 5:
                host.offering = replace(host.offering, cpu_count=chance.choice([1, 2, 4, 8]))
            case _:
                host.take(f"by hand {host.made}", has_memory=host.power is Power.RUNNING and chance.random() < 0.5)

    def done(self, request: RequestOperation) -> None:
        """Ask for something, which may be refused, and let it end."""
        with contextlib.suppress(SnapshotdError):
            self.world.do(request)
        if self.world.vm.active_operations:
            self.world.run(limit=200)

    def planned(self) -> tuple[RequestOperation, Plan] | None:
        """Return a request that would be accepted, and its plan; None if none was found."""
        for _ in range(12):
            request = self.draw.of(self.case)
            with contextlib.suppress(SnapshotdError):
                plan = shown(self.world, request)
                if plan.etag:
                    return request, plan
        return None


def shown(world: World, request: RequestOperation) -> Plan:
    """Return the plan of a request, as `validate_only` answers it. Raises what refuses it."""
    context = Context(now=world.now, actor="ann", policy=world.policy, fresh_id="ffffffff")
    events = [event for event, _ in decide(world.vm, request, context).events]
    requested = next((event for event in events if isinstance(event, OperationRequested)), None)
    return plan_message(world.vm, request, requested)


@dataclass(frozen=True)
class Carried:
    """What became of a plan: the life, its plan, and the operation that was to carry it out."""

    life: Life
    plan: Plan
    before: VirtualMachine
    """The VM when it was asked for."""
    spared: frozenset[str]
    """The checkpoints that were not ours then, and that the request does not name."""
    operation: Operation

    def of(self, snapshot_id: SnapshotId | None) -> str:
        """Return a snapshot as a plan names it: one that the operation makes has no id yet."""
        made = snapshot_id is not None and snapshot_id not in self.before.snapshots
        return f"virtualMachines/{self.before.vm_id}/snapshots/{'-' if made else snapshot_id}" if snapshot_id else ""

    def removed(self) -> list[str]:
        """Return the snapshots that are gone since."""
        now = self.life.world.vm.snapshots
        there = (s for s in self.before.snapshots.values() if s.state is not SnapshotState.REMOVED)
        gone = SnapshotState.REMOVED
        return sorted(self.of(s.snapshot_id) for s in there if now[s.snapshot_id].state is gone)

    def steps(self) -> list[Step]:
        """Return the steps as they were recorded, as a plan shows them."""
        steps = []
        for step in self.operation.steps[: len(self.plan.steps)]:
            message = planned_step(step.plan, self.before.vm_id, self.operation.host_id)
            message.snapshot = self.of(step.plan.snapshot_id)
            steps.append(message)
        return steps


def begun(life: Life, request: RequestOperation, plan: Plan) -> Carried | SnapshotdError:
    """Ask for what a plan shows; return what refuses it, if something does."""
    world, before = life.world, life.world.vm
    named = str(request.params)
    foreign = [c for c in world.host.checkpoints.values() if before.by_checkpoint(c.checkpoint_id) is None]
    spared = frozenset(c.checkpoint_id for c in foreign if c.checkpoint_id not in named and c.name not in named)
    try:
        draft = world.do(replace(request, expected_plan=plan.etag))
    except SnapshotdError as refused:
        return refused
    (number,) = [e.number for e, _ in draft.events if isinstance(e, OperationRequested)][:1]
    return Carried(life, plan, before, spared, world.vm.operations[number])


def ended(carried: Carried) -> Carried:
    """Let an operation end."""
    world = carried.life.world
    if world.vm.active_operations:
        world.run(limit=200)
    return replace(carried, operation=world.vm.operations[carried.operation.number])


def check_nothing_else_happens(carried: Carried) -> None:
    """Whatever came of it: nothing was lost but what the plan shows, and no effect is another, or out of order."""
    operation, host = carried.operation, carried.life.world.host
    assert set(carried.removed()) <= set(carried.plan.snapshots_discarded)
    planned = {s.plan.number: s.plan for s in operation.steps}
    did = [(number, action) for action, name, number in host.effects if name == operation.name]
    assert did == sorted(did)
    assert [action for _, action in did] == [planned[number].action for number, _ in did]
    assert carried.spared <= set(host.checkpoints)


def check_as_planned(carried: Carried) -> None:
    """Check that an operation that nothing disturbed did just what its plan shows."""
    plan, operation, vm = carried.plan, carried.operation, carried.life.world.vm
    # One that goes on leaves what somebody holds, as its plan says, and fails for that.
    assert operation.state is OperationState.SUCCEEDED or carried.life.case.goes_on, operation
    assert len(operation.steps) == len(plan.steps)
    assert {step.state for step in operation.steps} <= ENDED_AS_PLANNED
    assert carried.removed() == sorted(plan.snapshots_discarded)
    assert wire_power(vm.power) == plan.power_after
    assert carried.of(vm.current_id) == plan.new_current
    for move in plan.children_moved:
        child = vm.snapshots[SnapshotId(move.snapshot.rpartition("/")[2])]
        assert carried.of(child.parent_id) == move.new_parent


@cache
def lived(seed: int) -> tuple[str, ...]:
    """Live a life up to a plan, and on from there in several ways; check each, and return what became of the plan."""
    life = Life(seed)
    for _ in range(life.chance.choice([0, 0, 1, 3, 6])):
        life.happen()
    found = life.planned()
    ways = ("nothing", "recorded", "recorded", "recorded", "unnoticed")
    return tuple(asked_for(life.fork(), *found, between) for between in ways) if found else ()


def asked_for(life: Life, request: RequestOperation, plan: Plan, between: str) -> str:
    """Have something happen, then ask for what a plan shows; check what comes of it, and return that."""
    if between == "recorded":
        for _ in range(life.chance.randint(1, 2)):
            life.happen()
    elif between == "unnoticed":
        life.by_hand()
    version = life.world.vm.version
    request = life.draw.anew(request)
    carried = begun(life, request, plan)
    if isinstance(carried, SnapshotdError):
        assert between == "recorded", carried
        assert life.world.vm.version == version, "nothing was done"
        if not isinstance(carried, PlanChanged):
            return "refused"
        assert shown(life.world, request).etag == carried.etag != plan.etag
        return "changed"
    assert carried.steps() == [without_losses(step) for step in plan.steps]
    carried = ended(carried)
    check_nothing_else_happens(carried)
    if between != "unnoticed":
        check_as_planned(carried)
    return "carried out"


def without_losses(step: Step) -> Step:
    """Return a step of a plan without what it may lose, which is told beforehand only."""
    alike = Step()
    alike.CopyFrom(step)
    alike.ClearField("may_lose")
    return alike


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_plan_shows_is_done_or_it_is_refused(seed: int) -> None:
    lived(seed)


def test_each_kind_of_the_catalogue_was_carried_out_from_its_plan_and_some_plans_had_changed() -> None:
    kinds = list(KINDS)
    ends = Counter((kinds[seed % len(kinds)], end) for seed in SEEDS for end in lived(seed))
    assert {kind: ends[kind, "carried out"] for kind in kinds if ends[kind, "carried out"] < 10} == {}
    assert sum(ends[kind, "changed"] for kind in kinds) > len(SEEDS) // 10
