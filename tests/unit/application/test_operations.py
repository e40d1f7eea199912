"""The generic tests, which run over every operation, so that a new one is tested by being listed in CASES."""

from dataclasses import dataclass

import pytest

from snapshotd.domain.commands import (
    CancelOperation,
    CreateSnapshot,
    DeleteSnapshot,
    LoseOutcome,
    OperationRequest,
    RevertToSnapshot,
    StartVm,
    StopVm,
)
from snapshotd.domain.errors import CancelTooLate
from snapshotd.domain.events import DriftDetected
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, VmActivity
from snapshotd.domain.operation import Failure, OperationKind, StepAction, StopMode
from snapshotd.domain.virtual_machine import VirtualMachine
from tests.fakes import World


def sid(n: int) -> SnapshotId:
    """Return the n-th snapshot id."""
    return SnapshotId(f"aaaaaaaa-0000-4000-8000-{n:012d}")


def create(n: int, *, memory: bool = False, fallback: bool = False) -> CreateSnapshot:
    """Ask for the n-th snapshot."""
    return CreateSnapshot(snapshot_id=sid(n), name=f"s{n}", description="", with_memory=memory, allow_fallback=fallback)


def chain(world: World) -> None:
    """Take a chain of three: disk, memory, disk."""
    for n, memory in ((1, False), (2, True), (3, False)):
        world.do(create(n, memory=memory))
        assert world.run().state is OperationState.SUCCEEDED
    world.host.effects.clear()


@dataclass(frozen=True)
class Case:
    """An operation, how the world is before it, and what must be true after it."""

    name: str
    request: OperationRequest
    power: Power = Power.RUNNING
    after: Power = Power.RUNNING
    current: int | None = 3
    effects: tuple[StepAction, ...] = ()


CASES = (
    Case("start", StartVm(), power=Power.STOPPED, effects=(StepAction.START,)),
    Case("stop", StopVm(mode=StopMode.SHUTDOWN), after=Power.STOPPED, effects=(StepAction.STOP,)),
    Case("save", StopVm(mode=StopMode.SAVE), after=Power.SAVED, effects=(StepAction.STOP,)),
    Case("create disk", create(9), current=9, effects=(StepAction.CREATE,)),
    Case("create with memory", create(9, memory=True), current=9, effects=(StepAction.CREATE,)),
    Case(
        "create of a stopped VM",
        create(9),
        power=Power.STOPPED,
        after=Power.STOPPED,
        current=9,
        effects=(StepAction.CREATE,),
    ),
    Case(
        "revert of a running VM to a disk snapshot",
        RevertToSnapshot(snapshot_id=sid(1), refuse_power_change=False),
        after=Power.STOPPED,
        current=1,
        effects=(StepAction.STOP, StepAction.RESTORE),
    ),
    Case(
        "revert of a stopped VM to a memory snapshot",
        RevertToSnapshot(snapshot_id=sid(2), refuse_power_change=False),
        power=Power.STOPPED,
        current=2,
        effects=(StepAction.START, StepAction.RESTORE),
    ),
    Case(
        "revert of a running VM to a memory snapshot",
        RevertToSnapshot(snapshot_id=sid(2), refuse_power_change=False),
        current=2,
        effects=(StepAction.RESTORE,),
    ),
    Case("delete in the middle", DeleteSnapshot(snapshot_id=sid(2)), effects=(StepAction.REMOVE,)),
    Case("delete the current one", DeleteSnapshot(snapshot_id=sid(3)), current=2, effects=(StepAction.REMOVE,)),
    Case("delete the first one", DeleteSnapshot(snapshot_id=sid(1)), effects=(StepAction.REMOVE,)),
)


def check_invariants(vm: VirtualMachine) -> None:
    """Hold a VM, at whatever version, against what must always hold of its tree and its operations."""
    for snapshot in vm.snapshots.values():
        seen = set()
        at = snapshot
        while at.parent_id is not None:
            assert at.snapshot_id not in seen, "a cycle"
            seen.add(at.snapshot_id)
            at = vm.snapshots[at.parent_id]
            if snapshot.state not in (SnapshotState.REMOVED, SnapshotState.EXPUNGING):
                assert at.state is not SnapshotState.REMOVED, "a dangling parent"
    assert vm.current_id is None or vm.snapshots[vm.current_id].state is not SnapshotState.REMOVED
    holders = [o for o in vm.active_operations if not o.only_waits]
    assert len(holders) <= 1
    open_steps = [s for o in vm.active_operations for s in o.steps if s.open]
    assert len(open_steps) <= 1


def ready(case: Case) -> World:
    """Build the world of a case, up to the moment before its request."""
    world = World()
    chain(world)
    world.watch = check_invariants
    if case.power is Power.STOPPED:
        world.do(StopVm(mode=StopMode.TURN_OFF))
        world.run()
        world.host.effects.clear()
    return world


every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def check_end(world: World, case: Case) -> None:
    """Compare the record and the host with what the case says, and with each other."""
    vm = world.vm
    operation = vm.operations[vm.last_number]
    assert operation.state is OperationState.SUCCEEDED, operation
    assert vm.activity is VmActivity.IDLE
    assert vm.power is world.host.power is case.after
    assert vm.current_id == (sid(case.current) if case.current else None)
    assert vm.current_id == vm.nearest_own(world.host.current)
    assert [action for action, _, _ in world.host.effects] == list(case.effects)
    assert len({(name, step) for _, name, step in world.host.effects}) == len(world.host.effects)
    live = {s.checkpoint_id: s for s in vm.snapshots.values() if s.state is not SnapshotState.REMOVED}
    assert set(live) == set(world.host.checkpoints)
    for checkpoint in world.host.checkpoints.values():
        parent = live[checkpoint.checkpoint_id].parent_id
        assert parent == vm.nearest_own(checkpoint.parent_id)
    drift = [event for event in world.log if isinstance(event, DriftDetected)]
    assert drift == [], "what an operation does itself is never drift"


@every_case
def test_an_operation_ends_with_each_effect_once(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.run()
    check_end(world, case)


@every_case
def test_an_operation_whose_every_message_comes_twice_ends_the_same(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.run(twice=True)
    check_end(world, case)


@every_case
def test_an_operation_whose_every_answer_is_lost_ends_the_same(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.run(lose=True)
    check_end(world, case)


@every_case
def test_an_operation_whose_every_command_is_lost_before_the_host_saw_it_ends_the_same(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    dropped: set[int] = set()

    def drop_once() -> None:
        found = world.open_step()
        if found and found[1].open and not found[1].observing and found[1].plan.number not in dropped:
            dropped.add(found[1].plan.number)
            raise_fence(world)

    for _ in range(60):
        drop_once()
        if not world.vm.active_operations:
            break
        world.turn()
    check_end(world, case)
    assert dropped


def raise_fence(world: World) -> None:
    """Lose the open step's command on its way, so that only an observation can tell what became of it."""
    found = world.open_step()
    assert found is not None
    operation, step = found
    lost = Failure(reason="CONNECTION_LOST", message="The connection was lost.")
    world.do(LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=lost))


@every_case
def test_an_operation_whose_first_step_fails_leaves_the_host_as_it_was(case: Case) -> None:
    world = ready(case)
    before = world.host.report()
    world.host.error_id = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.X"
    world.do(case.request)
    operation = world.run()
    best_effort = operation.steps[0].plan.nature.name == "BEST_EFFORT"
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert "OperationFailed" in operation.failure.error_id
    assert world.vm.activity is VmActivity.IDLE
    assert world.host.effects == []
    after = world.host.report()
    assert after.description == before.description
    assert after.power is before.power
    assert all(s.state in (SnapshotState.READY, SnapshotState.ERROR) for s in world.vm.snapshots.values())
    assert best_effort == (len([s for s in operation.steps if s.failure]) > 1)


@every_case
def test_an_operation_that_is_cancelled_before_its_first_step_ends_at_once(case: Case) -> None:
    world = ready(case)
    world.do(case.request)
    world.do(CancelOperation(number=world.vm.last_number))
    assert world.vm.operations[world.vm.last_number].state is OperationState.CANCELLED
    assert world.host.effects == []
    assert world.vm.activity is VmActivity.IDLE


undoable = pytest.mark.parametrize(
    "case", [c for c in CASES if c.effects[0] is not StepAction.REMOVE], ids=lambda c: c.name
)


@undoable
def test_a_cancellation_during_the_first_step_brings_everything_back(case: Case) -> None:
    world = ready(case)
    before = world.host.power
    world.do(case.request)
    while not (found := world.open_step()) or not found[1].open:
        world.turn()
    if found[1].plan.action is StepAction.RESTORE:
        with pytest.raises(CancelTooLate):
            world.do(CancelOperation(number=world.vm.last_number))
        return
    world.do(CancelOperation(number=world.vm.last_number))
    operation = world.run()
    assert operation.state is OperationState.CANCELLED
    assert world.host.power is before
    assert set(world.host.checkpoints) == {
        s.checkpoint_id for s in world.vm.snapshots.values() if s.state is SnapshotState.READY
    }
    assert not world.host.merging


def test_every_kind_of_operation_stands_in_a_case() -> None:
    kinds = set()
    for case in CASES:
        world = ready(case)
        world.do(case.request)
        kinds.add(world.vm.operations[world.vm.last_number].kind)
    assert kinds == set(OperationKind)
