"""A failure says what the host said, what is so now, and which command leads on."""

from __future__ import annotations

import pytest

from snapshotd.domain.errors import AlreadyExists
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState
from snapshotd.domain.operation import Failure
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT
from snapshotd.steps.vm_stop import StopMode
from tests.asking import RESTORE, create_snapshot, delete, revert_to, start_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import chain, create, lose_checkpoint, sid
from tests.unit.application.test_disturbed import newest, undetermined_revert, until_issued

FINAL = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.StartVM"


START_IT, TURN_IT_OFF = "`snapshotctl vm start web01`", "`snapshotctl vm stop web01 --turn-off`"


def half_reverted(n: int, left: Power) -> tuple[World, Failure]:
    """Return a world in which a revert has moved the disks, and the host refuses the power; and why it failed."""
    world = World()
    chain(world)
    world.do(revert_to(sid(n)))
    until_issued(world, RESTORE)
    last = len(newest(world).steps)
    world.host.error_ids = {last: FINAL}
    found = world.open_step()
    assert found is not None
    world.act(*found)
    world.host.power = left
    ended = world.run()
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    return world, ended.failure


@pytest.mark.parametrize(
    ("n", "left", "now", "leads_on"),
    [
        (
            2,
            Power.SAVED,
            "The disks are back at snapshot s2, but VM web01 is not running: it is SAVED.",
            f"Run {START_IT} to resume its memory, or {TURN_IT_OFF} to give its memory up.",
        ),
        (
            2,
            Power.STOPPED,
            "The disks are back at snapshot s2, but VM web01 is not running: it is STOPPED.",
            f"Run {START_IT}.",
        ),
        (
            1,
            Power.RUNNING,
            "The disks are back at snapshot s1, but VM web01 is not off: it is RUNNING.",
            f"Run {TURN_IT_OFF}.",
        ),
    ],
)
def test_a_revert_whose_disks_are_back_says_how_the_vm_stands_and_what_leads_on(
    n: int, left: Power, now: str, leads_on: str
) -> None:
    world, failure = half_reverted(n, left)
    assert failure.message == f"{now} The host refused the command and gave no reason. {leads_on}"
    assert (failure.reason, failure.error_id) == ("HOST_ERROR", FINAL)
    own = world.vm.snapshots[sid(n)]
    assert (own.state, own.failure) == (SnapshotState.READY, failure)
    world.host.error_ids = {}
    world.do(start_vm() if left is not Power.RUNNING else stop_vm(StopMode.TURN_OFF))
    assert world.run().state is OperationState.SUCCEEDED, "the command that is named does lead on"


def test_a_revert_whose_vm_is_gone_by_then_does_not_send_people_to_start_it() -> None:
    gone = "Cannot start VM web01: host hv01 does not show it to this account."
    _, failure = half_reverted(2, Power.ABSENT)
    assert failure.message.startswith(f"The disks are back at snapshot s2. {gone}")
    assert "run `snapshotctl host sync hv01`" in failure.message
    assert "vm start" not in failure.message
    world, refused = half_reverted(2, Power.SAVED)
    refused = replace(refused, message="The host said no.")
    # An operation that has ended no longer holds what its steps found before.
    steps = tuple(replace(step, before=step.plan.input) for step in newest(world).steps)
    at_its_end = replace(newest(world), steps=steps)
    told = REVERT_TO_SNAPSHOT.explained(replace(world.vm, power=Power.ABSENT), at_its_end, refused)
    assert told.message.startswith(f"The disks are back at snapshot s2. The host said no. {gone}")


def test_a_revert_that_has_moved_nothing_says_no_more_than_the_host() -> None:
    world = World()
    chain(world)
    world.host.error_ids = {1: FINAL}
    world.do(revert_to(sid(2)))
    failure = world.run().failure
    assert failure is not None
    assert failure.message == "The host refused the command and gave no reason."


def test_an_outcome_that_nobody_can_tell_keeps_what_was_heard_of_it() -> None:
    failure = undetermined_revert().vm.snapshots[sid(1)].failure
    assert failure is not None
    assert failure.message.startswith("Cannot tell whether the step took effect: the disks are neither")
    assert failure.message.endswith("Last failure: The connection was lost.")


def test_a_name_that_is_taken_is_told_with_its_bearers_state_and_the_command_that_frees_it() -> None:
    world = World()
    chain(world)
    lose_checkpoint(world, sid(1))
    with pytest.raises(AlreadyExists) as refused:
        world.do(create_snapshot(sid(9), "s1"))
    why = "Somebody else removed its checkpoint"
    assert f"It is {sid(1)}, and its state is ERROR ({why}). Choose another name" in str(refused.value)
    assert f"`snapshotctl snapshot delete web01 {sid(1)}`" in str(refused.value)
    world.do(delete(sid(1)))
    assert world.run().state is OperationState.SUCCEEDED
    world.do(create_snapshot(sid(9), "s1"))


def test_a_name_of_a_snapshot_that_is_being_made_names_no_command_that_would_be_refused() -> None:
    world = World()
    world.do(create(1))
    with pytest.raises(AlreadyExists) as refused:
        CREATE_SNAPSHOT.check(world.vm, create_snapshot(sid(2), "s1"), Policy(), world.now)
    assert str(refused.value).endswith("its state is ALLOCATED. Choose another name.")
