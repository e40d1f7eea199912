"""Which host has a VM: moves are followed, two claimants block it, replicas count nowhere."""

from __future__ import annotations

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import (
    CompareHosts,
    Proceed,
    RegisterVm,
    SettleOperation,
    SyncVm,
    TakeAnswer,
    TakePoll,
    UnregisterVm,
)
from snapshotd.domain.conditions import conditions
from snapshotd.domain.errors import ClaimedByTwoHosts, OperationActive
from snapshotd.domain.events import DriftKind
from snapshotd.domain.host_report import HostAnswer, Journal, JournalState, Verdict
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.operation import Failure, SettledAs
from snapshotd.domain.state import replace
from snapshotd.steps.vm_stop import StopMode
from tests.asking import CREATE, delete, stop_vm
from tests.fakes import FakeHost, World
from tests.unit.application.administrator import compare_hosts, copy, sync
from tests.unit.application.cases import chain, create, lose_command, sid
from tests.unit.application.comparing import compare
from tests.unit.application.test_disturbed import act_and_lose_the_answer, until_issued

UNASKED = Failure(reason="HOST_UNREACHABLE", message="It is down.")
HV01, HV02, HV03 = HostId("hv01"), HostId("hv02"), HostId("hv03")


def kinds(world: World) -> list[DriftKind]:
    """Return the kinds of the drift on record."""
    return [event.kind for event in world.log if isinstance(event, e.DriftDetected)]


def with_a_copy() -> tuple[World, FakeHost, FakeHost]:
    """Return a world with a chain of snapshots, its host, and another one that has the VM too."""
    world = World()
    chain(world)
    return world, world.host, copy(world.host)


def moved() -> tuple[World, FakeHost, FakeHost]:
    """Return a world whose VM has moved to another host, and both hosts."""
    world, here, there = with_a_copy()
    here.gone = True
    compare_hosts(world, there)
    world.host = there
    return world, here, there


def test_a_vm_that_is_gone_from_its_host_and_then_reported_by_another_has_moved() -> None:
    world, here, there = with_a_copy()
    here.gone = True
    sync(world)
    assert (world.vm.power, kinds(world)) == (Power.ABSENT, [DriftKind.VM_MISSING])
    there.power = Power.STOPPED
    compare_hosts(world, there)
    world.host = there
    assert kinds(world)[1:] == [DriftKind.VM_MOVED, DriftKind.VM_FOUND]
    assert world.vm.host_id == HV02
    compare(world)


def test_a_move_is_told_with_both_hosts_by_the_one_that_has_the_vm() -> None:
    world, here, there = with_a_copy()
    here.gone = True
    compare_hosts(world, there)
    drift, followed = world.log[-2:]
    assert isinstance(drift, e.DriftDetected)
    assert (drift.kind, drift.recorded, drift.observed) == (DriftKind.VM_MOVED, HV01, HV02)
    assert followed == e.VmMoved(from_host_id=HV01, to_host_id=HV02, cause="drift")


def test_a_vm_that_both_hosts_have_is_blocked_with_both_named_until_one_does_not() -> None:
    world, _, there = with_a_copy()
    compare_hosts(world, there)
    with pytest.raises(ClaimedByTwoHosts, match="hv01 and hv02 each have it") as refused:
        world.do(create(9))
    assert (refused.value.reason, refused.value.rests_on_host) == ("CLAIMED_BY_TWO_HOSTS", True)
    (condition,) = conditions(world.vm)
    assert (condition.reason, condition.message) == (refused.value.reason, refused.value.message())
    with pytest.raises(ClaimedByTwoHosts):
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    known = len(world.log)
    compare_hosts(world, there)
    assert len(world.log) == known, "told once"
    there.gone = True
    compare_hosts(world, there)
    assert kinds(world) == [DriftKind.VM_CLAIMED_BY_TWO_HOSTS, DriftKind.VM_CLAIM_ENDED]
    world.do(create(9))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_host_that_cannot_be_asked_is_told_as_that_with_the_way_out_and_then_as_what_it_says() -> None:
    world, _, there = with_a_copy()
    compare_hosts(world, there, own=UNASKED)
    told = conditions(world.vm)[0].message
    assert "hv01, where it was, cannot be asked whether it still has it (HOST_UNREACHABLE)" in told
    assert "`snapshotctl vm unregister web01`, then `snapshotctl vm register hv02 web01`" in told
    compare_hosts(world, there)
    assert "each have it" in conditions(world.vm)[0].message
    assert kinds(world) == [DriftKind.VM_CLAIMED_BY_TWO_HOSTS] * 2


@pytest.mark.parametrize("replica", ["here", "there"])
def test_a_replica_counts_on_neither_side(replica: str) -> None:
    world, here, there = with_a_copy()
    (here if replica == "here" else there).is_replica = True
    compare_hosts(world, there)
    assert not world.vm.claims
    assert world.vm.host_id == (HV02 if replica == "here" else HV01)


def test_a_third_host_that_has_the_vm_too_keeps_it_blocked() -> None:
    world, here, there = with_a_copy()
    third = copy(here)
    compare_hosts(world, there)
    command = replace(_asked(world, third), host_id=HV03)
    world.do(command)
    assert [claim.host_id for claim in world.vm.claims] == [HV02, HV03]
    here.gone = True
    compare_hosts(world, there)
    assert (world.vm.host_id, [claim.host_id for claim in world.vm.claims]) == (HV02, [HV03])
    with pytest.raises(ClaimedByTwoHosts, match="hv02 and hv03 each have it"):
        world.do(create(9))


def _asked(world: World, other: FakeHost) -> CompareHosts:
    return CompareHosts(
        host_id=HV02,
        report=other.report(),
        own_host_id=world.vm.host_id,
        own=world.host.report(),
        asked_version=world.vm.version,
    )


def test_what_was_asked_before_the_vm_moved_changes_nothing() -> None:
    world, here, there = with_a_copy()
    here.gone = True
    late = _asked(world, there)
    world.do(late)
    known = len(world.log)
    world.do(late)
    world.do(SyncVm(report=here.report(), asked_version=world.vm.version, host_id=HV01))
    assert (len(world.log), world.vm.power) == (known, Power.RUNNING)


def test_an_operation_that_has_not_begun_can_be_cancelled_while_two_hosts_have_its_vm() -> None:
    world, _, there = with_a_copy()
    world.do(create(9))
    compare_hosts(world, there)
    world.cancel(world.vm.last_number)
    assert world.vm.operations[world.vm.last_number].state is OperationState.CANCELLED


def test_a_journal_of_an_earlier_stay_is_not_gone_by_before_the_vm_was_observed_there() -> None:
    world, here, there = moved()
    here.gone, there.gone = False, True
    here.checkpoints = dict(there.checkpoints)
    compare_hosts(world, here)
    world.host = here
    assert (world.vm.host_id, world.vm.journal_id, here.journal.state) == (HV01, "", JournalState.PRESENT)
    sync(world)
    assert world.vm.journal_id == ""
    late = here.journal.highest_token
    world.do(stop_vm(StopMode.TURN_OFF))
    world.do(Proceed())
    assert world.vm.operations[world.vm.last_number].steps[0].observing
    assert world.run().state is OperationState.SUCCEEDED
    assert here.journal.highest_token > late
    assert world.vm.journal_id == here.journal.journal_id


def test_a_vm_that_is_registered_on_another_host_is_observed_there_first() -> None:
    world, here, there = with_a_copy()
    compare_hosts(world, there, own=UNASKED)
    world.do(UnregisterVm())
    world.do(RegisterVm(host_id=HV02, owner="ops", report=there.report()))
    world.host = there
    assert (world.vm.host_id, world.vm.claims, world.vm.journal_id) == (HV02, (), "")
    here.effects.clear()
    world.do(create(9))
    assert world.run().state is OperationState.SUCCEEDED
    assert here.effects == []
    compare(world)


def test_a_vm_whose_host_is_gone_for_good_amid_an_operation_is_taken_to_where_it_is() -> None:
    world, here, _ = with_a_copy()
    world.do(create(9))
    until_issued(world, CREATE)
    act_and_lose_the_answer(world)
    there = copy(here)
    compare_hosts(world, there, own=UNASKED)
    operation = world.vm.operations[world.vm.last_number]
    step = operation.steps[0]
    given_up = SettleOperation(
        name=operation.name,
        outcome=SettledAs.GIVEN_UP,
        step=1,
        issued_token=step.issued_token,
        reason="hv01 has burnt down",
    )
    with pytest.raises(OperationActive):
        world.do(UnregisterVm())
    world.do(given_up)
    assert not world.vm.active_operations
    world.do(UnregisterVm())
    world.do(RegisterVm(host_id=HV02, owner="ops", report=there.report()))
    world.host = there
    snapshot = world.vm.snapshots[sid(9)]
    assert (snapshot.state, world.vm.current_id) == (SnapshotState.READY, sid(9))
    world.do(stop_vm(StopMode.TURN_OFF))
    assert world.run().state is OperationState.SUCCEEDED
    compare(world)


@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.NO_EFFECT])
def test_of_what_a_host_says_that_the_vm_has_left_only_done_counts(verdict: Verdict) -> None:
    world, here, _ = with_a_copy()
    world.do(create(9))
    until_issued(world, CREATE)
    found = world.open_step()
    assert found is not None
    operation, step = found
    answer = world.act(operation, step)
    there = copy(here)
    there.power = Power.PAUSED
    here.gone = True
    compare_hosts(world, there)
    world.host = there
    answer = answer if verdict is Verdict.DONE else HostAnswer(verdict=verdict, vms=answer.vms)
    known = len(world.log)
    late = TakeAnswer(number=operation.number, step=1, token=step.token, answer=answer, host_id=HV01)
    world.do(late)
    now = world.vm.operations[operation.number].steps[0].state
    assert now is (StepState.DONE if verdict is Verdict.DONE else StepState.OUTCOME_UNKNOWN)
    assert verdict is Verdict.DONE or len(world.log) == known
    assert not any(isinstance(event, e.VmDescribed | e.JournalIdentified) for event in world.log[known:])
    world.run()
    sync(world)
    compare(world)


def test_an_observation_that_a_host_answers_which_the_vm_has_left_meanwhile_proves_nothing() -> None:
    world, here, _ = with_a_copy()
    world.do(create(9))
    until_issued(world, CREATE)
    lose_command(world)
    world.do(Proceed())
    found = world.open_step()
    assert found is not None
    operation, step = found
    assert step.observing
    answer = here.observe(step.token)
    there = copy(here)
    here.gone = True
    compare_hosts(world, there)
    world.host = there
    known = len(world.log)
    late = TakeAnswer(number=operation.number, step=1, token=step.token, answer=answer, host_id=HV01)
    world.do(late)
    assert len(world.log) == known
    assert world.run().state is OperationState.SUCCEEDED
    compare(world)


def test_a_poll_of_a_host_that_the_vm_has_left_ends_no_wait() -> None:
    world, here, _ = with_a_copy()
    world.do(delete(sid(2)))
    while (found := world.open_step()) is None or found[1].state is not StepState.WAITING:
        world.turn()
    there = copy(here)
    here.merge()
    poll = TakePoll(
        number=found[0].number,
        step=found[1].plan.number,
        report=here.report(),
        asked_version=world.vm.version,
        host_id=HV01,
    )
    here.gone = True
    compare_hosts(world, there)
    world.host = there
    world.do(poll)
    assert world.vm.active_operations
    assert world.run().state is OperationState.SUCCEEDED


def test_an_operation_whose_vm_is_nowhere_ends_after_a_while() -> None:
    world, here, _ = with_a_copy()
    world.do(create(9))
    here.gone = True
    began = world.now
    ended = world.run()
    assert ended.failure is not None
    assert ended.failure.reason == "VM_ABSENT"
    assert (world.now - began).total_seconds() >= world.policy.move_wait_s
    assert world.vm.power is Power.ABSENT


def test_a_journal_that_is_not_there_yet_is_no_evidence_for_or_against_a_step() -> None:
    world, here, _ = with_a_copy()
    world.do(create(9))
    until_issued(world, CREATE)
    there = copy(here)
    here.gone = True
    compare_hosts(world, there)
    there.journal = Journal(state=JournalState.PRESENT, journal_id="of an earlier stay", highest_token=1)
    world.host = there
    assert world.run().state is OperationState.SUCCEEDED
    assert [action for action, _, _ in there.effects] == [CREATE]
