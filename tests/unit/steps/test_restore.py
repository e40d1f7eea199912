"""When a restore counts as applied: by the journal, or else by the disks. One that was applied is never run again."""

from __future__ import annotations

from itertools import zip_longest

import pytest

from snapshotd.domain.host_report import Disk, DiskFile, Journal, JournalState, VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps import checkpoint_restore
from snapshotd.steps.action import Absent, Done, InProgress, Judgement, Undetermined
from snapshotd.steps.checkpoint_restore import CHECKPOINT_RESTORE
from tests.fakes import World
from tests.unit.application.cases import chain, sid
from tests.unit.steps.standing import operation_of, step_of, with_power

TOKEN = 50
OLD, NEW, OTHER = ("d7.avhdx", "d5.avhdx"), ("d9.avhdx", "base.vhdx"), ("d9.avhdx", "d3.avhdx", "base.vhdx")
Chains = tuple[tuple[str, ...], ...]


def checkpoint(vm: VirtualMachine, n: int) -> CheckpointId:
    """Return the checkpoint of the n-th snapshot."""
    found = vm.snapshots[sid(n)].checkpoint_id
    assert found is not None
    return found


def restoring(leaves: tuple[str, ...] = ("d7.avhdx",)) -> tuple[World, Operation, Step]:
    """Return a world with a chain of three that is reverted to the first, and was writing to `leaves`."""
    world = World()
    chain(world)
    facts = checkpoint_restore.Before(
        power=Power.RUNNING, checkpoint_ids=(), current_checkpoint_id=checkpoint(world.vm, 3), leaf_paths=leaves
    )
    step = step_of(CHECKPOINT_RESTORE, checkpoint_restore.Input(checkpoint(world.vm, 1)), before=facts)
    operation = operation_of(world.vm, replace(step, issued_token=TOKEN))
    return world, operation, operation.step(1)


def reported(world: World, chains: Chains, current: int = 1, journal: Journal | None = None) -> VmReport:
    """Return a report of the VM's disks; without a journal, nothing but they is evidence."""
    report = world.host.report()
    assert report.description is not None
    disks = tuple(Disk(location=f"SCSI:0:{n}", path=files[0]) for n, files in enumerate(chains))
    based = {path: parent for files in chains for path, parent in zip_longest(files, files[1:], fillvalue="")}
    files = tuple(DiskFile(path=path, parent_path=parent) for path, parent in based.items())
    now = replace(report.description, disks=disks, files=files, current_checkpoint_id=checkpoint(world.vm, current))
    return replace(report, description=now, journal=journal or Journal(state=JournalState.MISSING))


@pytest.mark.parametrize(
    ("chains", "current", "judged"),
    [
        ((OLD,), 3, Absent),
        ((("D7.AVHDX", "d5.avhdx"),), 3, Absent),
        ((NEW,), 1, Done),
        ((("d9.avhdx", "BASE.vhdx"),), 1, Done),
        ((NEW,), 3, Undetermined),
        ((OTHER,), 1, Undetermined),
        ((("d9.avhdx",),), 1, Undetermined),
        ((("d7.avhdx", "base.vhdx"), NEW), 1, Undetermined),
        ((NEW, OTHER), 1, Undetermined),
        ((), 1, Undetermined),
    ],
)
def test_without_a_journal_a_restore_is_judged_by_the_disks(
    chains: Chains, current: int, judged: type[Judgement]
) -> None:
    world, operation, step = restoring()
    report = reported(world, chains, current)
    assert isinstance(CHECKPOINT_RESTORE.judge(world.vm, operation, step, report), judged)
    busy = replace(report, activities=("APPLY",))
    assert CHECKPOINT_RESTORE.judge(world.vm, operation, step, busy) == InProgress()


def test_a_vm_without_disks_shows_nothing() -> None:
    world, operation, step = restoring(leaves=())
    assert isinstance(CHECKPOINT_RESTORE.judge(world.vm, operation, step, reported(world, ())), Undetermined)


@pytest.mark.parametrize("chains", [(OLD,), (NEW,), (OTHER,)])
@pytest.mark.parametrize(
    ("step_number", "begun", "done", "judged"),
    [(1, False, False, Absent), (7, True, False, Absent), (7, False, True, Absent), (1, False, True, Done)],
    ids=["not begun", "another begun", "another done", "done"],
)
def test_what_the_journal_proves_counts_whatever_the_disks_are(
    chains: Chains, step_number: int, judged: type[Judgement], *, begun: bool, done: bool
) -> None:
    world, operation, step = restoring()
    journal = replace(
        world.host.journal, operation=operation.name, step=step_number, begun=begun, done=done, begun_token=TOKEN
    )
    report = reported(world, chains, journal=journal)
    assert isinstance(CHECKPOINT_RESTORE.judge(world.vm, operation, step, report), judged)


@pytest.mark.parametrize(("chains", "judged"), [((OLD,), Absent), ((NEW,), Done), ((OTHER,), Undetermined)])
@pytest.mark.parametrize(
    ("state", "journal_id"),
    [(JournalState.PRESENT, "another"), (JournalState.UNREADABLE, "journal-1"), (JournalState.MISSING, "")],
)
def test_a_journal_that_is_not_the_one_on_record_proves_nothing(
    chains: Chains, judged: type[Judgement], state: JournalState, journal_id: str
) -> None:
    world, operation, step = restoring()
    for done in (False, True):
        journal = Journal(state=state, journal_id=journal_id, operation=operation.name, step=1, done=done)
        report = reported(world, chains, journal=journal)
        assert isinstance(CHECKPOINT_RESTORE.judge(world.vm, operation, step, report), judged)


@pytest.mark.parametrize("begun_token", [TOKEN, TOKEN - 1])
@pytest.mark.parametrize(("chains", "judged"), [((OLD,), Absent), ((NEW,), Done), ((OTHER,), Undetermined)])
def test_one_that_was_begun_is_judged_by_the_disks_too(
    chains: Chains, judged: type[Judgement], begun_token: int
) -> None:
    world, operation, step = restoring()
    journal = replace(
        world.host.journal, operation=operation.name, step=1, begun=True, done=False, begun_token=begun_token
    )
    report = reported(world, chains, journal=journal)
    assert isinstance(CHECKPOINT_RESTORE.judge(world.vm, operation, step, report), judged)


def test_without_its_checkpoint_or_its_vm_nobody_knows_whether_it_was_applied() -> None:
    world, operation, step = restoring()
    report = reported(world, (NEW,), current=3)
    assert report.description is not None
    left = tuple(c for c in report.description.checkpoints if c.checkpoint_id != checkpoint(world.vm, 1))
    without = replace(report, description=replace(report.description, checkpoints=left))
    gone = replace(report, power=Power.ABSENT, description=None)

    def judge(seen: VmReport) -> Judgement:
        return CHECKPOINT_RESTORE.judge(world.vm, operation, step, seen)

    assert judge(without) == Undetermined("the disks have changed, and the snapshot's checkpoint is gone")
    assert judge(gone) == Undetermined("the host does not have the VM any more")


@pytest.mark.parametrize("power", Power)
def test_a_restore_needs_a_power_that_is_known_and_its_checkpoint(power: Power) -> None:
    world, operation, step = restoring()
    wrong = {Power.UNKNOWN: "WRONG_POWER_STATE", Power.ABSENT: "VM_ABSENT"}.get(power)
    refusal = CHECKPOINT_RESTORE.refusal(with_power(world.vm, power), operation, step)
    assert (refusal.reason if refusal else None) == wrong
    assert world.vm.description is not None
    bare = replace(world.vm, power=power, description=replace(world.vm.description, checkpoints=()))
    refusal = CHECKPOINT_RESTORE.refusal(bare, operation, step)
    assert refusal is not None
    assert refusal.reason == (wrong or "CHECKPOINT_MISSING")
