"""`snapshotctl status`: the state of the service at a glance, once or until it is interrupted."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1 import admin_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.client.calls import Server
from snapshotd.client.documents import DOCUMENTS
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.following import passes
from snapshotd.client.messages import no_names
from snapshotd.client.options import output
from snapshotd.client.pages import Stream, overview
from snapshotd.client.render import age, counted, facts, last, when, word
from snapshotd.client.screen import Screen
from snapshotd.client.streams import warn
from snapshotd.domain.ids import executor_label

_LOOK_S: Final = 2.0
"""How often the service is asked, while it is watched."""


def status(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show the state of the service; with --watch, until it is interrupted."""
    if arguments.watch:
        return _watch(server, arguments)
    return output(arguments, _asked(server), lambda told: facts_of(told, partial(overview, arguments)), no_names)


def _asked(server: Server) -> admin_pb2.GetStatusResponse:
    return server.call(server.admin.GetStatus, admin_pb2.GetStatusRequest())


def _watch(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Redraw the state on a terminal; elsewhere, print a line, or a document, for each change. Ctrl-C ends it well."""
    if arguments.output not in ("table", *DOCUMENTS):
        raise Failed("Cannot watch the status so: it is no list. Use -o json, or none.", ExitCode.USAGE)
    screen, stream = Screen(), Stream(arguments, [], lambda _: ())
    shown, position, away = "", 0, False
    try:
        while True:
            try:
                told = _asked(server)
            except Failed as failed:
                if not shown or not passes(failed):
                    raise
                if not away:
                    warn(f"Lost the server at {server.address}. Trying again until it is back; Ctrl-C ends this.")
                away = True
            else:
                if away:
                    warn(f"The server at {server.address} is back.")
                line, before, away = line_of(told), shown, False
                shown = line
                if screen.redraws and arguments.output == "table":
                    screen.show(facts_of(told, partial(overview, arguments)))
                elif line != before and arguments.output == "table":
                    screen.append(f"{_now()}  {_grown(told, position)}, {line}")
                elif line != before:
                    stream.print(told)
                position = told.log_head_position
            server.pause(_LOOK_S)
    except KeyboardInterrupt:
        return ExitCode.OK


def _now() -> str:
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    return when(now)


def _grown(status: admin_pb2.GetStatusResponse, position: int) -> str:
    """Return where the log ends, and by how much it has grown since the last look."""
    more = status.log_head_position - position
    return f"{status.log_head_position} events" + (f" (+{more})" if position and more else "")


def line_of(status: admin_pb2.GetStatusResponse) -> str:
    """Return in a line what matters of the state of the service: without what always changes."""
    counts = status.operations
    waits = f" (longest {counts.oldest_waiting}: {counts.oldest_wait.reason})" if counts.oldest_waiting else ""
    overdue = f", {status.overdue_operation_count} overdue" if status.overdue_operation_count else ""
    queued = sum(host.orders_waiting for host in status.hosts)
    away = [f"{last(h.host)} ({h.wait.reason})" for h in status.hosts if h.HasField("wait")]
    following = admin_pb2.ProjectionState.State
    held_up = [
        f"{view.name} ({following.Name(view.state)})"
        for view in status.projections
        if view.state in (following.STOPPED, following.BEHIND)
    ]
    troubles = sorted({f"{problem.subject} ({problem.reason})" for problem in status.problems})
    parts = [
        f"operations: {_counted(status)}{waits}{overdue}",
        f"{counted(queued, 'order')} queued" if queued else "",
        counted(len(status.executors), "executor"),
        f"not reached: {', '.join(away)}" if away else "all hosts reached",
        f"views held up: {', '.join(held_up)}" if held_up else "",
        f"problems: {', '.join(troubles)}" if troubles else "",
    ]
    return "; ".join(part for part in parts if part)


def facts_of(status: admin_pb2.GetStatusResponse, table: Callable[..., str]) -> str:
    """Return the state of the service for people, with tables that `table` draws."""
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
        [
            executor_label(e.executor_id, e.signed_in_as),
            ", ".join(e.serves),
            ", ".join(last(h) for h in e.hosts),
            age(e.last_heard_time),
        ]
        for e in status.executors
    ]
    serving = _serving(status)
    hosts = [
        [
            last(h.host),
            _reachable(h),
            _load(h),
            when(h.last_sync_time),
            h.wait.reason,
            serving.get(h.executor, h.executor),
        ]
        for h in status.hosts
    ]
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
            "Executors\n" + table(["EXECUTOR", "REACHES", "SERVES", "HEARD"], executors, ["SERVES", "REACHES"]),
            "Hosts\n" + table(["HOST", "REACHABLE", "AT WORK", "LAST SYNC", "WHY", "EXECUTOR"], hosts, ["HOST", "WHY"]),
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
            [f.operation, f.display_name, word(kinds.Name(f.kind)), age(f.failure.time), f.actor, f.failure.reason]
            for f in status.recent_failures.latest
        ]
        yield "Failed last\n" + table(
            ["OPERATION", "VM", "KIND", "AGE", "ACTOR", "REASON"], failed, ["ACTOR", "KIND", "VM"], ["OPERATION"]
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


def _serving(status: admin_pb2.GetStatusResponse) -> dict[str, str]:
    """Return how the line of a host names its executor: by what it signed in as, unless several did so."""
    labels = {e.executor_id: executor_label(e.executor_id, e.signed_in_as) for e in status.executors}
    short = {name: label.removesuffix(f" ({name})") for name, label in labels.items()}
    count = Counter(short.values())
    return {name: label if count[label] == 1 else name for name, label in short.items()}


def _load(host: admin_pb2.HostState) -> str:
    """Return how many orders are under way on a host, and how many wait for their turn; empty: none."""
    waiting = f"{host.orders_waiting} wait" if host.orders_waiting else ""
    return ", ".join(part for part in (str(host.orders_under_way or ""), waiting) if part)
