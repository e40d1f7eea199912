"""A plan that was looked at is carried out as it was shown, or refused: its etag says whether it still is that plan."""

from __future__ import annotations

import pytest

from snapshotd.application.decide import decide
from snapshotd.application.draft import Context
from snapshotd.domain.commands import RequestOperation, SyncVm
from snapshotd.domain.errors import PlanChanged
from snapshotd.domain.events import OperationRequested
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.state import replace
from snapshotd.operations.plan_etag import plan_etag
from snapshotd.operations.snapshot_delete import Scope
from tests.asking import create_snapshot, delete, revert_to
from tests.fakes import World
from tests.unit.application.cases import CASES, Case, chain, ready, sid


def seen(world: World, request: RequestOperation) -> str:
    """Return the etag of a plan that is only looked at."""
    context = Context(now=world.now, actor="ann", policy=world.policy, fresh_id="ffffffff")
    (requested,) = (x for x, _ in decide(world.vm, request, context).events if isinstance(x, OperationRequested))
    return plan_etag(world.vm, request, requested.steps)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_plan_that_was_seen_is_carried_out_and_any_other_refused(case: Case) -> None:
    world = ready(case)
    etag = seen(world, case.request)
    version = world.vm.version
    with pytest.raises(PlanChanged) as refused:
        world.do(replace(case.request, expected_plan="another"))
    assert (refused.value.etag, world.vm.version) == (etag, version)
    world.do(replace(case.request, expected_plan=etag))
    assert world.vm.last_number > 0


def test_an_id_that_each_call_makes_up_makes_no_other_plan() -> None:
    world = World()
    assert seen(world, create_snapshot(sid(1), "s")) == seen(world, create_snapshot(sid(2), "s"))


def test_a_subtree_that_has_grown_since_is_not_deleted() -> None:
    world = World()
    chain(world)
    request = delete(sid(1), Scope.WITH_DESCENDANTS)
    etag = seen(world, request)
    world.do(create_snapshot(sid(4), "s4"))
    world.run()
    with pytest.raises(PlanChanged):
        world.do(replace(request, expected_plan=etag))
    world.do(replace(request, expected_plan=seen(world, request)))


def test_a_vm_that_was_turned_off_since_needs_another_plan() -> None:
    world = World()
    chain(world)
    etag = seen(world, revert_to(sid(1)))
    world.host.power = Power.STOPPED
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    with pytest.raises(PlanChanged):
        world.do(replace(revert_to(sid(1)), expected_plan=etag))
