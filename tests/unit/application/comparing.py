"""Whether the record of a VM is what is on its host, when nothing is at work on it."""

from __future__ import annotations

from snapshotd.domain.lifecycle import Power, SnapshotState, VmActivity
from snapshotd.steps.checkpoint_name import marker
from tests.fakes import World
from tests.unit.application.cases import check_invariants, power_told


def compare(world: World) -> None:
    """Compare names, power, tree and current with the host."""
    vm, report = world.vm, world.host.report()
    assert not vm.active_operations
    check_invariants(vm)
    assert vm.power is power_told(world)
    destroyed = vm.activity is VmActivity.DESTROYED and vm.power is Power.ABSENT
    assert destroyed or vm.activity is VmActivity.IDLE
    assert not destroyed or {s.state for s in vm.snapshots.values()} == {SnapshotState.REMOVED}
    if report.description is None:
        return
    assert (vm.description, vm.name) == (report.description, report.description.name)
    assert vm.current_id == vm.nearest_own(report.description.current_checkpoint_id)
    for snapshot in vm.snapshots.values():
        checkpoint = report.description.checkpoint(snapshot.checkpoint_id)
        intact = checkpoint is not None and not report.description.damage(checkpoint)
        assert snapshot.state in (SnapshotState.READY, SnapshotState.ERROR, SnapshotState.REMOVED)
        assert intact or snapshot.state is not SnapshotState.READY
        assert not (intact and snapshot.was_ready) or snapshot.state is SnapshotState.READY, snapshot
        if checkpoint is not None and snapshot.state is SnapshotState.READY:
            assert snapshot.parent_id == vm.nearest_own(checkpoint.parent_id)
            assert snapshot.with_memory == checkpoint.has_memory
    for checkpoint in report.description.checkpoints:
        marked = [s for s in vm.snapshots.values() if checkpoint.name.endswith(marker(s.snapshot_id))]
        assert all(s.checkpoint_id == checkpoint.checkpoint_id for s in marked)
