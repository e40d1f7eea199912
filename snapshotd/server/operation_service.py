"""OperationService: operations as they come forward. To get, list, wait for and cancel them: operations_service.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Final, TypeAlias

from google.longrunning.operations_pb2 import Operation as OperationMessage

from snapshotd.api.v1 import operation_pb2 as pb
from snapshotd.api.v1.operation_pb2_grpc import OperationServiceServicer
from snapshotd.domain.ids import OperationName
from snapshotd.domain.operation import Operation
from snapshotd.ports.views import Views
from snapshotd.server.backend import Backend
from snapshotd.server.interceptors import Context
from snapshotd.server.listing import Filter, matcher
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.operations_service import COLUMNS, FILTERS, WORDS
from snapshotd.server.paging import Rows, in_slices, slices_of
from snapshotd.server.seeing import narrowed_to_vms
from snapshotd.server.watching import HEARTBEAT_S

_LOOK_S: Final = 1.0
"""What active operations wait for, and the like, is on no record: it is looked at so often."""
_BATCH: Final = 500
"""Events whose operations are looked up at a time."""


_Told: TypeAlias = tuple[Operation, object]
"""An operation as it was last sent: what is on record of it, and what is not."""


class OperationService(OperationServiceServicer):
    """The servicer.

    Args:
        backend: of the server.
        operations: makes the messages.
        heartbeat_s: while nothing changes, a watch sends an empty answer so often.
    """

    def __init__(self, backend: Backend, operations: OperationReader, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._backend = backend
        self._operations = operations
        self._heartbeat_s = heartbeat_s

    async def WatchOperations(
        self, request: pb.WatchOperationsRequest, context: Context
    ) -> AsyncIterator[pb.WatchOperationsResponse]:
        """Yield the operations that meet a filter, and then each again when it has changed."""
        wanted = matcher(request.filter, FILTERS, words=WORDS)
        matches = await narrowed_to_vms(wanted, self._backend, lambda operation: operation.vm_id)
        watched = _Watched(self._backend.views, self._operations, matches)
        loop, log = asyncio.get_running_loop(), self._backend.log
        position = log.head_position()
        await self._backend.views.reached(position, ["operations", "audit"])
        async for operation in watched.present():
            yield pb.WatchOperationsResponse(operation=self._message(operation))
        yield pb.WatchOperationsResponse(complete=True)
        told_s = loop.time()
        while True:
            left_s = told_s + self._heartbeat_s - loop.time()
            await self._backend.ending.unless("WatchOperations", log.wait_past(position, min(_LOOK_S, left_s)))
            if (head := log.head_position()) > position:
                await self._backend.views.reached(head, ["operations", "audit"])
            async for operation in watched.changed(position):
                yield pb.WatchOperationsResponse(operation=self._message(operation), complete=True)
                told_s = loop.time()
            position = head
            if loop.time() - told_s >= self._heartbeat_s:
                yield pb.WatchOperationsResponse(complete=True)
                told_s = loop.time()

    def _message(self, operation: Operation) -> OperationMessage:
        return self._operations.listed(operation)


class _Watched:
    """What one watch has sent of the operations that are still active, so that it notices what changes.

    Args:
        views: where operations are read.
        operations: tells what is on no record.
        matches: the filter.
    """

    def __init__(self, views: Views, operations: OperationReader, matches: Filter[Operation]) -> None:
        self._views = views
        self._operations = operations
        self._matches = matches
        self._told: dict[OperationName, _Told] = {}
        self._ended: set[OperationName] = set()
        self._ended_before: set[OperationName] = set()
        """Those that were sent as ended in this round, and in the one before. An operation is read from a view that may
        be ahead of the round, so that its last events belong to the next one."""

    async def present(self) -> AsyncIterator[Operation]:
        """Yield the operations that match now, the last requested first."""
        fetch = partial(self._views.operations, where=self._matches.where(COLUMNS))
        rows = Rows(fetch, lambda o: (o.requested_at, str(o.name)), self._matches)
        async for some in slices_of(rows):
            for operation in some:
                if self._news(operation):
                    yield operation
        self._ended.clear()  # they may be many

    async def changed(self, position: int) -> AsyncIterator[Operation]:
        """Yield the operations that are to be sent, after a position of the log."""
        self._ended_before, self._ended = self._ended, set()
        while True:
            events = await self._views.operations_after(position, _BATCH)
            for name in dict.fromkeys(name for _, name in events):
                operation = await self._views.operation(name)
                if operation is not None and self._news(operation):
                    yield operation
            if len(events) < _BATCH:
                break
            position = events[-1][0]
        async for some in in_slices(self._told.values()):
            for operation, _ in some:
                if self._news(operation):
                    yield operation

    def _news(self, operation: Operation) -> bool:
        """Return whether an operation is to be sent: it matches or did when it was last sent, and differs from that."""
        if operation.name in self._ended or operation.name in self._ended_before:
            return False
        known = self._told.pop(operation.name, None)
        matches = self._matches(operation)
        if known is None and not matches:
            return False
        now = (operation, self._operations.unrecorded(operation))
        if not operation.active:
            self._ended.add(operation.name)
        elif matches:
            self._told[operation.name] = now
        return now != known
