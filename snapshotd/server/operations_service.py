"""google.longrunning.Operations: reads operations, waits for their end, and cancels them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final

from google.longrunning import operations_pb2 as pb
from google.longrunning.operations_pb2_grpc import OperationsServicer
from google.protobuf.empty_pb2 import Empty

from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.domain.commands import CancelOperation
from snapshotd.domain.errors import CancelTooLate, InvalidArgument
from snapshotd.domain.ids import parse_operation_name, vm_of
from snapshotd.domain.operation import Operation
from snapshotd.domain.storage_errors import NOT_READ
from snapshotd.operations.catalogue import KINDS
from snapshotd.ports.plain import decode_time, encode_time
from snapshotd.ports.views import Compare, Where
from snapshotd.server.backend import Backend
from snapshotd.server.callers import Actor, actor_named, caller
from snapshotd.server.interceptors import Context
from snapshotd.server.listing import Columns, Fields, Id, Value, equal, matcher, read_token, values_of, write_token
from snapshotd.server.operation_messages import kind_message, snapshot_name, vm_name
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.paging import Rows, read_page
from snapshotd.server.requests import operation_of, page_size_of, timeout_of
from snapshotd.server.seeing import narrowed_to_vms

_LONGEST_WAIT_S: Final = 3600.0
_LOOK_AGAIN_S: Final = 60.0
"""A wait looks again so often, whether it was woken or not: a defect is to cost a minute, and not the whole wait."""


def _state(operation: Operation) -> Value:
    return operation.state.name


FILTERS: Fields[Operation] = {
    "state": _state,
    "tag": lambda operation: Id(operation.name.rpartition("-")[2]),
    "done": lambda operation: "false" if operation.active else "true",
    "kind": lambda operation: OperationMetadata.Kind.Name(kind_message(operation.kind)),
    "virtual_machine": lambda operation: vm_name(operation.vm_id),
    "snapshot": lambda operation: snapshot_name(operation.vm_id, operation.snapshot_id),
    "actor": lambda operation: Actor(operation.actor),
    "create_time": lambda operation: operation.requested_at,
    "end_time": lambda operation: operation.ended_at,
}


WORDS: Final = {
    "state": values_of(OperationMetadata.State.keys()),
    "kind": values_of(OperationMetadata.Kind.keys()),
    "done": ("true", "false"),
}
"""All values of fields that have few."""


def _requested(compare: Compare, value: str) -> Sequence[Where]:
    """Return what a comparison with a time means for the column; nothing, if it is none: `matcher` refuses that."""
    with suppress(ValueError, OverflowError):
        return [Where("requested_at", compare, encode_time(decode_time(value)))]
    return []


COLUMNS: Columns = {
    "state": equal("state"),
    "done": equal("done"),
    # The API may have no name for one.
    "kind": lambda compare, value: equal("kind")(compare, value) if value in KINDS else [],
    "virtual_machine": equal("vm_id", lambda name: name.removeprefix("virtualMachines/")),
    "snapshot": equal("snapshot_id", lambda name: name.rpartition("/")[2]),
    "actor": equal("actor", actor_named),
    "create_time": _requested,
}
"""What the columns of operations tell of a filter."""


def _written(place: tuple[datetime, str]) -> str:
    """Return the text of a place among operations, for a page token."""
    return f"{encode_time(place[0])} {place[1]}"


def _place(text: str) -> tuple[datetime, str]:
    """Return the place in a text that `_written` returned. Raises ValueError, OverflowError."""
    time, _, name = text.partition(" ")
    if encode_time(decode_time(time)) != time or parse_operation_name(name) is None:
        raise ValueError(f"{text[:100]!r} is no place")
    return decode_time(time), name


class OperationsService(OperationsServicer):
    """The servicer.

    Args:
        backend: of the server.
        operations: makes the messages.
    """

    def __init__(self, backend: Backend, operations: OperationReader) -> None:
        self._backend = backend
        self._operations = operations

    async def GetOperation(self, request: pb.GetOperationRequest, context: Context) -> pb.Operation:
        """Return an operation as it is now."""
        return await self._operations.message(await self._backend.operation(operation_of(request.name)))

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        """Return operations, the last requested first, without their responses."""
        if request.name not in ("", "operations"):
            raise InvalidArgument("name", request.name[:100], "must be 'operations', or empty.")
        size, matches = page_size_of(request.page_size), matcher(request.filter, FILTERS, words=WORDS)
        matches = await narrowed_to_vms(matches, self._backend, lambda operation: operation.vm_id)
        views = await self._backend.seen("operations")
        before = read_token(request.page_token, _place, "operations", request.filter)
        fetch = partial(views.operations, where=matches.where(COLUMNS))
        rows = Rows(fetch, lambda o: (o.requested_at, str(o.name)), matches)

        async def build(some: Sequence[Operation]) -> Sequence[pb.Operation]:
            return [self._operations.listed(operation) for operation in some]

        page = await read_page(rows, before, size, build)
        token = write_token(_written(page.end), "operations", request.filter) if page.end else ""
        return pb.ListOperationsResponse(operations=page.entries, next_page_token=token)

    async def WaitOperation(self, request: pb.WaitOperationRequest, context: Context) -> pb.Operation:
        """Return an operation when it has ended, or when the time is up."""
        name = operation_of(request.name)
        asked_s = timeout_of(request.timeout, "timeout") if request.HasField("timeout") else _LONGEST_WAIT_S
        loop = asyncio.get_running_loop()
        until = loop.time() + min(asked_s, _LONGEST_WAIT_S)
        with self._backend.runtime.waiting.of(name) as ended:
            while (operation := await self._backend.operation(name)).active and (left_s := until - loop.time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, _LOOK_AGAIN_S)):
                        await ended.wait()
        return await self._operations.message(operation)

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Context) -> Empty:
        """End an operation as soon as that is safe."""
        actor, name = caller().actor, operation_of(request.name)
        with suppress(*NOT_READ):  # the core knows by itself what is active
            operation = await self._backend.operation(name)
            if not operation.active:  # also one that the aggregate has forgotten since
                raise CancelTooLate(operation.name, operation.state.name, "it has ended")
        await self._backend.runtime.request(vm_of(name), CancelOperation(name=name), actor=actor)
        return Empty()
