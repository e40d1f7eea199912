"""AuditService: reads the event log. The view tells which events match; the events come from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final, get_args

from snapshotd.api.v1 import audit_pb2 as pb
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceServicer
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.events import Envelope, Event, subject_of, transition_of
from snapshotd.domain.ids import OperationName
from snapshotd.ports import plain
from snapshotd.ports.views import EventQuery
from snapshotd.server.backend import Backend
from snapshotd.server.interceptors import Context, actor_of
from snapshotd.server.listing import number, read_token, write_token
from snapshotd.server.paging import Rows, read_page
from snapshotd.server.request_errors import OrderByInvalid
from snapshotd.server.requests import (
    host_id_of,
    operation_of,
    page_size_of,
    snapshot_id_of,
    time_of,
    vm_id_of,
)
from snapshotd.server.struct_values import struct_of
from snapshotd.server.wire_values import timestamp

_TYPES: Final = frozenset(cls.__name__ for cls in get_args(Event))
"""The names of the types of events."""
LARGEST_DATA: Final = 3 * 1024 * 1024
"""The bytes of the largest data of an event: with more, no caller would take the event, nor any page that it is in."""


class AuditService(AuditServiceServicer):
    """The servicer.

    Args:
        backend: of the server.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        """Return the events that meet every condition."""
        actor_of(context)
        if request.order_by not in ("", "position", "position asc", "position desc"):
            raise OrderByInvalid(request.order_by[:100], 'must be "position" or "position desc".')
        descending = request.order_by.endswith(" desc")
        size, query = page_size_of(request.page_size), _query(request)
        arguments = ("events", _conditions(request))
        after = read_token(request.page_token, number, *arguments)
        views = await self._backend.seen("audit")

        async def fetch(after: int | None, limit: int) -> Sequence[int]:
            return await views.event_positions(query, after or 0, limit, descending=descending) if query else ()

        async def build(some: Sequence[int]) -> Sequence[pb.Event]:
            envelopes = await self._backend.log.read_at(some)
            # In a thread: what a single event holds can take longer than the loop may be held.
            return await asyncio.to_thread(lambda: [_message(envelope) for envelope in envelopes])

        page = await read_page(Rows(fetch, lambda position: position), after, size, build)
        token = write_token(str(page.end), *arguments) if page.end else ""
        return pb.ListEventsResponse(events=page.entries, next_page_token=token)


def _message(envelope: Envelope) -> pb.Event:
    from_state, to_state = transition_of(envelope.event)
    data = struct_of(plain.encode(envelope.event))
    size = data.ByteSize()
    return pb.Event(
        position=envelope.position,
        stream=envelope.stream,
        version=envelope.version,
        event_id=envelope.event_id,
        time=timestamp(envelope.time),
        actor=envelope.actor,
        request_id=envelope.request_id,
        operation=envelope.operation or "",
        subject=_subject(envelope),
        type=type(envelope.event).__name__,
        from_state=from_state,
        to_state=to_state,
        data=data if size <= LARGEST_DATA else None,
        omitted_data_bytes=size if size > LARGEST_DATA else 0,
    )


def _query(request: pb.ListEventsRequest) -> EventQuery | None:
    """Return the query. It is None if no event can match: the snapshot is of another VM. Raises InvalidArgument."""
    if request.type and request.type not in _TYPES:
        known = ", ".join(sorted(_TYPES))
        raise InvalidArgument("type", request.type[:100], f"must be a type of event: {known}.")
    vm_id = vm_id_of(request.virtual_machine, "virtual_machine") if request.virtual_machine else None
    owner, snapshot_id = snapshot_id_of(request.snapshot, "snapshot") if request.snapshot else (vm_id, None)
    operation: OperationName | None = None
    if request.operation:
        operation = operation_of(request.operation, "operation")
    query = EventQuery(
        vm_id=owner,
        host_id=host_id_of(request.host, "host") if request.host else None,
        snapshot_id=snapshot_id,
        operation=operation,
        actor=request.actor or None,
        event_type=request.type or None,
        since=_utc(request, "start_time"),
        until=_utc(request, "end_time"),
    )
    return query if vm_id in (None, owner) else None


def _utc(request: pb.ListEventsRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # the stubs take only literal names
        return None
    return time_of(getattr(request, field), field)


def _conditions(request: pb.ListEventsRequest) -> str:
    """Return what a page token is bound to: every condition, but not page size or token."""
    copy = pb.ListEventsRequest()
    copy.CopyFrom(request)
    copy.ClearField("page_size")
    copy.ClearField("page_token")
    return copy.SerializeToString(deterministic=True).hex()


def _subject(envelope: Envelope) -> str:
    """Return the resource name of an event's subject."""
    owner = envelope.stream.partition("/")[2]
    kind, _, name = subject_of(envelope).partition("/")
    match kind:
        case "host":
            return f"hosts/{owner}"
        case "snapshot":
            return f"virtualMachines/{owner}/snapshots/{name}"
        case "operation":
            return str(envelope.operation)
        case "step":
            return f"{envelope.operation}/steps/{name.partition('.')[2]}"
        case _:
            return f"virtualMachines/{owner}"
