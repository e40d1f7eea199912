"""The calls of VirtualMachineService about volume snapshots: takes, shows and deletes copies of disks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.domain.errors import InvalidArgument, NotFound
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.ids import VolumeSnapshotId
from snapshotd.domain.volume_snapshot import VolumeSnapshot
from snapshotd.operations import volume_snapshot_delete, volume_snapshot_take
from snapshotd.operations.volume_snapshots import Gone, TheVolumeSnapshot
from snapshotd.ports.views import VOLUME_SNAPSHOT_FIELDS, PageQuery
from snapshotd.server.backend import Backend
from snapshotd.server.claiming import ClaimingMethods
from snapshotd.server.interceptors import Context
from snapshotd.server.listing import Fields, Id, SortedPage, matcher, values_of
from snapshotd.server.operation_reader import OperationReader, Resources
from snapshotd.server.requests import page_size_of, vm_id_of, volume_snapshot_id_of
from snapshotd.server.seeing import narrowed_to_vms
from snapshotd.server.volume_snapshot_messages import volume_snapshot_message

_EVERY_VM: Final = "virtualMachines/-"
_ORDERS: Final = ("create_time", "display_name")
_LONGEST_LOCATION: Final = 20
_FILTERS: Final[Fields[VolumeSnapshot]] = {
    "uid": lambda copy: Id(copy.volume_snapshot_id),
    "display_name": lambda copy: copy.name,
    "location": lambda copy: copy.location,
    "state": lambda copy: copy.state.name,
}
_WORDS: Final = {"state": values_of(pb.VolumeSnapshot.State.keys())}


class VolumeSnapshotCalls(ClaimingMethods):
    """A part of the servicer.

    Args:
        backend: of the server.
        operations: makes the answers of long work.
    """

    def __init__(self, backend: Backend, operations: OperationReader) -> None:
        self._backend = backend
        self._operations = operations
        operations.writes(TheVolumeSnapshot, _the_volume_snapshot)
        operations.writes(Gone, lambda _, __: Empty())

    async def TakeVolumeSnapshot(self, request: pb.TakeVolumeSnapshotRequest, context: Context) -> Operation:
        """Copy one disk."""
        vm_id, asked = vm_id_of(request.parent, "parent"), request.volume_snapshot
        location = asked.location.upper()
        if not 0 < len(location) <= _LONGEST_LOCATION:
            text = 'must be the place of a disk, such as "SCSI:0:1".'
            raise InvalidArgument("volume_snapshot.location", asked.location[:40], text)
        host_id = (await self._backend.runtime.load(vm_id)).host_id
        params = volume_snapshot_take.Params(
            volume_snapshot_id=VolumeSnapshotId(self._backend.ids.fresh()),
            name=asked.display_name,
            location=location,
            directory=self._backend.policy.volume_snapshot_directory(host_id),
            allow_fallback=request.allow_fallback,
        )
        wanted = volume_snapshot_take.TAKE_VOLUME_SNAPSHOT.request(params)
        return await self._operations.answer(vm_id, wanted, request)

    async def DeleteVolumeSnapshot(self, request: pb.DeleteVolumeSnapshotRequest, context: Context) -> Operation:
        """Delete a copy, unless a VM has its file. From the request to the end, no VM gets that."""
        vm_id, volume_snapshot_id = volume_snapshot_id_of(request.name)
        params = volume_snapshot_delete.Params(volume_snapshot_id)
        wanted = volume_snapshot_delete.DELETE_VOLUME_SNAPSHOT.request(params)
        copy = (await self._backend.runtime.load(vm_id)).volume_snapshots.get(volume_snapshot_id)
        if copy is None or not copy.path:
            return await self._operations.answer(vm_id, wanted, request)
        path = copy.path

        async def refuse() -> None:
            await self._backend.claims.refuse_used(path, vm_id, "delete")

        return await self._claiming(path, vm_id, wanted, request, refuse=refuse, cause=ClaimCause.DELETION)

    async def GetVolumeSnapshot(self, request: pb.GetVolumeSnapshotRequest, context: Context) -> pb.VolumeSnapshot:
        """Return a copy, in whatever state, also of a VM that is not registered any more."""
        vm_id, volume_snapshot_id = volume_snapshot_id_of(request.name)
        copy = await (await self._backend.seen("tree")).volume_snapshot(vm_id, volume_snapshot_id)
        if copy is None:
            raise NotFound("volume snapshot", volume_snapshot_id, "See `snapshotctl volume-snapshot list`.")
        return volume_snapshot_message(copy)

    async def ListVolumeSnapshots(
        self, request: pb.ListVolumeSnapshotsRequest, context: Context
    ) -> pb.ListVolumeSnapshotsResponse:
        """Return the copies of a VM's disks, or of all VMs'."""
        size, matches = page_size_of(request.page_size), matcher(request.filter, _FILTERS, words=_WORDS)
        matches = await narrowed_to_vms(matches, self._backend, lambda copy: copy.vm_id)
        arguments = ("volume snapshots", request.parent, request.filter, request.order_by, str(request.show_deleted))
        fields = VOLUME_SNAPSHOT_FIELDS
        page = SortedPage(request.order_by, request.page_token, fields, _ORDERS, "create_time", arguments)
        vm_id = None if request.parent == _EVERY_VM else vm_id_of(request.parent, "parent")
        views = await self._backend.seen("inventory", "tree")
        if vm_id is not None and await views.vm(vm_id) is None:
            raise NotFound("virtual machine", vm_id, "See `snapshotctl vm list`, or register it.")

        async def find(query: PageQuery) -> Sequence[VolumeSnapshot]:
            return await views.volume_snapshots(vm_id, query, removed=request.show_deleted)

        async def build(some: Sequence[VolumeSnapshot]) -> Sequence[pb.VolumeSnapshot]:
            return [volume_snapshot_message(copy) for copy in some]

        copies, token = await page.read(find, matches, size, build)
        return pb.ListVolumeSnapshotsResponse(volume_snapshots=copies, next_page_token=token)


def _the_volume_snapshot(result: TheVolumeSnapshot, now: Resources) -> pb.VolumeSnapshot:
    assert now.volume_snapshot is not None, result
    return volume_snapshot_message(now.volume_snapshot)
