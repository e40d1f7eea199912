"""What a create is refused for when it is asked for also ends one that was accepted before things were so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from snapshotd.domain.commands import SyncVm
from snapshotd.domain.errors import (
    AlreadyExists,
    InvalidArgument,
    SnapshotdError,
)
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.snapshot_errors import (
    SnapshotBlocked,
)
from tests.asking import RESTORE, create_snapshot, revert_to
from tests.fakes import FakeHost, World

SNAPSHOT = SnapshotId("00000000-0000-4000-8000-000000000009")


def _set(**facts: object) -> Callable[[FakeHost], None]:
    def change(host: FakeHost) -> None:
        for name, value in facts.items():
            setattr(host, name, value)

    return change


CHANGES = {
    "WRONG_POWER_STATE": _set(power=Power.PAUSED),
    "MEMORY_NEEDS_RUNNING_VM": _set(power=Power.STOPPED),
    "CHECKPOINTS_DISABLED": _set(checkpoint_type="Disabled"),
    "SNAPSHOT_BLOCKED": _set(snapshot_blockers=("SHARED_DISK",)),
}


@pytest.mark.parametrize("reason", list(CHANGES))
def test_what_refuses_a_create_also_ends_one_that_has_not_begun(reason: str) -> None:
    request = create_snapshot(SNAPSHOT, "new", with_memory=True)
    accepted = World()
    accepted.do(request)
    CHANGES[reason](accepted.host)
    ended = accepted.run()
    assert ended.state is OperationState.FAILED
    assert ended.failure is not None
    assert accepted.vm.snapshots[SNAPSHOT].state is SnapshotState.ERROR
    assert accepted.host.effects == []
    with pytest.raises(SnapshotdError) as refused:
        accepted.do(request)
    assert (ended.failure.reason, ended.failure.message) == (reason, refused.value.message())
    assert refused.value.reason == reason


def test_creates_without_a_name_within_one_second_get_names_of_their_own() -> None:
    world = World()
    at = world.now

    def create(number: int, name: str = "") -> str:
        world.now = at
        snapshot_id = SnapshotId(f"00000000-0000-4000-8000-{number:012d}")
        world.do(create_snapshot(snapshot_id, name))
        world.run()
        return world.vm.snapshots[snapshot_id].name

    plain = f"web01_VS_{at:%Y%m%d%H%M%S}"
    assert [create(1), create(2)] == [plain, f"{plain}_2"]
    assert create(3, f"{plain}_3") == f"{plain}_3"
    assert create(4) == f"{plain}_4"
    with pytest.raises(AlreadyExists):
        create(5, f"{plain}_2")


@pytest.mark.parametrize("name", [" ", " new", "new ", "new\u3000"])
def test_a_name_with_blanks_around_it_is_refused(name: str) -> None:
    request = create_snapshot(SNAPSHOT, name)
    with pytest.raises(InvalidArgument) as refused:
        World().do(request)
    assert refused.value.field == "snapshot.display_name"


ONE, TWO = "M\u00fcnchen \u1e69", "Mu\u0308nchen s\u0307\u0323"


@pytest.mark.parametrize(("first", "second"), [(ONE, TWO), (TWO, ONE), ("\u212b", "A\u030a"), ("\u00c5", "\u212b")])
def test_names_that_differ_only_in_their_composition_are_one_and_stay_as_they_were_typed(
    first: str, second: str
) -> None:
    world = World()
    world.do(create_snapshot(SNAPSHOT, first))
    world.run()
    assert world.vm.snapshots[SNAPSHOT].name == first
    with pytest.raises(AlreadyExists):
        world.do(create_snapshot(SnapshotId("00000000-0000-4000-8000-000000000010"), second))


@pytest.mark.parametrize(("first", "second"), [("a", "A"), ("\ufb01", "fi"), ("x\u00b2", "x2")])
def test_names_that_look_different_are_two(first: str, second: str) -> None:
    world = World()
    for number, name in enumerate((first, second), 1):
        world.do(create_snapshot(SnapshotId(f"00000000-0000-4000-8000-{number:012d}"), name))
        assert world.run().state is OperationState.SUCCEEDED


BLOCKERS = ("PASS_THROUGH_DISK", "SHARED_DISK", "REPLICA", "FIBRE_CHANNEL")


@pytest.mark.parametrize("blocker", BLOCKERS)
@pytest.mark.parametrize("seen", ["when it is asked for", "before its first step", "before the restore"])
def test_what_blocks_a_snapshot_blocks_a_revert_and_costs_nothing(blocker: str, seen: str) -> None:
    world = World()
    world.do(create_snapshot(SNAPSHOT, "a"))
    world.run()
    world.host.effects.clear()
    if seen == "before the restore":
        world.do(revert_to(SNAPSHOT))
        while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
            world.turn()
    world.host.snapshot_blockers = (blocker,)
    if seen == "before its first step":
        world.do(revert_to(SNAPSHOT))
    if seen != "before the restore":
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    if seen == "when it is asked for":
        with pytest.raises(SnapshotBlocked, match=f"Cannot revert VM web01: {blocker} blocks it"):
            world.do(revert_to(SNAPSHOT))
    else:
        failure = world.run().failure
        assert failure is not None
        assert (failure.reason, blocker in failure.message) == ("SNAPSHOT_BLOCKED", True)
    assert RESTORE not in [action for action, _, _ in world.host.effects]
    assert len(world.host.effects) == (2 if seen == "before the restore" else 0)
    assert (world.host.power, world.vm.snapshots[SNAPSHOT].state) == (Power.RUNNING, SnapshotState.READY)
