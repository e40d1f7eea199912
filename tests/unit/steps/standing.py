"""Steps as they stand in an operation, made by hand: an action is asked about them without a decision."""

from __future__ import annotations

from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.domain.operation import Operation, Step, StepNature
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps.action import Action
from tests.fakes import World
from tests.unit.application.cases import create


def made(*, snapshots: int = 1) -> World:
    """Return a world with snapshots in a chain."""
    world = World()
    for n in range(1, snapshots + 1):
        world.do(create(n))
        world.run()
    return world


def with_power(vm: VirtualMachine, power: Power) -> VirtualMachine:
    """Return a VM of which another power is on record."""
    return replace(vm, power=power)


def step_of(
    action: Action,
    values: object = None,
    *,
    before: object = None,
    nature: StepNature = StepNature.UNDOABLE,
    attempts: int = 1,
    snapshot_id: SnapshotId | None = None,
    undoes: int | None = None,
) -> Step:
    """Return a step that is done; `before`: the facts that it was issued with."""
    plan = action.planned(values, nature=nature, snapshot_id=snapshot_id)
    return Step(
        plan=replace(plan, number=1, undoes=undoes),
        state=StepState.DONE,
        attempts=attempts,
        before=action.facts.write(before) if before is not None else None,
    )


def operation_of(vm: VirtualMachine, *steps: Step) -> Operation:
    """Return an operation on a VM that has these steps, numbered."""
    numbered = tuple(replace(s, plan=replace(s.plan, number=n)) for n, s in enumerate(steps, 1))
    return replace(vm.operations[1], steps=numbered)
