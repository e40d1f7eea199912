"""Worlds whose VM is exported, or was released after an export."""

from collections.abc import Callable

from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.steps.vm_stop import StopMode
from tests.asking import export_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import check_invariants, create

ON_STOP = Policy(export_policy=ExportPolicy.ON_STOP, export_directory="/exports")
FULL = "There is not enough space on the disk. (0x80070070)"


def stopped(policy: Policy | None = None) -> World:
    """Return a world whose VM has one snapshot and is off, and nothing has followed its stop."""
    world = World(policy=replace(policy or Policy(), export_policy=ExportPolicy.NEVER))
    world.do(create(1))
    world.run()
    world.do(stop_vm(StopMode.TURN_OFF))
    world.run()
    world.policy = policy or Policy()
    world.watch = check_invariants
    world.host.effects.clear()
    return world


def until(world: World, holds: Callable[[], bool]) -> None:
    """Let things happen until something holds."""
    for _ in range(60):
        if holds():
            return
        world.turn()
    raise AssertionError(world.vm)


def step_of(world: World, action: str) -> StepState:
    """Return the state of the newest operation's last step of an action."""
    return [s.state for s in world.vm.operations[world.vm.last_number].steps if s.plan.action == action][-1]


def waits(world: World) -> Callable[[], bool]:
    """Return whether the newest operation waits for its job."""
    return lambda: step_of(world, "job_wait") is StepState.WAITING


def exporting(policy: Policy | None = None, **options: object) -> World:
    """Return a world whose host is at work on an export of a VM that is off."""
    world = stopped(policy)
    world.do(export_vm(**options))  # type: ignore[arg-type]
    until(world, waits(world))
    return world


def released(policy: Policy | None = None) -> World:
    """Return a world whose VM was released after an export."""
    world = stopped(policy)
    world.do(export_vm(release=True))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.gone
    world.host.effects.clear()
    return world


def asked(world: World) -> list[str]:
    """Return the effects so far, in their order."""
    return [action for action, _, _ in world.host.effects]
