"""VirtualMachineService, in part: long work that needs a file, which belongs to its VM alone from the request on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceServicer
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.ids import VmId
from snapshotd.domain.state import replace
from snapshotd.server.backend import Backend
from snapshotd.server.callers import caller
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.requests import digest_of, request_id_of


class ClaimingMethods(VirtualMachineServiceServicer):
    """What the methods of the servicer have in common that claim a file."""

    _backend: Backend
    _operations: OperationReader

    async def _claiming(
        self,
        path: str,
        vm_id: VmId,
        wanted: RequestOperation,
        request: pb.AttachVolumeRequest | pb.DeleteVolumeSnapshotRequest,
        *,
        refuse: Callable[[], Awaitable[None]],
        cause: ClaimCause,
    ) -> Operation:
        """Answer a request with its operation, while a file belongs to its VM; or with the plan, if it only validates.

        Args:
            path: of the file.
            vm_id: of the VM.
            wanted: what the call asks for.
            request: of the call.
            refuse: raises what others than the VM refuse it with.
            cause: why the file is claimed.

        Raises what refuses it. Whatever can, does so before anything is recorded: so is the claim.
        """
        actor, request_id = caller().actor, request_id_of(request.request_id)
        if not request.validate_only and await self._answered(vm_id, actor, request_id, digest_of(request)):
            return await self._operations.answer(vm_id, wanted, request)
        await self._consider(vm_id, replace(wanted, expected_plan=request.expected_plan), actor)
        await refuse()
        if request.validate_only:
            return await self._operations.answer(vm_id, wanted, request)
        return await self._backend.claims.with_claim(
            path,
            vm_id,
            lambda: self._operations.answer(vm_id, wanted, request),
            cause=cause,
            actor=actor,
            request_id=request_id,
        )

    async def _answered(self, vm_id: VmId, actor: str, request_id: str, digest: str) -> bool:
        """Return whether a request was answered before: then it claims nothing. Raises RequestIdReused."""
        vm = await self._backend.runtime.load(vm_id)
        return answered_before(vm.requests, actor, request_id, digest) is not None

    async def _consider(self, vm_id: VmId, wanted: RequestOperation, actor: str) -> None:
        """Raise what the VM itself refuses a request with."""

        async def consider() -> None:
            await self._backend.vms.consider(vm_id, wanted, actor=actor, request_id="", digest="")

        await self._operations.by_a_fresh_record(vm_id, consider)
