"""What was decided on an old record: nothing is lost for it."""

from collections.abc import Callable

import pytest

from snapshotd.domain.events import ObservationIssued, StepIssued
from snapshotd.domain.lifecycle import OperationState, Power
from snapshotd.domain.state import replace
from tests.asking import revert_to
from tests.fakes import FakeHost, World
from tests.unit.application.cases import create, sid


def removed(host: FakeHost) -> None:
    """Have an administrator remove the checkpoint."""
    (checkpoint,) = host.checkpoints.values()
    host.remove(checkpoint.checkpoint_id)
    host.merge()


def damaged(host: FakeHost) -> None:
    """Have the checkpoint's own files be lost."""
    ((checkpoint_id, checkpoint),) = host.checkpoints.items()
    host.checkpoints[checkpoint_id] = replace(checkpoint, checkpoint_type="Missing")


def blocked(host: FakeHost) -> None:
    """Have somebody share a disk."""
    host.snapshot_blockers = ("SHARED_DISK",)


@pytest.mark.parametrize(
    ("by_hand", "reason"),
    [(removed, "CHECKPOINT_MISSING"), (damaged, "CHECKPOINT_DAMAGED"), (blocked, "SNAPSHOT_BLOCKED")],
)
def test_a_guest_is_not_turned_off_for_a_revert_that_cannot_be(
    by_hand: Callable[[FakeHost], None], reason: str
) -> None:
    world = World()
    world.do(create(1))
    world.run()
    world.host.effects.clear()
    by_hand(world.host)
    world.do(revert_to(sid(1)))
    ended = world.run()
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert (ended.failure.reason, world.host.effects, world.host.power) == (reason, [], Power.RUNNING)


def test_the_host_is_looked_at_once_before_the_first_loss() -> None:
    world = World()
    world.do(create(1))
    world.run()
    began = len(world.log)
    world.do(revert_to(sid(1)))
    assert world.run().state is OperationState.SUCCEEDED
    issued = [type(event) for event in world.log[began:] if isinstance(event, ObservationIssued | StepIssued)]
    assert issued == [ObservationIssued, StepIssued, StepIssued]
