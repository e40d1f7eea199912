"""Files that snapshotd removes, and that other VMs want: those of volume snapshots, and those inside exports."""

from __future__ import annotations

import asyncio
import random

import pytest

from snapshotd.application.virtual_machines import Decided
from snapshotd.domain.commands import UnregisterVm
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.ids import VmId
from snapshotd.domain.lifecycle import OperationState, Power, VolumeSnapshotState
from snapshotd.domain.operation import SettledAs
from snapshotd.domain.volume_errors import VolumeBeingDeleted, VolumeInExport, VolumeInUse
from tests.asking import delete_volume_snapshot, export_vm, take_volume_snapshot
from tests.unit.application.cases import settlement_of, vsid
from tests.unit.server.test_volume_claims import GIB, VMS, Town, causes

ONE, OTHER = VMS[:2]
COPY = vsid(1)


async def end(town: Town, vm_id: VmId = ONE) -> OperationState:
    """Let a VM's operation end, and return how."""
    number = town.vms.known(vm_id).last_number
    for _ in range(60):
        if not town.vms.known(vm_id).active_operations:
            break
        await town.turn(vm_id)
    await town.quiet()
    return town.vms.known(vm_id).operations[number].state


async def copied(town: Town) -> str:
    """Register two VMs, copy a disk of the first one, and return the file."""
    for vm_id in (ONE, OTHER):
        town.hosts[vm_id].power = Power.STOPPED
        await town.register(vm_id)
    await town.ask(ONE, take_volume_snapshot(COPY))
    assert await end(town) is OperationState.SUCCEEDED
    path = town.vms.known(ONE).volume_snapshots[COPY].path
    town.hosts[OTHER].on_disk[path] = GIB
    return path


async def delete(town: Town, path: str) -> Decided:
    """Ask for the copy's deletion, as the servicer does."""
    wanted, cause = delete_volume_snapshot(COPY), ClaimCause.DELETION
    await town.vms.consider(ONE, wanted, actor="ann", request_id="", digest="")
    await town.claims.refuse_used(path, ONE, "delete")
    return await town.claims.with_claim(
        path, ONE, lambda: town.ask(ONE, wanted), cause=cause, actor="ann", request_id=""
    )


@pytest.mark.parametrize("registered", [True, False])
async def test_the_file_of_a_copy_is_refused_to_others_from_the_request_to_the_end_of_its_deletion(
    *, registered: bool
) -> None:
    town = Town()
    path = await copied(town)
    if not registered:
        await town.ask(ONE, UnregisterVm())
    await delete(town, path)
    for _ in range(2):
        with pytest.raises(VolumeBeingDeleted, match="of a volume snapshot of VM vm1, which is being deleted"):
            await town.attach(OTHER, path.upper())
        await town.restart()
    assert await end(town) is OperationState.SUCCEEDED
    assert (town.hosts[ONE].deleted, town.volumes.owner(path)) == ([path], None)
    assert await causes(town) == ["DELETION", "NOT_ATTACHED" if registered else "UNREGISTERED"]


async def test_of_an_attach_and_a_deletion_at_the_same_instant_exactly_one_is_accepted() -> None:
    won = set[str]()
    for seed in range(20):
        town = Town(random.Random(seed))
        path = await copied(town)
        asked = await asyncio.gather(town.attach(OTHER, path), delete(town, path), return_exceptions=True)
        assert sum(isinstance(result, VolumeInUse | VolumeBeingDeleted) for result in asked) == 1, asked
        (operation,) = [o for vm_id in (ONE, OTHER) for o in town.vms.known(vm_id).active_operations]
        won.add(operation.kind)
        await town.quiet()
    assert won == {"ATTACH_VOLUME", "DELETE_VOLUME_SNAPSHOT"}


async def test_a_copy_that_another_vm_has_is_not_deleted_until_that_has_it_no_more() -> None:
    town = Town()
    path = await copied(town)
    await town.attach(OTHER, path)
    with pytest.raises(VolumeInUse, match=r"Cannot delete .*: it belongs to VM vm2 on host hv01"):
        await delete(town, path)
    await end(town, OTHER)
    with pytest.raises(VolumeInUse, match=r"Cannot delete .*: it is a file of VM vm2 on host hv01"):
        await delete(town, path)
    assert town.vms.known(ONE).volume_snapshots[COPY].state is VolumeSnapshotState.READY
    town.hosts[OTHER].volumes.clear()
    await town.sync(OTHER)
    await delete(town, path)
    assert await end(town) is OperationState.SUCCEEDED


async def test_a_copy_that_its_own_vm_has_is_not_deleted() -> None:
    town = Town()
    path = await copied(town)
    town.hosts[ONE].volumes["SCSI:0:3"] = path
    await town.sync(ONE)
    with pytest.raises(VolumeInUse, match=r"Cannot delete .*: it is a file of VM vm1 on host hv01"):
        await delete(town, path)


async def test_a_copy_whose_deletion_nobody_knows_the_outcome_of_is_free_when_the_vm_was_looked_at() -> None:
    town = Town()
    path = await copied(town)
    await delete(town, path)
    await town.turn(ONE)
    assert town.vms.known(ONE).step_is_open()
    await town.ask(ONE, settlement_of(town.vms.known(ONE), SettledAs.GIVEN_UP))
    assert not town.vms.known(ONE).active_operations
    with pytest.raises(VolumeBeingDeleted):
        await town.attach(OTHER, path)
    await town.sync(ONE)
    await town.attach(OTHER, path)
    assert town.volumes.owner(path) == OTHER


@pytest.mark.parametrize("registered", [True, False])
async def test_what_is_inside_an_export_is_attached_to_no_vm(*, registered: bool) -> None:
    town = Town()
    await copied(town)
    await town.ask(ONE, export_vm("D:\\exports"))
    assert await end(town) is OperationState.SUCCEEDED
    (export,) = town.vms.known(ONE).exports
    if not registered:
        await town.ask(ONE, UnregisterVm())
    with pytest.raises(VolumeInExport, match=r"exports.* is an export of VM vm1, and is removed with all"):
        await town.claims.refuse_exported(f"{export.directory}\\Virtual Hard Disks\\data.vhdx".replace("D:", "d:"))
    await town.claims.refuse_exported(f"{export.directory}.vhdx")


async def test_what_is_inside_an_export_that_is_not_complete_is_attached_to_no_vm() -> None:
    town = Town()
    await copied(town)
    partial = f"D:\\exports\\{ONE}\\7-0a1b2c3d-1.partial"
    with pytest.raises(VolumeInExport, match="is an unfinished export of VM vm1"):
        await town.claims.refuse_exported(f"{partial}\\data.vhdx")
