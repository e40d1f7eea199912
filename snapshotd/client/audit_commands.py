"""`snapshotctl audit ...` and `snapshotctl status`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from snapshotd.api.v1 import admin_pb2, audit_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.client.calls import Server
from snapshotd.client.details import detail
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.messages import no_names
from snapshotd.client.options import output
from snapshotd.client.pages import or_else, output_pages, overview, pages
from snapshotd.client.render import age, counted, facts, last, quoted, subject_text, when, word
from snapshotd.client.resolve import host_name, is_snapshot_name, refuse_unknown, snapshot_name, vm_name
from snapshotd.client.which_operation import operation_name

_LISTED_BY: Final = {
    "host": "host list",
    "virtual_machine": "vm list",
    "snapshot": "snapshot list VM --deleted",
    "operation": "operation list",
}
"""Conditions on events that name a resource, and the commands that list such resources."""


def list_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show events, the oldest first."""
    if arguments.snapshot and not arguments.vm and not is_snapshot_name(arguments.snapshot):
        text = f"Cannot find snapshot {quoted(arguments.snapshot)} without its VM. Add --vm, or give its full name."
        raise Failed(text, ExitCode.USAGE)
    vm = vm_name(server, arguments.vm) if arguments.vm else ""
    request = audit_pb2.ListEventsRequest(
        virtual_machine=vm,
        snapshot=snapshot_name(server, vm, arguments.snapshot) if arguments.snapshot else "",
        operation=operation_name(server, arguments.operation) if arguments.operation else "",
        host=host_name(arguments.host) if arguments.host else "",
        actor=arguments.caller,
        type=arguments.type,
        order_by="position desc" if arguments.reverse else "position",
    )
    if arguments.since:
        request.start_time.FromDatetime(_time("--since", arguments.since))
    if arguments.until:
        request.end_time.FromDatetime(_time("--until", arguments.until))
    found = pages(server, server.audit.ListEvents, request, "events", arguments.limit)
    found = or_else(found, "events", lambda: _refuse_unknown(server, request))
    heads = ["POSITION", "TIME", "ACTOR", "WHAT", "STATES", "OF", "DETAIL"]
    return output_pages(
        arguments,
        found,
        "events",
        heads,
        _row,
        yields=("DETAIL", "ACTOR", "STATES", "WHAT", "OF"),
        ids=("OF", "DETAIL"),
    )


def _refuse_unknown(server: Server, request: audit_pb2.ListEventsRequest) -> None:
    """Raise Failed if no event can match, since there was never anything of a name that was given."""
    for field, command in _LISTED_BY.items():
        refuse_unknown(server, field, getattr(request, field), command)


def _time(flag: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Failed(f"Cannot read {flag} {quoted(text)}. Write it as 2026-01-31T12:00:00Z.", ExitCode.USAGE) from None


def _row(event: audit_pb2.Event) -> list[str]:
    states = f"{event.from_state} -> {event.to_state}" if event.to_state else ""
    return [
        str(event.position),
        when(event.time),
        event.actor,
        event.type,
        states,
        subject_text(event.subject),
        detail(event),
    ]


def status(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show the state of the service."""
    found = server.call(server.admin.GetStatus, admin_pb2.GetStatusRequest())
    return output(arguments, found, lambda status: _facts(status, partial(overview, arguments)), no_names)


def _facts(status: admin_pb2.GetStatusResponse, table: Callable[..., str]) -> str:
    counts, failures = status.operations, status.recent_failures
    head = facts(
        [
            ("snapshotd", status.version),
            ("Installation", status.installation_id),
            ("Started", f"{when(status.start_time)} ({age(status.start_time)} ago)"),
            ("Events", str(status.log_head_position)),
            ("Operations", _counted(status)),
            ("Failed, last 24 h", str(failures.count) if status.HasField("recent_failures") else ""),
            (
                "Waits longest",
                f"{counts.oldest_waiting} ({counts.oldest_wait.reason})" if counts.oldest_waiting else "",
            ),
        ]
    )
    states = admin_pb2.ProjectionState.State
    projections = [[p.name, states.Name(p.state), str(p.position), p.failure.message] for p in status.projections]
    executors = [
        [e.executor_id, ", ".join(e.serves), ", ".join(last(h) for h in e.hosts), age(e.last_heard_time)]
        for e in status.executors
    ]
    hosts = [[last(h.host), _reachable(h), when(h.last_sync_time), h.wait.reason, h.executor] for h in status.hosts]
    problems = [[p.subject, p.reason, when(p.since), p.message] for p in status.problems]
    return "\n\n".join(
        [
            head,
            *(
                [
                    "Problems\n"
                    + table(["SUBJECT", "REASON", "SINCE", "WHAT TO DO"], problems, ["SUBJECT", "REASON"], ["SUBJECT"])
                ]
                if problems
                else []
            ),
            *_trouble_of_operations(status, table),
            table(["VIEW", "STATE", "POSITION", "WHY"], projections),
            "Executors\n" + table(["EXECUTOR", "REACHES", "IS FED FOR", "HEARD"], executors, ["IS FED FOR", "REACHES"]),
            "Hosts\n" + table(["HOST", "REACHABLE", "LAST SYNC", "WHY", "EXECUTOR"], hosts, ["HOST", "WHY"]),
        ]
    )


def _trouble_of_operations(status: admin_pb2.GetStatusResponse, table: Callable[..., str]) -> Iterator[str]:
    """Yield the tables of overdue operations and of recent failures, if there are any."""
    kinds = OperationMetadata.Kind
    if status.overdue_operations:
        late = [
            [o.operation, o.display_name, word(kinds.Name(o.kind)), when(o.since), o.message]
            for o in status.overdue_operations
        ]
        yield "Overdue\n" + table(
            ["OPERATION", "VM", "KIND", "SINCE", "WHY, AND WHAT TO DO"], late, ["KIND", "VM"], ["OPERATION"]
        )
        if (more := status.overdue_operation_count - len(late)) > 0:
            yield f"{counted(more, 'more operation')} overdue. See `snapshotctl operation list --active`."
    if status.recent_failures.latest:
        failed = [
            [f.operation, f.display_name, word(kinds.Name(f.kind)), when(f.failure.time), f.actor, f.failure.reason]
            for f in status.recent_failures.latest
        ]
        yield "Failed last\n" + table(
            ["OPERATION", "VM", "KIND", "FAILED", "ACTOR", "REASON"], failed, ["ACTOR", "KIND", "VM"], ["OPERATION"]
        )
        if status.recent_failures.count > len(failed):
            yield "All of them: `snapshotctl operation list --failed --since 24h`."


def _counted(status: admin_pb2.GetStatusResponse) -> str:
    if not status.HasField("operations"):
        return "not known: the views cannot be read"
    counts = status.operations
    return f"{counts.pending} pending, {counts.running} running, {counts.waiting} of them waiting"


def _reachable(host: admin_pb2.HostState) -> str:
    if host.reachable:
        return "yes"
    return "no" if host.HasField("wait") else "not tried"
