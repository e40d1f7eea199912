"""What single events make of what is on record, and what that counts for."""

from __future__ import annotations

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.host import Host, evolve_host
from snapshotd.domain.ids import ActionName, HostId
from snapshotd.domain.lifecycle import OperationState, SnapshotState, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.snapshot import counts_towards_limit, evolve_snapshot
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import evolve
from tests.fakes import START, VM_ID, World
from tests.unit.application.cases import create, sid

AT = e.Occasion(version=99, time=START, actor="ann", request_id="")
OLD = Failure(reason="OLD", message="It went wrong before.")
ACTION = ActionName("vm_note")
R = StepState


def created() -> World:
    """Return a world with one snapshot."""
    world = World()
    world.do(create(1))
    world.run()
    return world


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        (
            e.SnapshotRevertEnded(
                snapshot_id=sid(1), from_state=SnapshotState.REVERTING, to_state=SnapshotState.READY, failure=None
            ),
            None,
        ),
        (
            e.SnapshotCheckpointFound(
                snapshot_id=sid(1), from_state=SnapshotState.ERROR, to_state=SnapshotState.READY, failure=None
            ),
            None,
        ),
        (
            e.SnapshotRevertStarted(
                snapshot_id=sid(1), from_state=SnapshotState.READY, to_state=SnapshotState.REVERTING
            ),
            OLD,
        ),
    ],
    ids=["a revert succeeds", "its checkpoint is found", "a revert begins"],
)
def test_a_snapshot_keeps_its_failure_until_it_is_known_to_be_well(
    event: e.SnapshotEvent, failure: Failure | None
) -> None:
    failed = replace(created().vm.snapshots[sid(1)], state=SnapshotState.ERROR, failure=OLD)
    assert evolve_snapshot(VM_ID, failed, event, AT).failure == failure


def test_a_vm_has_the_name_that_its_host_last_reported() -> None:
    vm = World().vm
    assert vm.description is not None
    renamed = e.VmDescribed(description=replace(vm.description, name="web02"))
    assert evolve(vm, renamed, AT).name == "web02"


def test_a_host_that_is_registered_again_has_not_been_synced() -> None:
    host = Host(host_id=HostId("hv01"))
    registered = e.HostRegistered(
        address="10.0.0.1",
        port=5985,
        transport="NTLM_HTTP",
        credential="hv",
        ca_file="",
        journal_directory="",
        request_digest="",
    )
    synced = e.HostSynced(vms=1, drifts=0, skipped=())
    host = evolve_host(evolve_host(host, registered, AT), synced, AT)
    assert host.synced_at == START
    host = evolve_host(evolve_host(host, e.HostRemoved(request_digest=""), AT), registered, AT)
    assert host.synced_at is None


def operation(*steps: Step) -> Operation:
    """Return an operation that runs, with its steps numbered."""
    numbered = (replace(s, plan=replace(s.plan, number=n)) for n, s in enumerate(steps, 1))
    world = created()
    return replace(world.vm.operations[1], state=OperationState.RUNNING, steps=tuple(numbered))


def step(state: StepState, made: str = "", *, polls: bool = False, holds_vm: bool = True) -> Step:
    """Return a step; `made`: what came of it, and what it found before."""
    plan = PlannedStep(
        number=0,
        action=ACTION,
        input=Recorded(1, {}),
        nature=StepNature.UNDOABLE,
        polls=polls,
        holds_vm=holds_vm,
    )
    record = Recorded(1, {"made": made}) if made else None
    return Step(plan=plan, state=state, before=record, output=record)


def test_what_an_operation_has_done_last_is_what_counts() -> None:
    twice = operation(step(R.DONE, "first"), step(R.DONE, "second"), step(R.DUE))
    assert twice.last(ACTION) == twice.step(2)
    assert twice.output_of(ACTION) == Recorded(1, {"made": "second"})


@pytest.mark.parametrize("polls", [False, True])
@pytest.mark.parametrize("holds_vm", [False, True])
def test_an_operation_leaves_the_vm_to_others_if_no_step_that_is_left_holds_it(*, polls: bool, holds_vm: bool) -> None:
    done, left = step(R.DONE), step(R.WAITING, polls=polls, holds_vm=holds_vm)
    assert operation(done, left).only_waits is not holds_vm


@pytest.mark.parametrize("state", SnapshotState)
@pytest.mark.parametrize("known", ["there", "gone", "none", "not reported"])
def test_a_snapshot_counts_unless_it_is_removed_or_is_known_to_have_no_checkpoint(
    state: SnapshotState, known: str
) -> None:
    vm = created().vm
    assert vm.description is not None
    snapshot = replace(vm.snapshots[sid(1)], state=state)
    if known == "none":
        snapshot = replace(snapshot, checkpoint_id=None)
    description = {"gone": replace(vm.description, checkpoints=()), "not reported": None}.get(known, vm.description)
    without = known in ("gone", "none")
    counts = state is not SnapshotState.REMOVED and not (state is SnapshotState.ERROR and without)
    assert counts_towards_limit(snapshot, description) is counts
