"""AuditService: reads the event log. The view tells which events match; the events come from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Final, get_args

from snapshotd.api.v1 import audit_pb2 as pb
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceServicer
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.events import Event
from snapshotd.domain.ids import OperationName
from snapshotd.ports.views import EventQuery
from snapshotd.server.backend import Backend
from snapshotd.server.callers import actor_named
from snapshotd.server.event_messages import event_message, names_in
from snapshotd.server.interceptors import Context
from snapshotd.server.listing import number, read_token, write_token
from snapshotd.server.paging import Rows, read_page, slices_of
from snapshotd.server.request_errors import OrderByInvalid, PositionUnknown
from snapshotd.server.requests import (
    host_id_of,
    operation_of,
    page_size_of,
    snapshot_id_of,
    time_of,
    vm_id_of,
)
from snapshotd.server.watching import HEARTBEAT_S

_TYPES: Final = frozenset(cls.__name__ for cls in get_args(Event))
"""The names of the types of events."""
_MOST_VALUES: Final = 100
"""The most types, and the most actors, that one request may name."""


class AuditService(AuditServiceServicer):
    """The servicer.

    Args:
        backend: of the server.
        heartbeat_s: while nothing matches, a watch tells so often how far it has come.
    """

    def __init__(self, backend: Backend, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._backend = backend
        self._heartbeat_s = heartbeat_s

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        """Return the events that meet every condition."""
        if request.order_by not in ("", "position", "position asc", "position desc"):
            raise OrderByInvalid(request.order_by[:100], 'must be "position" or "position desc".')
        descending = request.order_by.endswith(" desc")
        size, query = page_size_of(request.page_size), _query(request)
        arguments = ("events", _conditions(request))
        after = read_token(request.page_token, number, *arguments)
        views = await self._backend.seen("audit")

        async def fetch(after: int | None, limit: int) -> Sequence[int]:
            return await views.event_positions(query, after or 0, limit, descending=descending) if query else ()

        page = await read_page(Rows(fetch, lambda position: position), after, size, self._messages)
        token = write_token(str(page.end), *arguments) if page.end else ""
        return pb.ListEventsResponse(events=page.entries, next_page_token=token)

    async def WatchEvents(self, request: pb.WatchEventsRequest, context: Context) -> AsyncIterator[pb.Event]:
        """Yield the events after a position, and then each new one as soon as it is in the log.

        Which events match is read from the view, once that holds the log up to its head: so none is left out. Only a
        slice of them is in memory at a time, however slowly they are taken.
        """
        query, position = _watched(request), request.after_position
        await self._check_known(position, request.after_event_id)
        log, views, loop = self._backend.log, self._backend.views, asyncio.get_running_loop()

        async def fetch(after: int | None, limit: int) -> Sequence[int]:
            return await views.event_positions(query, after or 0, limit, descending=False)

        told_s, caught_up = loop.time(), False
        while True:
            if (head := log.head_position()) > position:
                await views.reached(head, ["audit"])
                async for some in slices_of(Rows(fetch, lambda position: position), position):
                    for message in await self._messages(some):
                        yield message
                        position, told_s = message.position, loop.time()
                position = max(position, head)
            if not caught_up or loop.time() - told_s >= self._heartbeat_s:
                yield pb.Event(position=position)
                told_s, caught_up = loop.time(), True
            left_s = told_s + self._heartbeat_s - loop.time()
            await self._backend.ending.unless("WatchEvents", log.wait_past(position, left_s))

    async def _check_known(self, position: int, event_id: str) -> None:
        """Raise PositionUnknown if this is not the log that a caller has read up to a position."""
        if position < 0:
            raise InvalidArgument("after_position", str(position), "must not be negative.")
        head = self._backend.log.head_position()
        if position > head:
            raise PositionUnknown(position, head)
        if event_id:
            try:
                (there,) = await self._backend.log.read_at([position])
            except KeyError:
                raise PositionUnknown(position, head) from None
            if there.event_id != event_id:
                raise PositionUnknown(position, head)

    async def _messages(self, positions: Sequence[int]) -> Sequence[pb.Event]:
        """Return the messages of a few events."""
        envelopes = await self._backend.log.read_at(positions)
        names = await names_in(self._backend.views, envelopes)
        # In a thread: what a single event holds can take longer than the loop may be held.
        return await asyncio.to_thread(lambda: [event_message(envelope, names) for envelope in envelopes])


def _query(request: pb.ListEventsRequest) -> EventQuery | None:
    """Return the query. It is None if no event can match: the snapshot is of another VM. Raises InvalidArgument."""
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
        actors=_some("actors", map(actor_named, [request.actor, *request.actors])),
        event_types=_types([request.type, *request.types]),
        since=_utc(request, "start_time"),
        until=_utc(request, "end_time"),
    )
    return query if vm_id in (None, owner) else None


def _watched(request: pb.WatchEventsRequest) -> EventQuery:
    """Return the query of a watch. Raises InvalidArgument."""
    return EventQuery(
        vm_id=vm_id_of(request.virtual_machine, "virtual_machine") if request.virtual_machine else None,
        actors=_some("actors", map(actor_named, request.actors)),
        event_types=_types(request.types),
    )


def _types(named: Iterable[str]) -> tuple[str, ...]:
    """Return the types that a request names. Raises InvalidArgument for one that does not exist."""
    types = _some("types", named)
    for name in types:
        if name not in _TYPES:
            near = get_close_matches(name[:100], _TYPES, 3)
            perhaps = f" (did you mean {' or '.join(near)}?)" if near else ""
            known = ", ".join(sorted(_TYPES))
            raise InvalidArgument("type", name[:100], f"must be a type of event{perhaps}: {known}.")
    return types


def _some(field: str, named: Iterable[str]) -> tuple[str, ...]:
    """Return the values that a request names, each once; none: no condition. Raises InvalidArgument for too many."""
    values = tuple(dict.fromkeys(name for name in named if name))
    if len(values) > _MOST_VALUES:
        raise InvalidArgument(field, f"{len(values)} of them", f"must be at most {_MOST_VALUES}.")
    return values


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
