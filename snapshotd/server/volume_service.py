"""VirtualMachineService, in part: attaches, detaches and resizes the volumes of VMs."""

from __future__ import annotations

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.domain.attached import attached_at, place_of
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.state import replace
from snapshotd.operations import volume_attach, volume_detach, volume_resize
from snapshotd.server.callers import caller
from snapshotd.server.claiming import ClaimingMethods
from snapshotd.server.interceptors import Context
from snapshotd.server.requests import digest_of, request_id_of, vm_id_of


class VolumeMethods(ClaimingMethods):
    """The methods of the servicer that are about volumes."""

    async def AttachVolume(self, request: pb.AttachVolumeRequest, context: Context) -> Operation:
        """Attach a volume, a new one or a file that is there, which then belongs to the VM alone."""
        vm_id, claims = vm_id_of(request.name), self._backend.claims
        size_bytes = _size_of(request.size_bytes)
        params = volume_attach.Params(path=request.path, location=request.location, size_bytes=size_bytes)
        wanted = volume_attach.ATTACH_VOLUME.request(params)

        async def refuse() -> None:
            await claims.refuse_exported(request.path)
            await claims.refuse_used(request.path, vm_id, "attach")

        return await self._claiming(request.path, vm_id, wanted, request, refuse=refuse, cause=ClaimCause.REQUESTED)

    async def DetachVolume(self, request: pb.DetachVolumeRequest, context: Context) -> Operation:
        """Detach a volume; its file stays."""
        wanted = volume_detach.DETACH_VOLUME.request(volume_detach.Params(location=request.location))
        return await self._operations.answer(vm_id_of(request.name), wanted, request)

    async def ResizeVolume(self, request: pb.ResizeVolumeRequest, context: Context) -> Operation:
        """Grow a volume, or shrink it."""
        vm_id = vm_id_of(request.name)
        params = volume_resize.Params(
            location=request.location, size_bytes=_size_of(request.size_bytes), allow_shrink=request.allow_shrink
        )
        wanted = volume_resize.RESIZE_VOLUME.request(params)
        actor, request_id = caller().actor, request_id_of(request.request_id)
        if not await self._answered(vm_id, actor, request_id, digest_of(request)):
            await self._consider(vm_id, replace(wanted, expected_plan=request.expected_plan), actor)
            vm, place = await self._backend.runtime.load(vm_id), str(place_of(request.location))
            there = attached_at(vm.description, place) if vm.description else None
            if there is not None:
                await self._backend.claims.refuse_used(there.path, vm_id, "resize")
        return await self._operations.answer(vm_id, wanted, request)


def _size_of(size_bytes: int) -> int:
    """Return a size. Raises InvalidArgument for a negative one."""
    if size_bytes < 0:
        raise InvalidArgument("size_bytes", str(size_bytes), "must not be negative.")
    return size_bytes
