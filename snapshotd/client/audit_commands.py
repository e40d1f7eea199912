"""`snapshotctl audit ...`."""

from __future__ import annotations

import argparse
from typing import Final

from snapshotd.api.v1 import admin_pb2, audit_pb2
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.following import follow
from snapshotd.client.pages import Stream, or_else, output_pages, pages
from snapshotd.client.render import columns, exact, quoted, subject_text, when
from snapshotd.client.resolve import host_name, is_snapshot_name, refuse_unknown
from snapshotd.client.resolve_past import snapshot_ever, vm_ever
from snapshotd.client.times import read_time
from snapshotd.client.which_operation import operation_name

_LISTED_BY: Final = {
    "host": "host list",
    "virtual_machine": "vm list",
    "snapshot": "snapshot list VM --deleted",
    "operation": "operation list",
}
"""Conditions on events that name a resource, and the commands that list such resources."""
_HEADS: Final = ["POSITION", "TIME", "ACTOR", "WHAT", "STATES", "OF", "DETAIL"]
_MORE: Final = ["OPERATION", "SUBJECT", "VERSION", "REQUEST", "EVENT"]
"""The heads of columns that are shown only when they are asked for."""
_YIELDS: Final = ("DETAIL", "ACTOR", "STATES", "WHAT", "OF")
_IDS: Final = ("OF", "OPERATION")
_NARROW: Final = ["time", "actor", "detail"]
_ROOM_FOR_ALL: Final = 160
"""A terminal that has fewer columns gets those of _NARROW: DETAIL tells what the others do, and could not be read."""


def list_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show events, the oldest first."""
    if arguments.snapshot and not arguments.vm and not is_snapshot_name(arguments.snapshot):
        text = f"Cannot find snapshot {quoted(arguments.snapshot)} without its VM. Add --vm, or give its full name."
        raise Failed(text, ExitCode.USAGE)
    since = read_time("--since", arguments.since) if arguments.since else None
    until = read_time("--until", arguments.until) if arguments.until else None
    vm = vm_ever(server, arguments.vm) if arguments.vm else ""
    request = audit_pb2.ListEventsRequest(
        virtual_machine=vm,
        snapshot=snapshot_ever(server, vm, arguments.snapshot) if arguments.snapshot else "",
        operation=operation_name(server, arguments.operation) if arguments.operation else "",
        host=host_name(arguments.host) if arguments.host else "",
        actors=arguments.actor,
        types=arguments.type,
        order_by="position desc" if arguments.reverse else "position",
    )
    if since:
        request.start_time.FromDatetime(since)
    if until:
        request.end_time.FromDatetime(until)
    found = pages(server, server.audit.ListEvents, request, "events", arguments.limit)
    found = or_else(found, "events", lambda: _refuse_unknown(server, request))
    row = _exact_row if arguments.output == "csv" else _row
    _fit(arguments)
    return output_pages(arguments, found, "events", _HEADS, row, yields=_YIELDS, ids=_IDS, more=_MORE)


def _fit(arguments: argparse.Namespace) -> None:
    """Choose the columns that fit the terminal, unless some were asked for."""
    room = columns()
    if arguments.output == "table" and arguments.columns is None and room is not None and room < _ROOM_FOR_ALL:
        arguments.columns = _NARROW


def _refuse_unknown(server: Server, request: audit_pb2.ListEventsRequest) -> None:
    """Raise Failed if no event can match, since there was never anything of a name that was given."""
    for field, command in _LISTED_BY.items():
        refuse_unknown(server, field, getattr(request, field), command)


def tail(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show the last events, and each new one as it comes, until it is interrupted."""
    vm = vm_ever(server, arguments.vm) if arguments.vm else ""
    request = audit_pb2.WatchEventsRequest(virtual_machine=vm, types=arguments.type, actors=arguments.actor)
    _fit(arguments)
    stream = Stream(arguments, _HEADS, _exact_row if arguments.output == "csv" else _row, _YIELDS, _IDS, _MORE)
    if arguments.after is not None:
        request.after_position = arguments.after
    elif arguments.last:
        last_ones = audit_pb2.ListEventsRequest(
            virtual_machine=vm, types=arguments.type, actors=arguments.actor, order_by="position desc"
        )
        found = pages(server, server.audit.ListEvents, last_ones, "events", arguments.last)
        for event in reversed([event for page in found for event in page.events]):
            stream.print(event)
            _passed(request, event)
    else:
        status = server.call(server.admin.GetStatus, admin_pb2.GetStatusRequest())
        request.after_position = status.log_head_position
    for event in follow(server, lambda channel: AuditServiceStub(channel).WatchEvents, lambda: request):
        if event.type:  # else it is a heartbeat
            stream.print(event)
            _passed(request, event)
    raise AssertionError("a watch has no end")


def _passed(request: audit_pb2.WatchEventsRequest, event: audit_pb2.Event) -> None:
    """Note where a watch goes on: after an event, by its id too, since another log may have another one there."""
    request.after_position, request.after_event_id = event.position, event.event_id


def _row(event: audit_pb2.Event) -> list[str]:
    return [
        str(event.position),
        when(event.time),
        f"{event.actor} for {event.on_behalf_of}" if event.on_behalf_of else event.actor,
        event.type,
        f"{event.from_state} -> {event.to_state}" if event.to_state else "",
        subject_text(event.subject),
        event.summary,
        event.operation,
        event.subject,
        str(event.version),
        event.request_id,
        event.event_id,
    ]


def _exact_row(event: audit_pb2.Event) -> list[str]:
    """Return a row for programs."""
    position, _, *rest = _row(event)
    return [position, exact(event.time), *rest]
