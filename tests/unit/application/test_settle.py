"""A host that is dead for good, in every state of every operation: a person settles it, and the VM is free."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import pytest

from snapshotd.dispatch.orders import Order, effect_order
from snapshotd.domain.commands import GiveUpLook, Proceed, RegisterVm, RequestOperation, SyncVm, UnregisterVm
from snapshotd.domain.conditions import conditions
from snapshotd.domain.errors import LogRolledBack, MergePending, NotFound, OperationActive, RequestIdReused
from snapshotd.domain.events import DriftDetected, DriftKind, OperationSettled, StepIssued, VmPowerChanged
from snapshotd.domain.host_report import Verdict, VmReport
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, SettledAs
from snapshotd.domain.settle_errors import SettleRefused
from snapshotd.domain.state import replace
from snapshotd.steps.vm_stop import StopMode
from tests.asking import RENAME, delete, start_vm, stop_vm
from tests.fakes import FakeHost, World
from tests.unit.application.cases import (
    AT_WORK,
    CASES,
    REFUSED,
    Case,
    create,
    lose_command,
    power_told,
    ready,
    settle,
    settlement,
    sid,
)

FINAL = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.X"
RESTING = {SnapshotState.READY, SnapshotState.ERROR, SnapshotState.REMOVED}
every_outcome = pytest.mark.parametrize("outcome", list(SettledAs), ids=lambda o: o.name)
every_case = pytest.mark.parametrize("case", AT_WORK, ids=lambda c: c.name)
CREATE_CASE = next(c for c in CASES if c.name == "create disk")


def forked(world: World) -> World:
    """Return a world that goes its own way from here."""
    fork, fork.host = copy.copy(world), copy.copy(world.host)
    fork.log = list(world.log)
    for name in ("parents", "checkpoints", "effects", "error_ids"):
        setattr(fork.host, name, copy.copy(getattr(world.host, name)))
    fork.host.copies = world.host.copies.copied()
    return fork


def states_of(case: Case) -> Iterator[World]:
    """Yield a case in each state that it comes through: as it is, cancelled at each turn, and each step refused."""
    worlds = [ready(case)]
    for refused in (r for r in REFUSED if r.case is case):
        worlds.append(ready(case))
        worlds[-1].host.error_ids = dict.fromkeys(refused.steps, FINAL)
    for world in worlds:
        world.do(case.request)
        for life in _cancelled_or_not(world):
            found = life.open_step()
            if found is not None and found[1].state is StepState.ISSUED:
                lost = forked(life)
                lose_command(lost)
                yield lost
            yield life


def _cancelled_or_not(world: World) -> Iterator[World]:
    """Yield a world after each of its turns, and likewise if its operation is cancelled there."""
    for _ in range(60):
        if not world.vm.active_operations:
            return
        yield forked(world)
        (operation,) = world.vm.active_operations
        if not operation.cancel_requested and not operation.too_late_to_cancel():
            cancelled = forked(world)
            cancelled.cancel(operation.number)
            yield from _cancelled_or_not(cancelled)
        world.turn()


def check_free(world: World) -> None:
    """Check that nothing holds the VM, and that it can be unregistered; of a VM that is gone, that it is at rest."""
    assert world.vm.active_operations == ()
    if world.vm.activity is VmActivity.DESTROYED:
        assert {s.state for s in world.vm.snapshots.values()} == {SnapshotState.REMOVED}
        return
    assert world.vm.activity is VmActivity.IDLE
    assert {s.state for s in world.vm.snapshots.values()} <= RESTING
    fork = forked(world)
    fork.do(UnregisterVm())
    assert not fork.vm.registered


def check_used_again(world: World) -> None:
    """Check that the VM can be worked on as before when its host is back, and that the record is what is there.

    One that is gone, or counts as gone by what a person said, cannot.
    """
    if world.vm.activity is VmActivity.DESTROYED:
        return
    world.host.error_ids = {}
    world.host.merge()
    world.host.end_jobs()
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    if world.host.gone and not world.vm.released:
        assert world.vm.power is Power.ABSENT
        return
    world.do(stop_vm(StopMode.TURN_OFF) if world.vm.power is not Power.STOPPED else start_vm())
    assert world.run().state is OperationState.SUCCEEDED
    world.do(create(77))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.power is world.host.power
    assert world.vm.current_id == sid(77) == world.vm.nearest_own(world.host.current)


@every_case
def test_what_is_given_up_in_any_state_ends_at_once_and_leaves_the_vm_free(case: Case) -> None:
    steps = set()
    for world in states_of(case):
        (operation,) = world.vm.active_operations
        assert operation.current_step is not None
        steps.add(operation.current_step.state)
        with pytest.raises((OperationActive, MergePending)):
            world.do(UnregisterVm())
        sent = operation.state is OperationState.RUNNING
        settle(world, SettledAs.GIVEN_UP)
        ended = world.vm.operations[operation.number]
        assert ended.state is OperationState.FAILED
        assert ended.failure is not None
        assert ended.failure.reason == ("OUTCOME_UNDETERMINED" if sent else "GIVEN_UP")
        assert "eve settled step" in ended.failure.message
        assert "the host is gone" in ended.failure.message
        check_free(world)
        check_used_again(world)
    assert steps >= {StepState.DUE, StepState.ISSUED, StepState.OUTCOME_UNKNOWN}


@every_case
@pytest.mark.parametrize("outcome", [SettledAs.TOOK_EFFECT, SettledAs.NO_EFFECT], ids=lambda o: o.name)
def test_an_operation_whose_host_never_answers_ends_however_its_steps_are_settled(
    case: Case, outcome: SettledAs
) -> None:
    for world in states_of(case):
        for _ in range(12):
            if not world.vm.active_operations:
                break
            with contextlib.suppress(SettleRefused):
                settle(world, outcome)
                continue
            settle(world, SettledAs.GIVEN_UP)
            world.do(Proceed())
        check_free(world)
        check_used_again(world)


@every_case
def test_a_late_command_of_a_settled_step_cannot_act_once_the_vm_was_looked_at(case: Case) -> None:
    for world, order in _sent(case):
        settle(world, SettledAs.GIVEN_UP)
        if world.vm.activity is VmActivity.DESTROYED:
            continue
        _next_sent(world)
        assert world.host.effect(order).verdict is Verdict.STALE
        assert len(world.host.effects) == len({(name, step) for _, name, step in world.host.effects})


@every_case
def test_a_late_command_of_a_settled_step_that_acts_before_the_look_is_seen_and_told(case: Case) -> None:
    for world, order in _sent(case):
        settle(world, SettledAs.GIVEN_UP)
        if world.vm.activity is VmActivity.DESTROYED:
            continue
        there = world.host.report()
        verdict, now = world.host.effect(order).verdict, world.host.report()
        # A virtual disk that was made and is attached nowhere does not show, nor an export that nobody waits for.
        version, changed = world.vm.version, _of_vm(now) != _of_vm(there)
        _next_sent(world)
        world.run()
        drift = any(isinstance(event, DriftDetected) for event in world.log[version:])
        unwanted = any(s.state is SnapshotState.ERROR and s.checkpoint_id for s in world.vm.snapshots.values())
        left = [c.reason for c in conditions(world.vm)]
        assert drift or unwanted or left or verdict is not Verdict.DONE or not changed
        assert world.vm.power is power_told(world)
        assert world.vm.current_id == world.vm.nearest_own(world.host.current)


def _of_vm(report: VmReport) -> tuple[object, ...]:
    return report.power, report.description


def _sent(case: Case) -> Iterator[tuple[World, Order]]:
    """Yield the states in which a command is on its way to the host, with that."""
    for world in states_of(case):
        (operation,) = world.vm.active_operations
        step = operation.current_step
        if step is not None and step.state is StepState.ISSUED:
            yield world, effect_order(world.vm, operation, step)


def _next_sent(world: World) -> None:
    """Ask for something new, and let the host be looked at for it: nothing is issued before."""
    version = len(world.log)
    world.host.end_jobs()
    if world.vm.released:
        world.do(start_vm())
    else:
        world.do(create(78) if world.vm.power in (Power.RUNNING, Power.STOPPED) else stop_vm(StopMode.TURN_OFF))
    assert world.vm.fence_due
    world.do(Proceed())
    assert not any(isinstance(event, StepIssued) for event in world.log[version:])
    for _ in range(3 if world.host.gone else 1):
        world.turn()  # a VM that its host does not have may be on its way to another: it is looked at again
    assert not world.vm.fence_due


def sent(request: RequestOperation) -> World:
    """Return a world with a running VM and a command for it that is on its way."""
    world = ready(CREATE_CASE)
    world.do(request)
    while (found := world.open_step()) is None or found[1].state is not StepState.ISSUED:
        world.turn()
    return world


def test_a_given_up_vm_can_be_registered_on_another_host() -> None:
    world = sent(CREATE_CASE.request)
    settle(world, SettledAs.GIVEN_UP)
    world.do(UnregisterVm())
    there = world.host
    world.host = FakeHost(power=there.power, checkpoints=there.checkpoints, parents=there.parents, leaf=there.leaf)
    world.host.current, world.host.made = there.current, 100
    world.do(RegisterVm(host_id=HostId("hv02"), owner="ops", report=world.host.report()))
    check_used_again(world)


def test_both_can_be_given_up_when_a_turn_off_waits_for_a_shutdown_that_never_ends() -> None:
    world = sent(stop_vm(StopMode.SHUTDOWN))
    world.do(stop_vm(StopMode.TURN_OFF))
    shutdown, turn_off = world.vm.active_operations
    settle(world, SettledAs.GIVEN_UP, turn_off.number)
    settle(world, SettledAs.GIVEN_UP, shutdown.number)
    check_free(world)
    check_used_again(world)


def test_the_next_operation_begins_when_the_one_that_it_waits_for_is_given_up() -> None:
    world = sent(stop_vm(StopMode.SHUTDOWN))
    world.do(stop_vm(StopMode.TURN_OFF))
    settle(world, SettledAs.GIVEN_UP)
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.power is Power.STOPPED


def unknown() -> World:
    """Return a world with a create of snapshot 9 whose command was lost."""
    world = sent(CREATE_CASE.request)
    lose_command(world)
    return world


def test_a_step_that_had_no_effect_as_a_person_says_is_undone_like_any_that_failed() -> None:
    world = unknown()
    settle(world, SettledAs.NO_EFFECT)
    ended = world.vm.operations[world.vm.last_number]
    assert ended.failure is not None
    assert (ended.state, ended.failure.reason) == (OperationState.FAILED, "SETTLED_ABSENT")
    assert world.vm.snapshots[sid(9)].state is SnapshotState.ERROR


def test_a_checkpoint_that_was_made_after_all_is_told_as_found_and_as_nothing_else() -> None:
    world = sent(CREATE_CASE.request)
    found = world.open_step()
    assert found is not None
    world.act(*found)
    lose_command(world)
    settle(world, SettledAs.NO_EFFECT)
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    assert world.vm.snapshots[sid(9)].state is SnapshotState.READY
    drifts = [event.kind for event in world.log if isinstance(event, DriftDetected)]
    assert drifts == [DriftKind.CHECKPOINT_FOUND, DriftKind.CURRENT_MOVED]


def test_that_a_checkpoint_was_made_is_believed_only_if_the_record_shows_which() -> None:
    world = unknown()
    with pytest.raises(SettleRefused, match="nothing on record tells the result of step 1"):
        settle(world, SettledAs.TOOK_EFFECT)
    assert not any(isinstance(event, OperationSettled) for event in world.log)


def test_a_checkpoint_that_the_record_shows_is_the_result_of_a_create_that_took_effect() -> None:
    world = unknown()
    made = world.host.take(f"s9 #{sid(9)}")
    world.vm = replace(world.vm, description=world.host.report().description)
    settle(world, SettledAs.TOOK_EFFECT)
    assert world.vm.operations[world.vm.last_number].state is OperationState.SUCCEEDED
    snapshot = world.vm.snapshots[sid(9)]
    assert (snapshot.state, snapshot.checkpoint_id, world.vm.current_id) == (SnapshotState.READY, made, sid(9))


def test_a_step_that_was_not_sent_has_no_outcome() -> None:
    world = ready(CREATE_CASE)
    world.do(CREATE_CASE.request)
    for outcome in (SettledAs.TOOK_EFFECT, SettledAs.NO_EFFECT):
        with pytest.raises(SettleRefused, match=r"has not been sent to the host, so it has no outcome\. Cancel"):
            settle(world, outcome)


def test_an_operation_that_has_come_forward_since_it_was_looked_at_is_not_settled() -> None:
    world = ready(CREATE_CASE)
    world.do(CREATE_CASE.request)
    seen = settlement(world, SettledAs.GIVEN_UP)
    world.do(Proceed())
    with pytest.raises(SettleRefused, match="has come forward meanwhile"):
        world.do(seen)
    assert world.vm.active_operations


def test_that_the_host_was_looked_at_once_more_is_no_reason_not_to_settle() -> None:
    world = ready(CREATE_CASE)
    world.do(CREATE_CASE.request)
    world.do(Proceed())
    seen = settlement(world, SettledAs.GIVEN_UP)
    lose_command(world)
    world.do(Proceed())
    step = world.vm.operations[world.vm.last_number].step(1)
    assert step.token > step.issued_token
    world.do(seen)
    assert not world.vm.active_operations


def test_what_has_ended_or_never_was_cannot_be_settled() -> None:
    world = ready(CREATE_CASE)
    world.do(CREATE_CASE.request)
    seen = settlement(world, SettledAs.GIVEN_UP)
    world.do(seen)
    with pytest.raises(SettleRefused, match="it has ended"):
        world.do(seen)
    with pytest.raises(NotFound):
        World().do(seen)


def test_a_request_that_is_repeated_settles_once_and_another_of_its_id_is_refused() -> None:
    world = unknown()
    number = world.vm.last_number
    settle(world, SettledAs.NO_EFFECT, request_id="r", digest="d")
    assert settle(world, SettledAs.NO_EFFECT, number, request_id="r", digest="d").events == []
    with pytest.raises(RequestIdReused):
        settle(world, SettledAs.NO_EFFECT, number, request_id="r", digest="other")


def test_an_operation_of_a_log_that_is_older_than_its_host_can_only_be_given_up() -> None:
    world = unknown()
    world.vm = replace(world.vm, rolled_back=world.vm.version + 9)
    with pytest.raises(LogRolledBack):
        settle(world, SettledAs.NO_EFFECT)
    settle(world, SettledAs.GIVEN_UP)
    check_free(world)


def test_a_create_that_is_given_up_while_its_checkpoint_is_named_keeps_the_checkpoint_to_be_deleted_with_it() -> None:
    world = ready(CREATE_CASE)
    world.host.dies_unnamed = True
    world.do(CREATE_CASE.request)
    while (found := world.open_step()) is None or found[1].plan.action != RENAME:
        world.turn()
    settle(world, SettledAs.GIVEN_UP)
    own = world.vm.snapshots[sid(9)]
    assert (own.state, own.checkpoint_id) == (SnapshotState.ERROR, world.host.current)
    world.do(delete(sid(9)))
    assert world.run().state is OperationState.SUCCEEDED
    assert own.checkpoint_id not in world.host.checkpoints


def test_a_vm_that_could_not_be_looked_at_after_a_settling_is_still_to_be_looked_at() -> None:
    world = unknown()
    settle(world, SettledAs.GIVEN_UP)
    world.do(stop_vm(StopMode.TURN_OFF))
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    operation, step = found
    failed = Failure(reason="HOST_SCRIPT_FAILED", message="It failed.")
    world.do(GiveUpLook(number=operation.number, step=step.plan.number, token=step.token, failure=failed))
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    assert (found[1].state, found[1].observing) == (StepState.DUE, True)
    assert world.run().state is OperationState.SUCCEEDED


def test_a_stop_that_took_effect_as_a_person_says_has_brought_the_power_that_it_was_for() -> None:
    world = sent(stop_vm(StopMode.SHUTDOWN))
    version = world.vm.version
    settle(world, SettledAs.TOOK_EFFECT)
    assert world.vm.operations[world.vm.last_number].state is OperationState.SUCCEEDED
    assert world.vm.power is Power.STOPPED
    (changed,) = [event for event in world.log[version:] if isinstance(event, VmPowerChanged)]
    assert changed.cause == "step"
