"""What a request would lead to, as each kind tells it beforehand."""

from __future__ import annotations

import pytest

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.state import replace
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import Preview
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from snapshotd.operations.snapshot_delete import DELETE_SNAPSHOT
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, restart_vm, revert_to, start_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import chain, create, sid

WRITTEN = "What was written to the disks since the current snapshot will be lost."
FALLBACK = "If the guest cannot be frozen, a snapshot with memory is kept instead."


def chained() -> World:
    """Return a world with a chain of three snapshots, of which the second has memory."""
    world = World()
    chain(world)
    return world


@pytest.mark.parametrize("power", Power)
@pytest.mark.parametrize(("target", "after"), [(sid(1), Power.STOPPED), (sid(2), Power.RUNNING)])
def test_a_revert_loses_the_memory_that_there_is(target: SnapshotId, after: Power, power: Power) -> None:
    vm = replace(chained().vm, power=power)
    memory_lost = power in (Power.RUNNING, Power.PAUSED, Power.SAVED)
    assert REVERT_TO_SNAPSHOT.preview(vm, revert_to(target)) == Preview(
        current=target, power=after, memory_lost=memory_lost, warnings=(WRITTEN,)
    )


@pytest.mark.parametrize(
    ("gone", "moved", "current"),
    [
        (sid(1), ((sid(2), None),), sid(3)),
        (sid(2), ((sid(3), sid(1)),), sid(3)),
        (sid(3), (), sid(2)),
    ],
)
def test_a_delete_hands_the_children_and_the_current_mark_to_the_parent(
    gone: SnapshotId, moved: tuple[tuple[SnapshotId, SnapshotId | None], ...], current: SnapshotId
) -> None:
    vm = replace(chained().vm, power=Power.PAUSED)
    assert DELETE_SNAPSHOT.preview(vm, delete(gone)) == Preview(
        moved=moved, current=current, power=Power.PAUSED, discarded=(gone,)
    )


@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED])
@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_a_create_warns_of_memory_only_where_the_guest_may_have_to_be_frozen(
    power: Power, *, memory: bool, fallback: bool
) -> None:
    vm = replace(chained().vm, power=power)
    warned = power is Power.RUNNING and fallback and not memory
    assert CREATE_SNAPSHOT.preview(vm, create(9, memory=memory, fallback=fallback)) == Preview(
        current=sid(9), power=power, warnings=(FALLBACK,) if warned else ()
    )


def test_a_start_moves_no_snapshot_and_warns_of_nothing() -> None:
    vm = chained().vm
    assert KINDS[start_vm().kind].preview(vm, start_vm()) == Preview(current=sid(3), power=Power.RUNNING)


TIMEOUT = (
    "If the guest cannot be shut down, or is not off after 90 s, the VM is turned off. "
    "What the guest holds in memory is lost then."
)


@pytest.mark.parametrize(
    ("request_", "after", "lost", "warned"),
    [
        (stop_vm(StopMode.SHUTDOWN), Power.STOPPED, False, ()),
        (stop_vm(StopMode.SHUTDOWN, 90.0), Power.STOPPED, False, (TIMEOUT,)),
        (stop_vm(StopMode.TURN_OFF), Power.STOPPED, True, ()),
        (stop_vm(StopMode.SAVE), Power.SAVED, False, ()),
        (stop_vm(StopMode.PAUSE), Power.PAUSED, False, ()),
        (restart_vm(), Power.RUNNING, False, ()),
        (restart_vm(timeout_s=90.0), Power.RUNNING, False, (TIMEOUT,)),
        (restart_vm(StopMode.TURN_OFF), Power.RUNNING, True, ()),
    ],
)
def test_only_a_turn_off_is_said_to_lose_memory(
    request_: RequestOperation, after: Power, warned: tuple[str, ...], *, lost: bool
) -> None:
    vm = chained().vm
    kind = KINDS[request_.kind]
    assert kind.preview(vm, request_) == Preview(current=sid(3), power=after, memory_lost=lost, warnings=warned)
    may_lose = [ACTIONS[step.action].may_lose(vm, step) for step in kind.plan(vm, request_)]
    assert any(may_lose) is bool(lost or warned)
