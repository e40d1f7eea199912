"""Checkpoints that cannot be brought back, critical VMs, and files that nobody needs: what the record makes of them."""

from collections.abc import Callable

import pytest

from snapshotd.domain.commands import RequestOperation, SyncVm
from snapshotd.domain.conditions import conditions
from snapshotd.domain.errors import (
    VmCritical,
)
from snapshotd.domain.events import DriftDetected
from snapshotd.domain.host_report import DiskFile, VmDescription, VmReport
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState
from snapshotd.domain.snapshot_errors import (
    SnapshotNotUsable,
)
from snapshotd.domain.state import replace
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, revert_to, start_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import chain, create, sid

Change = Callable[[VmDescription], VmDescription]


def seen(world: World, change: Change) -> VmReport:
    """Return what the host reports, with its description changed."""
    report = world.host.report()
    assert report.description is not None
    return replace(report, description=change(report.description))


def sync(world: World, report: VmReport) -> None:
    """Compare a report with the record."""
    world.do(SyncVm(report=report, asked_version=world.vm.version))


def typed_missing(description: VmDescription) -> VmDescription:
    """Have Hyper-V list the second checkpoint as Missing."""
    first, second, *others = description.checkpoints
    return replace(description, checkpoints=(first, replace(second, checkpoint_type="Missing"), *others))


def without_file(description: VmDescription) -> VmDescription:
    """Have the file that the second checkpoint begins with be gone."""
    path = description.checkpoints[1].disks[0].path
    gone = DiskFile(path=path, missing=True)
    return replace(description, files=tuple(gone if f.path == path else f for f in description.files))


@pytest.mark.parametrize("change", [typed_missing, without_file])
def test_a_checkpoint_that_cannot_be_brought_back_is_an_error_until_it_is_whole_again(change: Change) -> None:
    world = World()
    chain(world)
    before = {s.snapshot_id: s.parent_id for s in world.vm.snapshots.values()}
    sync(world, seen(world, change))
    damaged = [s.snapshot_id for s in world.vm.snapshots.values() if s.state is SnapshotState.ERROR]
    assert damaged == ([sid(2)] if change is typed_missing else [sid(2), sid(3)])
    failure = world.vm.snapshots[sid(2)].failure
    assert failure is not None
    assert failure.reason == "CHECKPOINT_DAMAGED"
    assert {s.snapshot_id: s.parent_id for s in world.vm.snapshots.values()} == before, "it is still in the tree"
    kinds = [event.kind.name for event in world.log if isinstance(event, DriftDetected)]
    assert kinds == ["CHECKPOINT_DAMAGED"] * len(damaged)
    with pytest.raises(SnapshotNotUsable, match="cannot be brought back"):
        world.do(revert_to(sid(2)))
    sync(world, seen(world, change))
    assert len([event for event in world.log if isinstance(event, DriftDetected)]) == len(damaged), "told once"
    sync(world, world.host.report())
    assert {s.state for s in world.vm.snapshots.values()} == {SnapshotState.READY}
    assert world.vm.snapshots[sid(2)].failure is None


def test_a_damaged_snapshot_can_be_deleted() -> None:
    world = World()
    chain(world)
    sync(world, seen(world, typed_missing))
    world.do(delete(sid(2)))
    assert world.run().state is OperationState.SUCCEEDED


def critical(description: VmDescription) -> VmDescription:
    """Have Hyper-V report the VM as critical."""
    return replace(description, critical=True)


@pytest.mark.parametrize(
    ("power", "cure"),
    [
        (Power.RUNNING, stop_vm(StopMode.TURN_OFF)),
        (Power.RUNNING, delete(sid(2))),
        (Power.STOPPED, start_vm()),
        (Power.STOPPED, delete(sid(1))),
    ],
)
def test_a_critical_vm_gets_no_snapshot_and_can_be_cured(power: Power, cure: RequestOperation) -> None:
    world = World()
    chain(world)
    world.host.power = power
    sync(world, seen(world, critical))
    (told,) = conditions(world.vm)
    assert told.reason == "VM_CRITICAL"
    with pytest.raises(VmCritical, match="volume is full"):
        world.do(create(9))
    world.do(cure)
    assert world.run().state is OperationState.SUCCEEDED
    assert not conditions(world.vm)


def stray(path: str) -> Change:
    """Return a change that puts a file of nobody's under the VM's leaf."""

    def changed(description: VmDescription) -> VmDescription:
        (disk,) = description.disks
        leaf = description.file(disk.path)
        assert leaf is not None
        others = tuple(f for f in description.files if f is not leaf)
        between = DiskFile(path=path, parent_path=leaf.parent_path)
        return replace(description, files=(replace(leaf, parent_path=path), between, *others))

    return changed


@pytest.mark.parametrize(("path", "reasons"), [("Web01_B.AVHDX", ["NEEDS_CONSOLIDATION"]), ("golden.vhdx", [])])
def test_what_a_backup_left_in_a_chain_is_told_and_a_golden_image_is_not(path: str, reasons: list[str]) -> None:
    world = World()
    chain(world)
    sync(world, seen(world, stray(path)))
    told = conditions(world.vm)
    assert [condition.reason for condition in told] == reasons
    assert all(path in condition.message for condition in told)
