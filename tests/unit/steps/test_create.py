"""Which checkpoint a create takes for its own. A wrong one would be a snapshot that is not what was asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.domain.host_report import Checkpoint, Journal, JournalState, VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.state import replace
from snapshotd.steps import checkpoint_create
from snapshotd.steps.action import Absent, Done, Judgement, Undetermined
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from tests.fakes import START, World
from tests.unit.application.cases import sid
from tests.unit.steps.standing import made, operation_of, step_of

TOKEN = 50
NEW = CheckpointId("dddddddd-0000-4000-8000-000000000001")
REPLACED = Journal(state=JournalState.MISSING)
BY_DEFAULT = "web01 - (11/25/2026 - 9:00:00 AM)"


def creating() -> tuple[World, Operation, Step]:
    """Return a world with one snapshot in which another one is being made."""
    world = made()
    current = world.host.current
    assert current is not None
    facts = checkpoint_create.Before(power=Power.RUNNING, checkpoint_ids=(current,), current_checkpoint_id=current)
    values = checkpoint_create.Input(checkpoint_name=f"s9 #{sid(9)}", with_memory=False, allow_fallback=False)
    operation = operation_of(world.vm, replace(step_of(CHECKPOINT_CREATE, values, before=facts), issued_token=TOKEN))
    return world, operation, operation.step(1)


def newcomer(world: World) -> Checkpoint:
    """Return a checkpoint as a script leaves it that dies before it has named it."""
    (there,) = world.host.checkpoints.values()
    return replace(there, checkpoint_id=NEW, name=BY_DEFAULT, parent_id=world.host.current, created_at=START)


def begun(world: World, operation: Operation) -> Journal:
    """Return the journal of a host on which the newest attempt was begun."""
    journal = replace(world.host.journal, operation=operation.name, step=1, begun=True, done=False)
    return replace(journal, begun_token=TOKEN)


def reported(world: World, journal: Journal, *more: Checkpoint) -> VmReport:
    """Return a report with more checkpoints than are on record."""
    report = world.host.report()
    assert report.description is not None
    description = replace(report.description, checkpoints=(*report.description.checkpoints, *more))
    return replace(report, description=description, journal=journal)


OURS = Done(Recorded(1, {"checkpoint_id": NEW, "has_memory": False}))
UNKNOWN = Undetermined("1 checkpoints have appeared, and none bears our marker")


@pytest.mark.parametrize(
    ("fact", "value", "judged"),
    [
        ("name", BY_DEFAULT, OURS),
        ("name", "web01 (11/25/2026)", OURS),
        ("name", "web011 - (11/25/2026)", UNKNOWN),
        ("name", "old web01 - (11/25/2026)", UNKNOWN),
        ("name", f"{BY_DEFAULT} #{sid(9)}", OURS),
        ("checkpoint_type", "Recovery", UNKNOWN),
        ("automatic", True, UNKNOWN),
        ("parent_id", None, UNKNOWN),
        ("created_at", START - timedelta(seconds=2), OURS),
        ("created_at", START - timedelta(hours=1), OURS),
        ("created_at", START - timedelta(days=400), OURS),
        ("created_at", START + timedelta(hours=1), OURS),
        ("created_at", None, OURS),
    ],
)
def test_a_newcomer_without_our_marker_is_ours_only_if_every_fact_fits(
    fact: str, value: object, judged: Judgement
) -> None:
    world, operation, step = creating()
    new = replace(newcomer(world), **{fact: value})  # type: ignore[arg-type]  # of the fact's own type
    report = reported(world, begun(world, operation), new)
    assert CHECKPOINT_CREATE.judge(world.vm, operation, step, report) == judged


def test_of_two_newcomers_none_is_taken_for_ours_unless_it_bears_our_marker() -> None:
    world, operation, step = creating()
    ours, foreign = newcomer(world), replace(newcomer(world), checkpoint_id=CheckpointId("e"), name="a backup's")
    journal = begun(world, operation)
    judged = CHECKPOINT_CREATE.judge(world.vm, operation, step, reported(world, journal, foreign, ours))
    assert judged == Undetermined("2 checkpoints have appeared, and none bears our marker")
    marked = replace(ours, name=f"s9 #{sid(9)}")
    for journal in (begun(world, operation), REPLACED):
        report = reported(world, journal, foreign, marked)
        assert CHECKPOINT_CREATE.judge(world.vm, operation, step, report) == OURS


def test_without_a_journal_a_newcomer_is_nobodys_and_without_a_newcomer_nothing_was_made() -> None:
    world, operation, step = creating()
    judged = CHECKPOINT_CREATE.judge(world.vm, operation, step, reported(world, REPLACED, newcomer(world)))
    assert judged == Undetermined("the journal was replaced, and a checkpoint has appeared")
    for journal in (REPLACED, begun(world, operation)):
        assert CHECKPOINT_CREATE.judge(world.vm, operation, step, reported(world, journal)) == Absent()


def test_on_a_host_without_the_vm_nothing_was_made_only_if_nothing_was_begun() -> None:
    world, operation, step = creating()
    untouched = replace(world.host.journal, operation="another")

    def judge(journal: Journal) -> Judgement:
        gone = replace(world.host.report(), power=Power.ABSENT, description=None, journal=journal)
        return CHECKPOINT_CREATE.judge(world.vm, operation, step, gone)

    assert judge(untouched) == Absent()
    for journal in (begun(world, operation), REPLACED):
        assert judge(journal) == Undetermined("the host does not have the VM any more")


@pytest.mark.parametrize("more", [False, True])
def test_a_marker_in_a_checkpoint_that_was_there_before_makes_it_nobodys(*, more: bool) -> None:
    world, operation, step = creating()
    (there,) = world.host.checkpoints.values()
    world.host.checkpoints[there.checkpoint_id] = replace(there, name=f"s9 #{sid(9)}")
    ours = replace(newcomer(world), name=f"s9 #{sid(9)}")
    report = reported(world, begun(world, operation), *[ours] * more)
    assert CHECKPOINT_CREATE.judge(world.vm, operation, step, report) == (OURS if more else Absent())
