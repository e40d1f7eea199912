"""SnapshotService: takes, deletes and shows snapshots, and reverts VMs to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceServicer
from snapshotd.domain import commands as c
from snapshotd.domain.details import SnapshotDetails
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.foreign_checkpoints import reported_checkpoint
from snapshotd.domain.ids import SnapshotId, VmId
from snapshotd.domain.operation import Operation as OperationRecord
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord
from snapshotd.operations import (
    checkpoint_adopt,
    deletion,
    exporting,
    snapshot_create,
    snapshot_delete,
    snapshot_delete_all,
    snapshot_forget,
    snapshot_revert,
    snapshot_update,
)
from snapshotd.operations.safety_snapshot import Safety
from snapshotd.operations.snapshot_revert import PowerAfter
from snapshotd.operations.snapshots import TheSnapshot
from snapshotd.ports.views import SNAPSHOT_FIELDS, PageQuery
from snapshotd.server.as_of import past, point_of
from snapshotd.server.backend import Backend
from snapshotd.server.callers import caller
from snapshotd.server.interceptors import Context
from snapshotd.server.listing import Fields, Id, SortedPage, matcher, values_of
from snapshotd.server.operation_messages import failure_message, snapshot_name
from snapshotd.server.operation_reader import OperationReader, Resources
from snapshotd.server.requests import (
    checkpoint_id_of,
    digest_of,
    mask_of,
    page_size_of,
    request_id_of,
    snapshot_id_of,
    time_of,
    vm_id_of,
    words_of,
)
from snapshotd.server.resource_messages import foreign_message, kind_of, snapshot_message, tree_message
from snapshotd.server.seeing import narrowed_to_vms
from snapshotd.server.tree_watch import tree_now, watched_tree

_FILTERS: Fields[Snapshot] = {
    "uid": lambda s: Id(s.snapshot_id),
    "display_name": lambda s: s.name,
    "state": lambda s: s.state.name,
    "expire_time": lambda s: s.expire_at,
    "kind": lambda s: pb.Snapshot.Kind.Name(kind_of(with_memory=s.with_memory)),
}
_WORDS: Final = {"state": values_of(pb.Snapshot.State.keys()), "kind": values_of(pb.Snapshot.Kind.keys())}
_POWERS_AFTER: Final = {
    pb.RevertToSnapshotRequest.POWER_AFTER_UNSPECIFIED: PowerAfter.AS_SNAPSHOT,
    pb.RevertToSnapshotRequest.AS_SNAPSHOT: PowerAfter.AS_SNAPSHOT,
    pb.RevertToSnapshotRequest.RUNNING: PowerAfter.RUNNING,
    pb.RevertToSnapshotRequest.AS_BEFORE: PowerAfter.AS_BEFORE,
}
_ORDERS: Final = ("create_time", "display_name")
_EVERY_VM = "virtualMachines/-"
_DETAILS: Final = {
    "display_name": "name",
    "description": "description",
    "labels": "labels",
    "expire_time": "expire_at",
}
"""What an update can change: the fields of the API, with those of SnapshotDetails."""


class SnapshotService(SnapshotServiceServicer):
    """The servicer.

    Args:
        backend: of the server.
        operations: makes the answers of long work.
    """

    def __init__(self, backend: Backend, operations: OperationReader) -> None:
        self._backend = backend
        self._operations = operations
        operations.writes(TheSnapshot, _the_snapshot)
        operations.writes(snapshot_revert.Reverted, _reverted)
        operations.writes(deletion.Removed, _removed)
        operations.writes(snapshot_delete_all.Outcome, _all_removed)
        operations.adds(snapshot_delete_all.Outcome, _not_all_removed)

    async def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Context) -> Operation:
        """Take a snapshot."""
        vm_id = vm_id_of(request.parent, "parent")
        asked = request.snapshot
        if asked.kind not in (pb.Snapshot.DISK, pb.Snapshot.DISK_AND_MEMORY):
            raise InvalidArgument("snapshot.kind", str(asked.kind), "must be DISK or DISK_AND_MEMORY.")
        said, backend = _said(asked), self._backend
        policy = exporting.policy_of(await backend.runtime.load(vm_id), backend.policy)
        params = snapshot_create.Params(
            snapshot_id=SnapshotId(self._backend.ids.fresh()),
            name=said.name,
            description=said.description,
            with_memory=asked.kind == pb.Snapshot.DISK_AND_MEMORY,
            allow_fallback=request.allow_fallback,
            labels=said.labels,
            expire_at=said.expire_at,
            export_directory=backend.policy.export_directory if policy is ExportPolicy.ON_SNAPSHOT else "",
        )
        return await self._operations.answer(vm_id, snapshot_create.CREATE_SNAPSHOT.request(params), request)

    async def UpdateSnapshot(self, request: pb.UpdateSnapshotRequest, context: Context) -> Operation:
        """Change what people say of a snapshot: its name, description, labels or expiry."""
        asked = request.snapshot
        vm_id, snapshot_id = snapshot_id_of(asked.name, "snapshot.name")
        there = {
            "display_name": asked.display_name != "",
            "description": asked.description != "",
            "labels": bool(asked.labels),
            "expire_time": asked.HasField("expire_time"),
        }
        changed = sorted(_DETAILS[field] for field in mask_of(request.update_mask, there))
        params = snapshot_update.Params(snapshot_id=snapshot_id, fields=tuple(changed), said=_said(asked))
        return await self._operations.answer(vm_id, snapshot_update.UPDATE_SNAPSHOT.request(params), request)

    async def AdoptCheckpoint(self, request: pb.AdoptCheckpointRequest, context: Context) -> Operation:
        """Make a foreign checkpoint a snapshot."""
        params = checkpoint_adopt.Params(
            snapshot_id=SnapshotId(self._backend.ids.fresh()),
            checkpoint_id=checkpoint_id_of(request.checkpoint_id),
            said=_said(request.snapshot),
        )
        wanted = checkpoint_adopt.ADOPT_CHECKPOINT.request(params)
        return await self._operations.answer(vm_id_of(request.parent, "parent"), wanted, request)

    async def IgnoreCheckpoint(self, request: pb.IgnoreCheckpointRequest, context: Context) -> pb.ForeignCheckpoint:
        """Note that somebody has looked at a foreign checkpoint, or take that back."""
        vm_id, checkpoint_id = vm_id_of(request.parent, "parent"), checkpoint_id_of(request.checkpoint_id)
        why = words_of(request.reason, "reason")
        noted = c.IgnoreCheckpoint(checkpoint_id=checkpoint_id, why=why)
        command = c.IgnoreCheckpointNoMore(checkpoint_id=checkpoint_id) if request.undo else noted
        vm = await self._laid_down(vm_id, command, request)
        return foreign_message(reported_checkpoint(vm, checkpoint_id), vm)

    async def RevertToSnapshot(self, request: pb.RevertToSnapshotRequest, context: Context) -> Operation:
        """Revert a VM to a snapshot."""
        vm_id, snapshot_id = snapshot_id_of(request.name)
        change = request.power_state_change
        if change not in pb.RevertToSnapshotRequest.PowerStateChange.values():
            raise InvalidArgument("power_state_change", str(change), "must be ALLOW or REFUSE.")
        if request.power_after not in _POWERS_AFTER:
            raise InvalidArgument("power_after", str(request.power_after), "must be AS_SNAPSHOT, RUNNING or AS_BEFORE.")
        params = snapshot_revert.Params(
            snapshot_id,
            refuse_power_change=change == pb.RevertToSnapshotRequest.REFUSE,
            power_after=_POWERS_AFTER[request.power_after],
            safety=self._safety(request),
            require_memory=request.require_memory,
        )
        return await self._operations.answer(vm_id, snapshot_revert.REVERT_TO_SNAPSHOT.request(params), request)

    def _safety(self, request: pb.RevertToSnapshotRequest) -> Safety | None:
        """Return the safety snapshot that is asked for, if one is. Raises InvalidArgument for a name alone."""
        name = request.safety_snapshot_name
        if request.safety_snapshot:
            return Safety(SnapshotId(self._backend.ids.fresh()), name)
        if name:
            raise InvalidArgument("safety_snapshot_name", name[:40], "goes with safety_snapshot only.")
        return None

    async def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, context: Context) -> Operation:
        """Delete a snapshot."""
        vm_id, snapshot_id = snapshot_id_of(request.name)
        scopes = pb.DeleteSnapshotRequest
        scope = request.scope or scopes.ONE
        if scope not in scopes.Scope.values():
            text = "must be ONE, WITH_DESCENDANTS or ONLY_DESCENDANTS."
            raise InvalidArgument("scope", str(request.scope), text)
        if request.forget:
            if scope != scopes.ONE:
                raise InvalidArgument("scope", str(request.scope), "must be ONE: snapshots are forgotten one by one.")
            wanted = snapshot_forget.FORGET_SNAPSHOT.request(snapshot_forget.Params(snapshot_id))
            return await self._operations.answer(vm_id, wanted, request)
        params = snapshot_delete.Params(snapshot_id, snapshot_delete.Scope[scopes.Scope.Name(scope)])
        return await self._operations.answer(vm_id, snapshot_delete.DELETE_SNAPSHOT.request(params), request)

    async def HoldSnapshot(self, request: pb.HoldSnapshotRequest, context: Context) -> pb.Snapshot:
        """Keep a snapshot from being deleted by anyone until it is released."""
        vm_id, snapshot_id = snapshot_id_of(request.name)
        why = words_of(request.reason, "reason")
        vm = await self._laid_down(vm_id, c.HoldSnapshot(snapshot_id=snapshot_id, why=why), request)
        return await self._held(vm, snapshot_id)

    async def ReleaseSnapshot(self, request: pb.ReleaseSnapshotRequest, context: Context) -> pb.Snapshot:
        """Allow again that a snapshot is deleted."""
        vm_id, snapshot_id = snapshot_id_of(request.name)
        vm = await self._laid_down(vm_id, c.ReleaseSnapshot(snapshot_id=snapshot_id), request)
        return await self._held(vm, snapshot_id)

    async def _held(self, vm: VirtualMachine, snapshot_id: SnapshotId) -> pb.Snapshot:
        # The request may be a repetition, after the snapshot was removed and the fold has forgotten it.
        return snapshot_message(vm.snapshots.get(snapshot_id) or await self._backend.snapshot(vm, snapshot_id), vm)

    async def _laid_down(
        self,
        vm_id: VmId,
        command: c.FactCommand,
        request: pb.HoldSnapshotRequest | pb.ReleaseSnapshotRequest | pb.IgnoreCheckpointRequest,
    ) -> VirtualMachine:
        """Return a VM of which a fact was recorded. That is durable, so it is told from the record itself."""
        actor, request_id, digest = caller().actor, request_id_of(request.request_id), digest_of(request)
        runtime = self._backend.runtime
        decided = await self._operations.by_a_fresh_record(
            vm_id, lambda: runtime.request(vm_id, command, actor=actor, request_id=request_id, digest=digest)
        )
        return decided.vm

    async def DeleteAllSnapshots(self, request: pb.DeleteAllSnapshotsRequest, context: Context) -> Operation:
        """Delete all snapshots of a VM, or those with memory."""
        vm_id = vm_id_of(request.parent, "parent")
        params = snapshot_delete_all.Params(only_with_memory=request.only_with_memory)
        wanted = snapshot_delete_all.DELETE_ALL_SNAPSHOTS.request(params)
        return await self._operations.answer(vm_id, wanted, request)

    async def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Context) -> pb.Snapshot:
        """Return a snapshot of a registered VM, also one that is REMOVED."""
        vm_id, snapshot_id = snapshot_id_of(request.name)
        vm = await self._backend.vm(vm_id)
        return snapshot_message(await self._backend.snapshot(vm, snapshot_id), vm)

    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Context) -> pb.ListSnapshotsResponse:
        """Return a VM's snapshots, or all."""
        size, matches = page_size_of(request.page_size), matcher(request.filter, _FILTERS, lambda s: s.labels, _WORDS)
        matches = await narrowed_to_vms(matches, self._backend, lambda snapshot: snapshot.vm_id)
        arguments = (request.parent, request.filter, request.order_by, str(request.show_deleted))
        page = SortedPage(request.order_by, request.page_token, SNAPSHOT_FIELDS, _ORDERS, "create_time", arguments)
        vm = None if request.parent == _EVERY_VM else await self._backend.vm(vm_id_of(request.parent, "parent"))
        views = await self._backend.seen("inventory", "tree")
        vms: dict[VmId, VmRecord | None] = {} if vm is None else {vm.vm_id: vm}

        async def find(query: PageQuery) -> Sequence[Snapshot]:
            return await views.snapshots(vm.vm_id if vm else None, query, removed=request.show_deleted)

        async def build(some: Sequence[Snapshot]) -> Sequence[pb.Snapshot]:
            for vm_id in {s.vm_id for s in some} - vms.keys():
                vms[vm_id] = await views.vm(vm_id)
            of_vms = [(s, record) for s in some if (record := vms[s.vm_id]) is not None]
            # In a thread: what a VM has of disks and files can take longer than the loop may be held.
            return await asyncio.to_thread(lambda: [snapshot_message(s, record) for s, record in of_vms])

        snapshots, token = await page.read(find, matches, size, build)
        return pb.ListSnapshotsResponse(snapshots=snapshots, next_page_token=token)

    async def GetSnapshotTree(self, request: pb.GetSnapshotTreeRequest, context: Context) -> pb.SnapshotTree:
        """Return a VM's snapshots, with foreign checkpoints among them, as a tree."""
        vm_id = vm_id_of(request.name)
        point = point_of(request.WhichOneof("as_of"), request.as_of_time, request.as_of_version)
        if point is not None:
            then = await past(self._backend, vm_id, point)
            return await asyncio.to_thread(tree_message, then.vm, then.snapshots.values(), None)
        return await tree_now(self._backend, await self._backend.vm(vm_id))

    async def WatchSnapshotTree(
        self, request: pb.WatchSnapshotTreeRequest, context: Context
    ) -> AsyncIterator[pb.SnapshotTree]:
        """Yield a VM's tree, and again after each change."""
        async for tree in watched_tree(self._backend, vm_id_of(request.name)):
            yield tree


def _said(asked: pb.Snapshot) -> SnapshotDetails:
    """Return what a request says of a snapshot. Raises InvalidArgument."""
    return SnapshotDetails(
        name=asked.display_name,
        description=asked.description,
        labels=dict(asked.labels),
        expire_at=time_of(asked.expire_time, "snapshot.expire_time") if asked.HasField("expire_time") else None,
    )


def _the_snapshot(result: TheSnapshot, now: Resources) -> pb.Snapshot:
    assert now.snapshot is not None, result
    assert now.snapshot.snapshot_id == result.snapshot_id, result
    return snapshot_message(now.snapshot, now.vm)


def _reverted(result: snapshot_revert.Reverted, now: Resources) -> pb.RevertToSnapshotResponse:
    return pb.RevertToSnapshotResponse(
        virtual_machine=now.message,
        snapshot=snapshot_name(now.vm.vm_id, result.snapshot_id),
        safety_snapshot=snapshot_name(now.vm.vm_id, result.safety_id),
        memory_lost=result.memory_lost,
    )


def _removed(result: deletion.Removed, now: Resources) -> pb.DeleteSnapshotResponse:
    removed = [snapshot_name(now.vm.vm_id, snapshot_id) for snapshot_id in result.snapshot_ids]
    return pb.DeleteSnapshotResponse(removed=removed, current_snapshot=now.message.current_snapshot)


def _all_removed(result: snapshot_delete_all.Outcome, now: Resources) -> pb.DeleteAllSnapshotsResponse:
    removed = [snapshot_name(now.vm.vm_id, snapshot_id) for snapshot_id in result.removed]
    return pb.DeleteAllSnapshotsResponse(removed=removed)


def _not_all_removed(result: snapshot_delete_all.Outcome, operation: OperationRecord) -> pb.DeleteAllSnapshotsResponse:
    removed = [snapshot_name(operation.vm_id, snapshot_id) for snapshot_id in result.removed]
    response = pb.DeleteAllSnapshotsResponse(removed=removed)
    for snapshot_id, failure in result.failures:
        message = failure_message(failure, operation.ended_at)
        response.failures[snapshot_name(operation.vm_id, snapshot_id)].CopyFrom(message)
    return response
