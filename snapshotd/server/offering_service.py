"""VirtualMachineService, in part: changes the processors and memory of VMs."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.virtual_machine_pb2_grpc import VirtualMachineServiceServicer
from snapshotd.domain.errors import InvalidArgument
from snapshotd.operations import offering_change
from snapshotd.server.interceptors import Context
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.requests import vm_id_of

_GRAIN: Final = 2 << 20
"""Hyper-V takes amounts of memory that are multiples of it, and refuses others (observed)."""
_AMOUNTS: Final = ("memory_bytes", "minimum_bytes", "maximum_bytes")


class OfferingMethods(VirtualMachineServiceServicer):
    """The methods of the servicer that are about processors and memory."""

    _operations: OperationReader

    async def ChangeServiceOffering(self, request: pb.ChangeServiceOfferingRequest, context: Context) -> Operation:
        """Change processors and memory of a VM that is off."""
        vm_id, params = vm_id_of(request.name), _params(request.service_offering)
        wanted = offering_change.CHANGE_SERVICE_OFFERING.request(params)
        return await self._operations.answer(vm_id, wanted, request)


def _params(asked: pb.ServiceOffering) -> offering_change.Params:
    """Return what a request asks for. Raises InvalidArgument for what no VM could have."""
    if asked.cpu_count < 0:
        raise _wrong("cpu_count", asked.cpu_count, "must be 1 or more; 0 leaves it as it is.")
    for field in _AMOUNTS:
        if (size := getattr(asked, field)) < 0 or size % _GRAIN:
            raise _wrong(field, size, "must be a multiple of 2 MiB; 0 leaves it as it is.")
    given = [(f, size) for f in ("minimum_bytes", "memory_bytes", "maximum_bytes") if (size := getattr(asked, f))]
    for (less, low), (more, high) in pairwise(given):
        if low > high:
            raise _wrong(less, low, f"must not be above {more}, which is {high}.")
    params = offering_change.Params(
        cpu_count=asked.cpu_count or None,
        memory_bytes=asked.memory_bytes or None,
        dynamic_memory=asked.dynamic_memory if asked.HasField("dynamic_memory") else None,
        minimum_bytes=asked.minimum_bytes or None,
        maximum_bytes=asked.maximum_bytes or None,
    )
    if params == offering_change.Params():
        raise InvalidArgument("service_offering", "", "must have at least one field that is not 0: what to change.")
    return params


def _wrong(field: str, value: int, problem: str) -> InvalidArgument:
    return InvalidArgument(f"service_offering.{field}", str(value), problem)
