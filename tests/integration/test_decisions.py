"""What people decide about snapshots and checkpoints, over the API: said, asked for again, filtered by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.longrunning.operations_pb2 import Operation
from google.protobuf.field_mask_pb2 import FieldMask

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan
from snapshotd.domain.commands import SyncVm
from snapshotd.domain.errors import (
    InvalidArgument,
    NotFound,
    PlanChanged,
)
from snapshotd.domain.export_errors import ExportDirectoryMissing
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.snapshot_errors import (
    CheckpointNotFound,
    CheckpointNotUsable,
    SnapshotHeld,
    SnapshotNotUsable,
)
from snapshotd.domain.state import replace
from snapshotd.server.request_errors import FilterInvalid
from tests.fakes import VM_ID
from tests.integration.quiet_server import CALLER, Running, run
from tests.integration.writing import write
from tests.unit.application.cases import FOREIGN, by_hand, create, lose_checkpoint, sid
from tests.unit.projections.histories import RecordedWorld

VM = f"virtualMachines/{VM_ID}"
FIRST, LOST = (f"{VM}/snapshots/{sid(n)}" for n in (1, 2))


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """A server that has a VM on record with a snapshot, one whose checkpoint is gone, and a foreign checkpoint."""
    world = RecordedWorld()
    for n in (1, 2):
        world.do(create(n))
        world.run()
    lose_checkpoint(world, sid(2))
    by_hand(world)
    async with run(tmp_path) as served:
        await write(served.log, world.envelopes)
        await served.backend.views.reached(served.log.head_position())
        yield served


async def updated(running: Running, *paths: str, **fields: Any) -> Operation:  # noqa: ANN401  (a snapshot's)
    """Update the first snapshot."""
    request = pb.UpdateSnapshotRequest(
        snapshot=pb.Snapshot(name=FIRST, **fields), update_mask=FieldMask(paths=paths) if paths else None
    )
    return await running.snapshots.UpdateSnapshot(request, CALLER)


async def first(running: Running) -> pb.Snapshot:
    """Return the first snapshot."""
    return await running.snapshots.GetSnapshot(pb.GetSnapshotRequest(name=FIRST), CALLER)


def answer(operation: Operation) -> pb.Snapshot:
    """Return the snapshot that a finished operation answers with."""
    snapshot = pb.Snapshot()
    assert operation.done
    assert operation.response.Unpack(snapshot)
    return snapshot


async def test_an_update_changes_what_its_mask_names_and_without_one_what_it_has(running: Running) -> None:
    expiry = running.backend.clock.now() + timedelta(days=1)
    said = answer(await updated(running, description="words", labels={"tier": "gold"}, expire_time=expiry))
    assert (said.description, dict(said.labels), said.display_name) == ("words", {"tier": "gold"}, "s1")
    assert said.expire_time.ToDatetime(expiry.tzinfo) == expiry
    assert await first(running) == said
    said = answer(await updated(running, "labels", description="not this", labels={"a": ""}))
    assert (said.description, dict(said.labels)) == ("words", {"a": ""})
    said = answer(await updated(running, "*", display_name="s1"))
    assert (said.description, dict(said.labels), said.HasField("expire_time")) == ("", {}, False)
    with pytest.raises(InvalidArgument, match="must be of display_name, description, labels, expire_time"):
        await updated(running, "state")
    with pytest.raises(InvalidArgument, match="must not be empty"):
        await updated(running, "*")


async def test_a_new_name_is_work_for_the_host(running: Running) -> None:
    planned = await running.snapshots.UpdateSnapshot(
        pb.UpdateSnapshotRequest(snapshot=pb.Snapshot(name=FIRST, display_name="other"), validate_only=True), CALLER
    )
    plan = Plan()
    assert planned.response.Unpack(plan)
    assert [(s.name, s.description) for s in plan.steps] == [
        ("rename", "Rename the checkpoint to 'other', marked as ours.")
    ]
    operation, metadata = await updated(running, display_name="other"), OperationMetadata()
    assert operation.metadata.Unpack(metadata)
    assert (operation.done, metadata.kind, metadata.snapshot) == (False, OperationMetadata.UPDATE_SNAPSHOT, FIRST)
    assert (await first(running)).display_name == "s1"


async def kept(running: Running, text: str) -> list[str]:
    """Return the names of the snapshots that a filter keeps."""
    request = pb.ListSnapshotsRequest(parent=VM, filter=text)
    return [s.display_name for s in (await running.snapshots.ListSnapshots(request, CALLER)).snapshots]


async def test_lists_are_narrowed_by_labels_and_expiry(running: Running) -> None:
    expiry = running.backend.clock.now() + timedelta(days=1)
    await updated(running, labels={"tier": "gold", "example.com/team": ""}, expire_time=expiry)
    assert await kept(running, 'labels.tier = "gold"') == ["s1"]
    assert await kept(running, 'labels.tier != "gold"') == ["s2"]
    assert await kept(running, 'labels."example.com/team" = "" AND state = "READY"') == ["s1"]
    assert await kept(running, "labels:example.com/team") == await kept(running, "labels:*") == ["s1"]
    assert await kept(running, 'labels:"none"') == []
    assert await kept(running, f'expire_time < "{(expiry + timedelta(hours=1)).isoformat()}"') == ["s1"]
    for bad in ("labels", "labels = 1", "labels.tier < 3", "labels.", 'labels.tier = "a" labels.b = "c"'):
        with pytest.raises(FilterInvalid):
            await kept(running, bad)


async def test_a_vm_is_updated_and_found_by_its_labels(running: Running) -> None:
    said = vm_pb2.VirtualMachine(name=VM, owner="dev", labels={"tier": "gold"})
    vm = await running.vms.UpdateVirtualMachine(vm_pb2.UpdateVirtualMachineRequest(virtual_machine=said), CALLER)
    assert (vm.owner, dict(vm.labels)) == ("dev", {"tier": "gold"})
    for text, found in (('labels.tier = "gold"', 1), ("labels:none", 0)):
        request = vm_pb2.ListVirtualMachinesRequest(filter=text)
        assert len((await running.vms.ListVirtualMachines(request, CALLER)).virtual_machines) == found
    for wrong, mask in (
        ({"labels": {"a b": ""}}, "labels"),
        ({"owner": ""}, "owner"),
        ({"owner": "dev "}, "owner"),
        ({}, "power"),
    ):
        update = vm_pb2.UpdateVirtualMachineRequest(
            virtual_machine=vm_pb2.VirtualMachine(name=VM, **wrong), update_mask=FieldMask(paths=[mask])
        )
        with pytest.raises(InvalidArgument):
            await running.vms.UpdateVirtualMachine(update, CALLER)


@pytest.mark.parametrize("policy", ["ON_STOP", "ON_SNAPSHOT"])
async def test_no_vm_is_exported_by_itself_while_nobody_has_said_where_to(running: Running, policy: str) -> None:
    for value, taken in ((policy, False), ("NEVER", True)):
        said = vm_pb2.VirtualMachine(name=VM, export_policy=vm_pb2.VirtualMachine.ExportPolicy.Value(value))
        call = running.vms.UpdateVirtualMachine(vm_pb2.UpdateVirtualMachineRequest(virtual_machine=said), CALLER)
        if taken:
            assert (await call).export_policy == said.export_policy
            continue
        with pytest.raises(ExportDirectoryMissing):
            await call


async def test_a_snapshot_that_cannot_be_deleted_is_forgotten_at_once(running: Running) -> None:
    forget = pb.DeleteSnapshotRequest(name=LOST, forget=True)
    removed = pb.DeleteSnapshotResponse()
    operation = await running.snapshots.DeleteSnapshot(forget, CALLER)
    assert operation.done
    assert operation.response.Unpack(removed)
    assert removed.removed == [LOST]
    gone = await running.snapshots.GetSnapshot(pb.GetSnapshotRequest(name=LOST), CALLER)
    assert gone.state == pb.Snapshot.REMOVED
    task = asyncio.create_task(
        running.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=FIRST, forget=True), CALLER)
    )
    running.answer(await running.asked.orders.get(), await reported(running))
    with pytest.raises(SnapshotNotUsable, match="delete it instead"):
        await task
    scope = pb.DeleteSnapshotRequest(name=FIRST, forget=True, scope=pb.DeleteSnapshotRequest.WITH_DESCENDANTS)
    with pytest.raises(InvalidArgument, match="one by one"):
        await running.snapshots.DeleteSnapshot(scope, CALLER)


async def reported(running: Running) -> VmReport:
    """Return the report of the VM as it is on record."""
    vm = await running.backend.runtime.load(VM_ID)
    return VmReport(vm_id=VM_ID, power=vm.power, host_state="Running", description=vm.description)


async def test_a_held_snapshot_of_a_gone_vm_is_not_forgotten_until_it_is_released(running: Running) -> None:
    vm = await running.backend.runtime.load(VM_ID)
    gone = VmReport(vm_id=VM_ID, power=Power.ABSENT, host_state="", description=None)
    await running.backend.runtime.request(VM_ID, SyncVm(report=gone, asked_version=vm.version), actor="snapshotd")
    await running.snapshots.HoldSnapshot(pb.HoldSnapshotRequest(name=FIRST), CALLER)
    with pytest.raises(SnapshotHeld):
        await running.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=FIRST, forget=True), CALLER)
    await running.snapshots.ReleaseSnapshot(pb.ReleaseSnapshotRequest(name=FIRST), CALLER)
    assert (await running.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=FIRST, forget=True), CALLER)).done
    tree = await running.snapshots.GetSnapshotTree(pb.GetSnapshotTreeRequest(name=VM), CALLER)
    foreign = [node.foreign_checkpoint for node in tree.nodes if node.HasField("foreign_checkpoint")]
    assert [(c.display_name, c.marked_as_ours) for c in foreign] == [(f"s1 #{sid(1)}", True), ("by hand", False)]
    shown = await running.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=VM), CALLER)
    assert shown.foreign_checkpoint_count == 2


async def test_a_foreign_checkpoint_is_ignored_and_the_tree_shows_that(running: Running) -> None:
    request = pb.IgnoreCheckpointRequest(parent=VM, checkpoint_id=FOREIGN.upper(), reason="vendor's")
    noted = await running.snapshots.IgnoreCheckpoint(request, CALLER)
    assert (noted.display_name, noted.ignore.reason) == ("by hand", "vendor's")
    tree = await running.snapshots.GetSnapshotTree(pb.GetSnapshotTreeRequest(name=VM), CALLER)
    assert [n.foreign_checkpoint for n in tree.nodes if n.HasField("foreign_checkpoint")] == [noted]
    request.undo = True
    assert not (await running.snapshots.IgnoreCheckpoint(request, CALLER)).HasField("ignore")


async def test_an_adoption_is_planned_and_asked_of_the_host(running: Running) -> None:
    request = pb.AdoptCheckpointRequest(parent=VM, checkpoint_id=FOREIGN, validate_only=True)
    plan, metadata = Plan(), OperationMetadata()
    assert (await running.snapshots.AdoptCheckpoint(request, CALLER)).response.Unpack(plan)
    assert (plan.new_current, plan.old_current) == (f"{VM}/snapshots/-", FIRST)
    request.validate_only = False
    request.expected_plan = "0123456789abcdef"
    with pytest.raises(PlanChanged, match=plan.etag):
        await running.snapshots.AdoptCheckpoint(request, CALLER)
    request.expected_plan = plan.etag
    operation = await running.snapshots.AdoptCheckpoint(request, CALLER)
    assert operation.metadata.Unpack(metadata)
    assert (operation.done, metadata.kind) == (False, OperationMetadata.ADOPT_CHECKPOINT)


@pytest.mark.parametrize("is_there", [True, False])
async def test_before_an_adoption_is_refused_the_vm_is_looked_at_again(running: Running, *, is_there: bool) -> None:
    recent = CheckpointId(FOREIGN.replace("0001", "0007"))
    report = await reported(running)
    assert report.description is not None
    made = replace(report.description.checkpoints[-1], checkpoint_id=recent, name="just now")
    checkpoints = (*report.description.checkpoints, *([made] if is_there else []))
    request = pb.AdoptCheckpointRequest(parent=VM, checkpoint_id=recent)
    task = asyncio.create_task(running.snapshots.AdoptCheckpoint(request, CALLER))
    seen = replace(report, description=replace(report.description, checkpoints=checkpoints))
    running.answer(await running.asked.orders.get(), seen)
    if is_there:
        assert (await task).name
    else:
        with pytest.raises(CheckpointNotFound):
            await task


@pytest.mark.parametrize("wrong", ["x", "", f"checkpoints/{FOREIGN}"])
async def test_what_is_no_id_of_a_checkpoint_is_refused(running: Running, wrong: str) -> None:
    with pytest.raises(InvalidArgument, match="GUID"):
        await running.snapshots.AdoptCheckpoint(pb.AdoptCheckpointRequest(parent=VM, checkpoint_id=wrong), CALLER)


async def test_an_id_of_a_checkpoint_where_a_snapshot_belongs_is_told_as_that(running: Running) -> None:
    name = f"{VM}/snapshots/{FOREIGN}"
    for call in (
        running.snapshots.GetSnapshot(pb.GetSnapshotRequest(name=name), CALLER),
        running.snapshots.DeleteSnapshot(pb.DeleteSnapshotRequest(name=name), CALLER),
        running.snapshots.RevertToSnapshot(pb.RevertToSnapshotRequest(name=name), CALLER),
        running.snapshots.HoldSnapshot(pb.HoldSnapshotRequest(name=name), CALLER),
    ):
        with pytest.raises(NotFound, match="snapshotctl snapshot adopt web01"):
            await call


async def test_ours_is_not_ignored(running: Running) -> None:
    vm = await running.backend.runtime.load(VM_ID)
    request = pb.IgnoreCheckpointRequest(parent=VM, checkpoint_id=vm.snapshots[sid(1)].checkpoint_id or "")
    task = asyncio.create_task(running.snapshots.IgnoreCheckpoint(request, CALLER))
    running.answer(await running.asked.orders.get(), await reported(running))
    with pytest.raises(CheckpointNotUsable):
        await task
