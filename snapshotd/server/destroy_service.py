"""VirtualMachineService, in part: destroys VMs."""

from __future__ import annotations

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceServicer
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.ids import VmId
from snapshotd.domain.own_files import UsedFile
from snapshotd.operations import vm_destroy
from snapshotd.server.backend import Backend
from snapshotd.server.interceptors import Context
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.requests import vm_id_of


class DestroyMethods(VirtualMachineServiceServicer):
    """The method of the servicer that destroys a VM."""

    _backend: Backend
    _operations: OperationReader

    async def DestroyVirtualMachine(self, request: pb.DestroyVirtualMachineRequest, context: Context) -> Operation:
        """Remove a VM from its host, with all its snapshots, and with its disks if that is asked for."""
        vm_id = vm_id_of(request.name)
        if "" in request.foreign_checkpoints:
            raise InvalidArgument("foreign_checkpoints", "", "must hold names or ids of checkpoints.")
        params = vm_destroy.Params(
            delete_disks=request.delete_disks,
            foreign_checkpoints=tuple(sorted(set(request.foreign_checkpoints))),
            used=await self._used_by_others(vm_id, request) if request.delete_disks else (),
        )
        wanted = vm_destroy.DESTROY_VIRTUAL_MACHINE.request(params)
        return await self._operations.answer(vm_id, wanted, request)

    async def _used_by_others(self, vm_id: VmId, request: pb.DestroyVirtualMachineRequest) -> tuple[UsedFile, ...]:
        """Return those of a VM's files that others have. First it is looked at, so that none of them is overlooked."""
        await self._backend.reports.look(vm_id)
        return await self._backend.claims.used_by_others(vm_id, recorded=not request.validate_only)
