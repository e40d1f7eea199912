"""How single steps are judged by what their host reports, and why they must not be issued."""

from __future__ import annotations

import pytest

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation, Step, StepNature
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps import checkpoint_remove, checkpoint_rename, disks_merge
from snapshotd.steps.action import Absent, Action, Done, InProgress, Judgement, Undetermined
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME
from snapshotd.steps.disks_merge import DISKS_MERGE
from tests.fakes import World
from tests.unit.application.cases import sid
from tests.unit.steps.standing import made, operation_of, step_of, with_power


def own(vm: VirtualMachine) -> CheckpointId:
    """Return the checkpoint of the first snapshot."""
    found = vm.snapshots[sid(1)].checkpoint_id
    assert found is not None
    return found


def removal(vm: VirtualMachine, *, attempts: int = 1) -> tuple[Operation, Step]:
    """Return the removal of the first snapshot's checkpoint, in its operation."""
    operation = operation_of(vm, step_of(CHECKPOINT_REMOVE, checkpoint_remove.Input(own(vm)), attempts=attempts))
    return operation, operation.step(1)


def renaming(vm: VirtualMachine) -> tuple[Operation, Step]:
    """Return the renaming of the first snapshot's checkpoint, in its operation."""
    values = checkpoint_rename.Input(checkpoint_id=own(vm), checkpoint_name=f"s1 #{sid(1)}")
    operation = operation_of(vm, step_of(CHECKPOINT_RENAME, values))
    return operation, operation.step(1)


def gone(report: VmReport) -> VmReport:
    """Return the report of a host that does not have the VM."""
    return replace(report, power=Power.ABSENT, description=None)


def renamed(world: World, name: str) -> VmReport:
    """Report the VM after somebody has renamed the checkpoint."""
    which = own(world.vm)
    world.host.checkpoints[which] = replace(world.host.checkpoints[which], name=name)
    return world.host.report()


@pytest.mark.parametrize(
    ("activities", "name", "judged"),
    [
        ((), f"s1 #{sid(1)}", Done),
        ((), f"somebody else's name #{sid(1)}", Absent),
        ((), "web01 - (11/25/2026 - 9:00:00 AM)", Absent),
        ((), f"s2 #{sid(2)}", Absent),
        (("MERGE",), f"s1 #{sid(1)}", InProgress),
    ],
)
def test_a_renaming_is_done_if_the_checkpoint_has_its_name(
    activities: tuple[str, ...], name: str, judged: type[Judgement]
) -> None:
    world = made()
    report = replace(renamed(world, name), activities=activities)
    assert isinstance(CHECKPOINT_RENAME.judge(world.vm, *renaming(world.vm), report), judged)


def test_a_renaming_of_a_vm_that_is_gone_has_not_happened() -> None:
    world = made()
    assert CHECKPOINT_RENAME.judge(world.vm, *renaming(world.vm), gone(world.host.report())) == Absent()


def test_a_removal_is_done_when_the_checkpoint_is_gone_and_unknown_when_the_vm_is() -> None:
    world = made()
    there = world.host.report()
    world.host.remove(own(world.vm))

    def judge(report: VmReport) -> Judgement:
        return CHECKPOINT_REMOVE.judge(world.vm, *removal(world.vm), report)

    assert judge(there) == Absent()
    assert isinstance(judge(world.host.report()), Done)
    assert isinstance(judge(replace(there, activities=("DELETE",))), InProgress)
    assert judge(gone(there)) == Undetermined("the host does not have the VM any more")


def test_a_removal_that_the_journal_says_never_began_has_not_happened_though_the_vm_is_gone() -> None:
    world = made()
    journal = replace(world.host.journal, operation="", begun=False, done=False)
    assert journal.journal_id == world.vm.journal_id
    report = replace(gone(world.host.report()), journal=journal)
    assert CHECKPOINT_REMOVE.judge(world.vm, *removal(world.vm), report) == Absent()


@pytest.mark.parametrize(("attempts", "satisfied"), [(0, True), (1, False)])
def test_a_removal_that_was_issued_is_observed_whatever_is_on_record(*, attempts: int, satisfied: bool) -> None:
    world = made()
    operation, step = removal(world.vm, attempts=attempts)
    assert not CHECKPOINT_REMOVE.satisfied(world.vm, operation, step)
    world.host.remove(own(world.vm))
    without = replace(world.vm, description=world.host.report().description)
    assert CHECKPOINT_REMOVE.satisfied(without, operation, step) is satisfied


@pytest.mark.parametrize("power", Power)
@pytest.mark.parametrize("action", [CHECKPOINT_REMOVE, CHECKPOINT_RENAME], ids=lambda action: action.name)
def test_a_checkpoint_is_touched_only_while_the_power_of_its_vm_is_known(action: Action, power: Power) -> None:
    vm = with_power(made().vm, power)
    refusal = action.refusal(vm, *(removal(vm) if action is CHECKPOINT_REMOVE else renaming(vm)))
    reason = refusal.reason if refusal else None
    assert reason == {Power.UNKNOWN: "WRONG_POWER_STATE", Power.ABSENT: "VM_ABSENT"}.get(power)


def test_a_merge_watches_the_files_that_the_removal_found() -> None:
    world = made(snapshots=2)
    found = ("a.avhdx", "base.vhdx")
    facts = checkpoint_remove.Before(
        checkpoint_ids=(), chain_files=(*found, "golden.vhdx"), superfluous=found[:1], watched=found
    )
    remove = step_of(CHECKPOINT_REMOVE, checkpoint_remove.Input(own(world.vm)), before=facts, snapshot_id=sid(1))
    merge = step_of(DISKS_MERGE, nature=StepNature.FORWARD_ONLY, snapshot_id=sid(1))
    after_removal, alone = operation_of(world.vm, remove, merge), operation_of(world.vm, merge)
    both = disks_merge.Before(found[:1], found)
    assert DISKS_MERGE.before(world.vm, after_removal, after_removal.step(2)) == both
    assert DISKS_MERGE.before(world.vm, alone, alone.step(1)) == disks_merge.Before((), ())
    waiting = step_of(DISKS_MERGE, before=both, snapshot_id=sid(1))
    assert DISKS_MERGE.watched_files(waiting) == found


@pytest.mark.parametrize(
    ("left", "activities", "judged"),
    [
        ((), (), Done),
        (("D2.AVHDX",), (), InProgress),
        ((), ("MERGE",), InProgress),
        ((), ("DELETE",), InProgress),
        ((), ("BACKUP",), Done),
    ],
)
def test_a_merge_is_done_when_no_watched_file_is_left_beside_the_chains(
    left: tuple[str, ...], activities: tuple[str, ...], judged: type[Judgement]
) -> None:
    world = made()
    facts = disks_merge.Before((), ("d2.avhdx",))
    merge = step_of(DISKS_MERGE, nature=StepNature.FORWARD_ONLY, snapshot_id=sid(1), before=facts)
    world.host.remove(own(world.vm))
    world.host.merge()
    merged = world.host.report()
    merged = replace(merged, existing_files=(*merged.existing_files, *left), activities=activities)
    operation = operation_of(world.vm, merge)
    assert isinstance(DISKS_MERGE.judge(world.vm, operation, operation.step(1), merged), judged)
    assert DISKS_MERGE.judge(world.vm, operation, operation.step(1), gone(merged)) == InProgress()


@pytest.mark.parametrize("snapshots", [1, 2, 3])
@pytest.mark.parametrize("removed", [1, 2, 3])
def test_a_merge_that_has_not_begun_is_not_done_whichever_checkpoint_was_removed(snapshots: int, removed: int) -> None:
    world = made(snapshots=snapshots)
    which = world.vm.snapshots[sid(min(removed, snapshots))]
    assert which.checkpoint_id is not None
    remove = step_of(CHECKPOINT_REMOVE, checkpoint_remove.Input(which.checkpoint_id), snapshot_id=which.snapshot_id)
    merge = step_of(DISKS_MERGE, nature=StepNature.FORWARD_ONLY, snapshot_id=which.snapshot_id)
    found = CHECKPOINT_REMOVE.before(world.vm, operation_of(world.vm, remove), remove)
    remove = replace(remove, before=CHECKPOINT_REMOVE.facts.write(found))
    operation = operation_of(world.vm, remove, merge)
    merge = operation.step(2)
    merge = replace(merge, before=DISKS_MERGE.facts.write(DISKS_MERGE.before(world.vm, operation, merge)))
    world.host.remove(which.checkpoint_id)
    world.host.merging = False
    not_begun = world.host.report()
    world.host.merge()
    assert DISKS_MERGE.judge(world.vm, operation, merge, not_begun) == InProgress()
    assert isinstance(DISKS_MERGE.judge(world.vm, operation, merge, world.host.report()), Done)
    left = DISKS_MERGE.left(merge, not_begun)
    assert left
    awaited = DISKS_MERGE.awaits(merge, not_begun)
    assert awaited.reason == "MERGE_NOT_BEGUN"
    assert all(path in DISKS_MERGE.stalled(world.policy, awaited).message for path in left)
    assert DISKS_MERGE.awaits(merge, replace(not_begun, activities=("MERGE",))).reason == "MERGE_IN_PROGRESS"
    assert DISKS_MERGE.awaits(merge, gone(not_begun)).reason == "VM_MISSING"
    assert DISKS_MERGE.left(merge, world.host.report()) == ()
