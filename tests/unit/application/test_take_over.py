"""Take-over of a VM: the log goes on from what the journal and the host say, and nothing is done twice."""

from collections.abc import Callable

import pytest

from snapshotd.application.decide import decide
from snapshotd.application.draft import Draft
from snapshotd.application.take_over import TakenOver, taken_over
from snapshotd.dispatch.orders import Order, effect_order
from snapshotd.domain import events as e
from snapshotd.domain.commands import AwaitTakeOver, RegisterVm, SyncVm, TakeOverVm
from snapshotd.domain.conditions import conditions
from snapshotd.domain.errors import LogRolledBack, NotFound, RequestIdReused, VmChanging
from snapshotd.domain.host_errors import NotTakenOver
from snapshotd.domain.host_report import Journal, JournalState, Verdict
from snapshotd.domain.ids import HostId, OperationName
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, revert_to, start_vm, stop_vm
from tests.fakes import VM_ID, World
from tests.unit.application.cases import LIVING, Case, check_invariants, create, ready, sid

NEWER = "operations/11111111-1111-4111-8111-111111111111.9-0f0f0f0f"
"""An operation that a lost log has named."""


def take_over(world: World, *, foreign: bool = False, request_id: str = "", digest: str = "") -> TakenOver | None:
    """Take the VM over, from what its host reports now."""
    report, version = world.host.report(), world.vm.version
    command = TakeOverVm(reason="the backup", report=report, asked_version=version, foreign=foreign)
    return taken_over(world.do(command, request_id=request_id, digest=digest))


def sync(world: World) -> Draft:
    """Compare what the host reports with the record."""
    return world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def restored(case_world: World) -> World:
    """Let the log of a world go on and do one thing more, and put what it was before in its place."""
    backup = case_world.vm
    case_world.run()
    case_world.do(stop_vm(StopMode.TURN_OFF) if case_world.vm.power is Power.RUNNING else start_vm())
    case_world.run()
    case_world.host.effects.clear()
    case_world.vm = backup
    return case_world


def two_behind() -> World:
    """Return a world with snapshot 1 on record, and the checkpoint of snapshot 2 on the host."""
    world = World(power=Power.STOPPED)
    world.do(create(1))
    world.run()
    backup = world.vm
    world.do(create(2))
    world.run()
    world.host.effects.clear()
    world.vm = backup
    sync(world)
    assert world.vm.rolled_back
    return world


def agrees(world: World) -> None:
    """Check that the record is what the host has."""
    vm, there = world.vm, world.host.report()
    assert there.description is not None
    assert (vm.power, vm.activity) == (there.power, VmActivity.IDLE)
    assert vm.current_id == vm.nearest_own(world.host.current)
    for snapshot in vm.snapshots.values():
        if snapshot.state is SnapshotState.READY:
            checkpoint = there.description.checkpoint(snapshot.checkpoint_id)
            assert checkpoint is not None
            assert snapshot.parent_id == vm.nearest_own(checkpoint.parent_id)
    check_invariants(vm)


def works_again(world: World) -> None:
    """Check that create, revert and delete work, each with one effect of its own."""
    for wanted in (create(7), revert_to(sid(7)), delete(sid(7))):
        world.host.effects.clear()
        world.do(wanted)
        assert world.run().state is OperationState.SUCCEEDED
        assert len(set(world.host.effects)) == len(world.host.effects) > 0
        agrees(world)


def test_after_a_take_over_the_vm_can_be_worked_on_and_its_state_is_the_hosts() -> None:
    world = two_behind()
    told = take_over(world)
    assert told is not None
    assert told.journal_token == world.host.journal.highest_token
    assert conditions(world.vm) == ()
    agrees(world)
    works_again(world)


def test_each_token_that_is_issued_afterwards_is_higher_than_any_that_the_journal_had() -> None:
    world = two_behind()
    highest = world.host.journal.highest_token + 1000
    world.host.journal = replace(world.host.journal, highest_token=highest)
    take_over(world)
    tokens = []
    world.watch = lambda vm: tokens.append(vm.last_token)
    works_again(world)
    assert all(token >= highest for token in tokens)
    assert len(set(tokens)) > 5
    assert tokens == sorted(tokens)
    assert world.host.journal.highest_token == tokens[-1]


def test_the_journals_operation_is_on_record_and_shows_no_other_log_again() -> None:
    world = two_behind()
    world.host.journal = replace(world.host.journal, operation=NEWER, step=1, done=True)
    take_over(world)
    sync(world)
    assert not world.vm.rolled_back
    world.do(start_vm())
    assert world.run().state is OperationState.SUCCEEDED
    world.host.journal = replace(world.host.journal, operation=NEWER.replace(".9-", ".99-"))
    sync(world)
    assert world.vm.rolled_back


def test_before_the_first_effect_the_vm_is_observed_whatever_has_looked_at_it() -> None:
    world = two_behind()
    take_over(world)
    sync(world)
    since = len(world.log)
    world.do(create(7))
    world.run()
    issued = [type(event) for event in world.log[since:] if isinstance(event, e.ObservationIssued | e.StepIssued)]
    assert issued[0] is e.ObservationIssued
    world.do(create(8))
    since = len(world.log)
    world.run()
    assert not any(isinstance(event, e.ObservationIssued) for event in world.log[since:])


def test_a_command_of_the_lost_log_that_is_still_on_its_way_is_fenced_off_by_the_first_look() -> None:
    world = two_behind()
    take_over(world)
    world.do(create(7))
    while not world.host.journal.highest_token > world.vm.token_base:
        world.turn()
    late = replace(effect_of(world), operation=OperationName(NEWER), token=world.vm.token_base)
    assert world.host.effect(late).verdict is Verdict.STALE
    assert world.run().state is OperationState.SUCCEEDED


def effect_of(world: World) -> Order:
    """Return the order of a step that is issued next."""
    while True:
        found = world.open_step()
        if found is not None and found[1].state is StepState.ISSUED:
            return effect_order(world.vm, *found)
        world.turn()


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
def test_what_the_log_believes_under_way_ends_as_undetermined(case: Case, turn: int) -> None:
    world = ready(case)
    world.do(case.request)
    for _ in range(turn):
        world.turn()
    (operation,) = world.vm.active_operations
    world = restored(world)
    told = take_over(world)
    assert told is not None
    assert told.ended == (operation.name,)
    assert world.host.effects == []
    ended = world.vm.operations[operation.number]
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert ended.failure.reason == "OUTCOME_UNDETERMINED"
    assert not world.vm.active_operations
    rest = (SnapshotState.READY, SnapshotState.ERROR, SnapshotState.REMOVED)
    assert all(snapshot.state in rest for snapshot in world.vm.snapshots.values())
    agrees(world)
    sync(world)
    assert not world.vm.rolled_back
    works_again(world)


def test_a_checkpoint_of_the_lost_log_is_told_as_unrecorded_and_named() -> None:
    world = two_behind()
    told = take_over(world)
    assert told is not None
    assert [c.name for c in told.marked] == [world.host.checkpoints[world.host.current].name]  # type: ignore[index]
    drift = [event for event in world.log if isinstance(event, e.DriftDetected)]
    assert [d.kind for d in drift] == [e.DriftKind.UNRECORDED_CHECKPOINT]


def test_a_vm_whose_journal_knows_no_more_than_the_log_needs_no_take_over() -> None:
    world = World(power=Power.STOPPED)
    world.do(create(1))
    world.run()
    version = world.vm.version
    assert take_over(world) is None
    assert world.vm.version == version


def test_on_a_host_of_another_installation_each_vm_is_taken_over() -> None:
    world = World(power=Power.STOPPED)
    world.do(create(1))
    world.run()
    assert take_over(world, foreign=True) is not None


def test_a_vm_that_its_host_works_on_is_not_taken_over() -> None:
    world = two_behind()
    world.host.transition = "Stopping"
    with pytest.raises(NotTakenOver, match="STATE_CHANGE"):
        take_over(world)
    assert world.vm.rolled_back
    world.host.transition, world.host.merging = "", True
    assert take_over(world) is not None


def test_a_token_that_leaves_no_room_above_is_not_taken_over() -> None:
    world = two_behind()
    world.host.journal = replace(world.host.journal, highest_token=2**53)
    with pytest.raises(NotTakenOver, match="remove the journal"):
        take_over(world)


def test_a_journal_that_is_gone_is_made_anew_by_the_first_look() -> None:
    world = two_behind()
    world.host.journal = Journal(state=JournalState.MISSING)
    assert take_over(world) is not None
    assert world.vm.journal_id == ""
    works_again(world)


def test_a_report_that_is_older_than_a_step_is_not_taken() -> None:
    world = World(power=Power.STOPPED)
    report = replace(world.host.report(), journal=Journal(state=JournalState.PRESENT, highest_token=900))
    version = world.vm.version
    world.do(create(1))
    world.run()
    with pytest.raises(VmChanging):
        world.do(TakeOverVm(reason="", report=report, asked_version=version))


def test_a_vm_that_is_not_registered_is_not_taken_over() -> None:
    world = two_behind()
    world.vm = VirtualMachine(vm_id=VM_ID)
    with pytest.raises(NotFound):
        take_over(world)


def test_a_repeated_request_gets_its_first_answer_and_changes_nothing() -> None:
    world = two_behind()
    first = take_over(world, request_id="r", digest="d")
    version = world.vm.version
    again = take_over(world, request_id="r", digest="d")
    assert (again, world.vm.version) == (first, version)
    with pytest.raises(RequestIdReused):
        take_over(world, request_id="r", digest="other")


def test_a_second_restore_of_the_backup_is_taken_over_as_well() -> None:
    world = two_behind()
    backup = world.vm
    for n in (7, 8):
        take_over(world)
        world.do(create(n))
        world.run()
        world.vm = backup
        sync(world)
        assert world.vm.rolled_back
    take_over(world)
    world.do(create(9))
    assert world.run().state is OperationState.SUCCEEDED
    agrees(world)


# --- blocked until then -----------------------------------------------------------------------------------------------


def test_a_vm_that_awaits_its_take_over_is_only_observed_whatever_its_journal_shows() -> None:
    world = World(power=Power.STOPPED)
    world.do(create(1))
    world.run()
    world.do(AwaitTakeOver())
    version = world.vm.version
    world.do(AwaitTakeOver())
    sync(world)
    assert world.vm.version == version
    with pytest.raises(LogRolledBack):
        world.do(create(2))
    assert take_over(world) is not None
    works_again(world)


# --- registered on a host that was taken over -------------------------------------------------------------------------


def test_a_vm_that_this_log_has_never_worked_on_inherits_its_journal_with_the_host() -> None:
    world = two_behind()
    world.vm = VirtualMachine(vm_id=VM_ID)
    world.do(RegisterVm(host_id=HostId("hv01"), owner="ops", report=world.host.report(), inherits=True))
    assert not world.vm.rolled_back
    assert world.vm.token_base == world.host.journal.highest_token
    works_again(world)


def test_on_its_own_host_it_is_for_a_person_to_take_over() -> None:
    world = two_behind()
    world.vm = VirtualMachine(vm_id=VM_ID)
    world.do(RegisterVm(host_id=HostId("hv01"), owner="ops", report=world.host.report()))
    assert world.vm.rolled_back
    assert take_over(world) is not None
    works_again(world)


def test_one_that_this_log_has_worked_on_inherits_nothing() -> None:
    world = two_behind()
    registered = RegisterVm(host_id=HostId("hv01"), owner="ops", report=world.host.report(), inherits=True)
    old = replace(world.vm, activity=VmActivity.UNREGISTERED, rolled_back=0)
    world.vm = old
    world.do(registered)
    assert world.vm.rolled_back


# --- an answer that was not true --------------------------------------------------------------------------------------


def lied_to() -> World:
    """Return a world whose log is whole, and was told once of a higher token than its journal has."""
    world = World(power=Power.STOPPED)
    world.do(create(1))
    world.run()
    lie = replace(world.host.report(), journal=replace(world.host.journal, highest_token=900))
    world.do(SyncVm(report=lie, asked_version=world.vm.version))
    assert world.vm.rolled_back == 900
    return world


def test_what_the_same_journal_does_not_show_later_was_not_true() -> None:
    world = lied_to()
    sync(world)
    assert isinstance(world.log[-1], e.LogRollbackDisproved)
    assert not world.vm.rolled_back
    works_again(world)


def other_journal(world: World) -> SyncVm:
    """Return a comparison with a report of another journal than the one that was noticed."""
    world.host.journal = replace(world.host.journal, journal_id="another", highest_token=0, operation="")
    sync(world)
    return SyncVm(report=world.host.report(), asked_version=world.vm.version)


def asked_before(world: World) -> SyncVm:
    """Return a comparison with a report that was asked for before the other one came."""
    return SyncVm(report=world.host.report(), asked_version=world.vm.version - 1)


def of_a_foreign_host(world: World) -> SyncVm:
    """Return a comparison of a VM that is blocked since its host is being taken over."""
    world.do(AwaitTakeOver())
    return SyncVm(report=world.host.report(), asked_version=world.vm.version)


def still_higher(world: World) -> SyncVm:
    """Return a comparison with a journal that knows more than the log, if less than was told."""
    world.host.journal = replace(world.host.journal, highest_token=world.vm.last_token + 1)
    return SyncVm(report=world.host.report(), asked_version=world.vm.version)


@pytest.mark.parametrize("seen", [other_journal, asked_before, of_a_foreign_host, still_higher])
def test_nothing_else_disproves_it(seen: Callable[[World], SyncVm]) -> None:
    world = lied_to()
    world.do(seen(world))
    assert world.vm.rolled_back


def test_a_preview_is_what_the_take_over_then_is() -> None:
    world = two_behind()
    command = TakeOverVm(reason="", report=world.host.report(), asked_version=world.vm.version)
    before = world.vm
    draft = world.do(command)
    world.vm = before
    again = decide(before, command, draft.context)
    assert taken_over(again) == taken_over(draft)
