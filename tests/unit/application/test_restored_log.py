"""A log that was restored from a backup: told, never acted upon, and in nobody's way."""

import pytest

from snapshotd.domain.commands import Proceed, RegisterVm, SyncVm, UnregisterVm
from snapshotd.domain.conditions import conditions
from snapshotd.domain.errors import LogRolledBack, OperationActive
from snapshotd.domain.events import LogFoundRolledBack
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, VmActivity
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, revert_to, start_vm, stop_vm
from tests.fakes import VM_ID, World
from tests.unit.application.cases import LIVING, Case, create, ready, sid


def restored(world: World, backup: VirtualMachine) -> None:
    """Let the newer log go on, do one thing more, and put the backup in its place."""
    world.run()
    world.do(stop_vm(StopMode.TURN_OFF) if world.vm.power is Power.RUNNING else start_vm())
    world.run()
    world.host.effects.clear()
    world.vm = backup


def sync(world: World) -> None:
    """Compare what the host reports with the record."""
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def over_a_restored_log() -> World:
    """Return a world with snapshot 1 on record, and nothing of what was done since."""
    world = World(power=Power.STOPPED)
    world.do(create(1))
    world.run()
    restored(world, world.vm)
    return world


def test_a_journal_that_knows_more_than_the_log_is_noticed_by_a_sync_and_told() -> None:
    world = over_a_restored_log()
    sync(world)
    assert isinstance(world.log[-1], LogFoundRolledBack)
    (told,) = conditions(world.vm)
    assert told.reason == "LOG_ROLLED_BACK"
    assert f"token {world.host.journal.highest_token}" in told.message


def test_it_stays_noticed_when_the_log_has_grown_past_the_journal() -> None:
    world = over_a_restored_log()
    sync(world)
    while world.vm.version <= world.host.journal.highest_token:
        world.host.power = Power.RUNNING if world.host.power is Power.STOPPED else Power.STOPPED
        sync(world)
    with pytest.raises(LogRolledBack):
        world.do(revert_to(sid(1)))


def test_it_is_noticed_by_the_first_answer_and_that_is_not_believed() -> None:
    world = over_a_restored_log()
    world.do(revert_to(sid(1)))
    for _ in range(10):
        world.turn()
        if world.vm.rolled_back:
            break
    assert world.vm.rolled_back
    assert world.vm.active_operations
    assert world.host.effects == []


def test_it_is_noticed_when_a_vm_is_registered_that_the_lost_log_knew() -> None:
    world = over_a_restored_log()
    world.vm = VirtualMachine(vm_id=VM_ID)
    world.do(RegisterVm(host_id=HostId("hv01"), owner="ops", report=world.host.report()))
    assert world.vm.rolled_back == world.host.journal.highest_token


@pytest.mark.parametrize("wanted", [create(9), revert_to(sid(1)), delete(sid(1))], ids=["create", "revert", "delete"])
def test_nothing_more_is_begun(wanted: object) -> None:
    world = over_a_restored_log()
    sync(world)
    with pytest.raises(LogRolledBack, match="restore from a backup"):
        world.do(wanted)  # type: ignore[arg-type]
    assert not world.vm.active_operations


def turns(case: Case) -> int:
    """Return how many things happen until a case's operation is over."""
    world = ready(case)
    world.do(case.request)
    for n in range(60):
        if not world.vm.active_operations:
            return n
        world.turn()
    raise AssertionError(case)


@pytest.mark.parametrize(
    ("case", "turn"), [(c, n) for c in LIVING for n in range(turns(c))], ids=lambda x: str(getattr(x, "name", x))
)
def test_an_operation_of_the_backup_is_left_alone_until_somebody_cancels_it(case: Case, turn: int) -> None:
    world = ready(case)
    world.do(case.request)
    for _ in range(turn):
        world.turn()
    backup = world.vm
    restored(world, backup)
    for _ in range(8):
        if world.vm.active_operations:
            world.turn()
    assert world.host.effects == []
    assert world.vm.rolled_back
    (operation,) = world.vm.active_operations
    with pytest.raises(OperationActive):
        world.do(UnregisterVm())

    world.cancel(operation.number)
    ended = world.vm.operations[operation.number]
    begun = operation.state is not OperationState.PENDING
    assert ended.state is (OperationState.FAILED if begun else OperationState.CANCELLED)
    if begun:
        assert ended.failure is not None
        assert (ended.failure.reason, "older than" in ended.failure.message) == ("OUTCOME_UNDETERMINED", True)
    assert all(
        s.state in (SnapshotState.READY, SnapshotState.ERROR, SnapshotState.REMOVED)
        for s in world.vm.snapshots.values()
    )
    assert world.vm.activity is VmActivity.IDLE
    world.do(Proceed())
    world.do(UnregisterVm())
    assert not world.vm.registered


def test_one_that_was_being_cancelled_when_it_is_noticed_ends_at_once() -> None:
    world = World(power=Power.STOPPED)
    world.do(create(1))
    while world.open_step() is None or not world.vm.operations[1].steps[0].open:
        world.turn()
    world.cancel(1)
    assert world.vm.active_operations
    restored(world, world.vm)
    sync(world)
    assert world.vm.operations[1].state is OperationState.FAILED


def test_it_is_noticed_however_much_the_restored_log_has_grown_by_what_was_never_begun() -> None:
    world = over_a_restored_log()
    while world.vm.version <= world.host.journal.highest_token + 60:
        world.do(create(100 + world.vm.version))
        world.cancel(world.vm.last_number)
    sync(world)
    assert world.vm.rolled_back == world.host.journal.highest_token
