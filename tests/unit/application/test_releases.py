"""VMs that are kept as their export: what releases them, what is refused meanwhile, and how they come back."""

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import CompareHosts, SyncVm
from snapshotd.domain.conditions import conditions
from snapshotd.domain.export_errors import VmIsReleased, VmNotReleased
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, VolumeSnapshotState
from snapshotd.domain.operation import Failure, SettledAs
from snapshotd.operations.vm_destroy import DESTROY_VIRTUAL_MACHINE
from snapshotd.steps.vm_stop import StopMode
from tests.asking import (
    END_EXPORT,
    delete,
    delete_volume_snapshot,
    destroy,
    export_vm,
    start_vm,
    stop_vm,
    take_volume_snapshot,
)
from tests.unit.application.administrator import compare_hosts
from tests.unit.application.cases import create, drift_in, settle, sid, vsid
from tests.unit.application.exporting import asked, exporting, released, stopped, until, waits


def test_a_released_vm_reads_stopped_and_its_absence_is_no_event() -> None:
    world = released()
    assert world.vm.released is not None
    assert (world.vm.power, world.vm.released.host_id) == (Power.STOPPED, "hv01")
    before, version = len(world.log), world.vm.version
    world.do(SyncVm(report=world.host.report(), asked_version=version))
    assert len(world.log) == before
    assert drift_in(world) == []


def test_what_changes_a_released_vm_is_refused_with_what_to_do() -> None:
    world = released()
    for request in (create(2), delete(sid(1)), stop_vm(StopMode.TURN_OFF), export_vm(), destroy()):
        with pytest.raises(VmIsReleased, match="snapshotctl vm start web01`"):
            world.do(request)


def test_a_copy_of_a_disk_is_deleted_while_its_vm_is_released_but_for_a_checkpoint_of_it() -> None:
    world = stopped()
    world.do(start_vm())
    world.run()
    world.do(take_volume_snapshot(vsid(1)))
    until(world, waits(world))
    settle(world, SettledAs.GIVEN_UP)
    for request in (stop_vm(StopMode.TURN_OFF), export_vm(release=True), delete_volume_snapshot(vsid(1))):
        world.do(request)
        assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.released
    assert asked(world)[-1] == END_EXPORT
    assert world.vm.volume_snapshots[vsid(1)].state is VolumeSnapshotState.REMOVED
    world.do(start_vm())
    world.run()
    assert [failure.reason for failure in conditions(world.vm)] == ["TEMPORARY_CHECKPOINT_LEFT"]


def test_a_vm_that_has_changed_since_its_export_began_is_not_released() -> None:
    world = exporting(release=True)
    world.host.take("by hand")
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED
    assert not world.host.gone
    assert world.vm.released is None
    assert len(world.vm.exports) == 1


def test_a_released_vm_is_imported_where_it_is_asked_for_with_its_snapshots() -> None:
    world = released()
    world.do(start_vm("hv02"))
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED
    assert (world.vm.host_id, world.vm.power, world.vm.released) == ("hv02", Power.RUNNING, None)
    assert world.vm.snapshots[sid(1)].state is SnapshotState.READY
    (export,) = world.vm.exports
    assert export.in_use
    assert drift_in(world) == []
    assert world.vm.description is not None
    assert all(disk.path.startswith(export.directory) for disk in world.vm.description.disks)


def test_the_export_that_a_vm_was_imported_from_outlives_the_next_one() -> None:
    world = released()
    world.do(start_vm())
    world.run()
    (used,) = world.vm.exports
    world.do(export_vm())
    world.run()
    assert world.vm.exports[0] == used
    assert len(world.vm.exports) == 2
    assert END_EXPORT not in asked(world)


@pytest.mark.parametrize("disks", [True, False])
def test_an_export_whose_files_were_deleted_as_the_vms_disks_is_off_the_record(*, disks: bool) -> None:
    world = released()
    world.do(start_vm())
    world.run()
    (used,) = world.vm.exports
    told = " ".join(DESTROY_VIRTUAL_MACHINE.preview(world.vm, destroy(delete_disks=disks)).warnings)
    assert "Its exports stay" not in told
    world.do(destroy(delete_disks=disks))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.exports == (() if disks else (used,))


def test_exports_do_not_pile_up_when_a_vm_is_released_time_and_again() -> None:
    world = released()
    for _ in range(4):
        world.do(start_vm())
        world.run()
        world.do(stop_vm(StopMode.TURN_OFF))
        world.run()
        world.do(export_vm(release=True))
        world.run()
    assert world.vm.released
    assert len(world.vm.exports) == 2
    assert set(world.host.exports) == {export.directory for export in world.vm.exports}


def test_a_released_vm_that_others_import_elsewhere_is_there_though_its_old_host_is_dead() -> None:
    world = released()
    world.host.gone = False
    compare_hosts(world, world.host, own=Failure(reason="HOST_UNREACHABLE", message="no route"))
    assert (world.vm.host_id, world.vm.released, world.vm.claims) == ("hv02", None, ())


def test_an_import_that_is_refused_leaves_the_vm_released_where_it_was() -> None:
    world = released()
    world.host.error_ids = {1: "ImportIncompatible,snapshotd"}
    world.do(start_vm("hv02"))
    operation = world.run()
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert operation.failure.reason == "IMPORT_INCOMPATIBLE"
    assert world.vm.released is not None
    assert (world.vm.host_id, world.vm.power) == ("hv01", Power.STOPPED)
    del world.host.error_ids[1]
    world.do(start_vm())
    assert world.run().state is OperationState.SUCCEEDED


def test_a_vm_that_is_on_its_host_is_not_started_elsewhere() -> None:
    world = stopped()
    with pytest.raises(VmNotReleased):
        world.do(start_vm("hv02"))
    world.do(start_vm("hv01"))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_released_vm_that_others_have_brought_back_is_not_imported_a_second_time() -> None:
    world = released()
    world.host.gone = False
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    assert world.vm.released is None
    (found,) = drift_in(world)
    assert found.kind is e.DriftKind.VM_FOUND
    with pytest.raises(VmNotReleased):
        world.do(start_vm("hv02"))
    world.do(start_vm())
    world.run()
    assert asked(world) == ["vm_start"]


def test_a_released_vm_that_others_have_imported_elsewhere_is_followed() -> None:
    world = released()
    absent, version = world.host.report(), world.vm.version
    world.host.gone = False
    there = world.host.report()
    command = CompareHosts(
        host_id=HostId("hv02"), report=there, own_host_id=HostId("hv01"), own=absent, asked_version=version
    )
    world.do(command)
    assert (world.vm.host_id, world.vm.released) == ("hv02", None)


def test_a_vm_that_turns_up_on_its_old_host_before_the_import_is_not_started_there_instead() -> None:
    world = released()
    world.do(start_vm("hv02"))
    absent, version = world.host.report(), world.vm.version
    world.host.gone = False
    there = world.host.report()
    command = CompareHosts(
        host_id=HostId("hv01"), report=there, own_host_id=HostId("hv02"), own=absent, asked_version=version
    )
    world.do(command)
    operation = world.run()
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert operation.failure.reason == "VM_NOT_RELEASED"
    assert asked(world) == []
    assert world.vm.host_id == "hv01"
