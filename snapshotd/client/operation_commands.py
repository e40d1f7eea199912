"""`snapshotctl operation ...`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

from google.longrunning.operations_pb2 import (
    CancelOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    Operation,
)

from snapshotd.api.v1 import admin_pb2 as pb
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Step
from snapshotd.client import arguments as read
from snapshotd.client.calls import ExitCode, Server, reason_of
from snapshotd.client.options import Subcommands, add_request_id, ended, output, request_id
from snapshotd.client.pages import or_else, output_pages, pages
from snapshotd.client.progress import metadata_of, wait_for
from snapshotd.client.render import age, facts, table, when, word
from snapshotd.client.resolve import all_vms, operation_name, refuse_unknown, vm_name

_OUTCOMES: Final = {
    name.lower().replace("_", "-"): number for name, number in pb.SettleOperationRequest.Outcome.items() if number
}
"""What can be said of a step."""
_HEADS: Final = ("OPERATION", "VM", "KIND", "STATE", "STEP", "%", "AGE", "OVERDUE", "WAITS FOR", "ACTOR")
_FAILED: Final = ("OPERATION", "VM", "KIND", "FAILED", "ACTOR", "REASON")


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("operation", "long work: show it, wait for it, cancel it, settle it")
    listing = group.command("list", "show operations, the newest first", _list)
    listing.add_argument("--vm", type=read.named, help="only those of a VM, by name or id")
    state = listing.add_mutually_exclusive_group()
    state.add_argument("--active", action="store_true", help="only those that have not ended")
    state.add_argument("--failed", action="store_true", help="only those that failed, with when and why")
    listing.add_argument(
        "--since",
        type=read.past,
        metavar="1h|TIME",
        help="only those requested since; with --failed: that failed since",
    )
    listing.add_argument(
        "--limit", type=read.positive, default=50, metavar="N", help="at most N (default: %(default)s)"
    )
    show = group.command("show", "show an operation with its steps", _show)
    wait = group.command("wait", "wait until an operation has ended", _wait)
    wait.add_argument("--for", dest="seconds", type=read.seconds, metavar="S", help="wait at most S seconds")
    cancel = group.command("cancel", "end an operation as soon as that is safe", _cancel)
    settle = group.command("settle", "say what became of an operation whose host will never tell", _settle)
    for parser in (show, wait, cancel, settle):
        parser.add_argument("operation", type=read.named, metavar="OPERATION")
    settle.add_argument(
        "outcome",
        choices=list(_OUTCOMES),
        help="took-effect: the operation goes on; no-effect: its step failed; given-up: nobody knows, and it ends",
    )
    settle.add_argument("--reason", type=read.named, required=True, metavar="TEXT", help="why, for the audit trail")
    add_request_id(settle)


def _list(server: Server, arguments: argparse.Namespace) -> ExitCode:
    conditions = ['done = "false"'] if arguments.active else ['state = "FAILED"'] if arguments.failed else []
    if arguments.since:
        field = "end_time" if arguments.failed else "create_time"
        conditions.append(f'{field} >= "{arguments.since.isoformat()}"')
    vm = vm_name(server, arguments.vm) if arguments.vm else ""
    if vm:
        conditions.append(f'virtual_machine = "{vm}"')
    request = ListOperationsRequest(filter=" AND ".join(conditions))
    found = pages(server, server.operations.ListOperations, request, "operations", arguments.limit)
    found = or_else(found, "operations", lambda: refuse_unknown(server, "virtual_machine", vm, "vm list"))
    names = {vm.name: vm.display_name for vm in all_vms(server)} if arguments.output == "table" else {}
    heads, row = (_FAILED, _failed_row) if arguments.failed else (_HEADS, _row)
    return output_pages(arguments, found, "operations", heads, lambda o: row(o, names), yields=("VM",))


def _row(operation: Operation, names: Mapping[str, str]) -> list[str]:
    m = metadata_of(operation)
    step = f"{m.current_step_number}/{m.step_count} {m.current_step}" if m.current_step else ""
    kind, state = OperationMetadata.Kind.Name(m.kind), OperationMetadata.State.Name(m.state)
    waits = m.wait.reason if m.HasField("wait") else ""
    vm, overdue = names.get(m.virtual_machine, ""), age(m.overdue_since)
    return [operation.name, vm, word(kind), state, step, str(m.percent), age(m.create_time), overdue, waits, m.actor]


def _failed_row(operation: Operation, names: Mapping[str, str]) -> list[str]:
    m = metadata_of(operation)
    kind, vm = OperationMetadata.Kind.Name(m.kind), names.get(m.virtual_machine, "")
    return [operation.name, vm, word(kind), when(m.end_time), m.actor, reason_of(operation.error)]


def _show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = GetOperationRequest(name=operation_name(arguments.operation))
    return output(arguments, server.call(server.operations.GetOperation, request), _facts)


def _facts(operation: Operation) -> str:
    m = metadata_of(operation)
    text = facts(
        [
            ("Operation", operation.name),
            ("Kind", word(OperationMetadata.Kind.Name(m.kind))),
            ("State", OperationMetadata.State.Name(m.state)),
            ("Error", operation.error.message if operation.HasField("error") else ""),
            ("Outcome", m.outcome_detail),
            ("Waits", f"{m.wait.reason}: {m.wait.message}" if m.HasField("wait") else ""),
            ("Waits since", when(m.wait.since) if m.HasField("wait") else ""),
            ("Overdue since", when(m.overdue_since)),
            ("VM", m.virtual_machine),
            ("Snapshot", m.snapshot),
            ("Host", m.host),
            ("Asked for by", m.actor),
            ("At", when(m.create_time)),
            ("Ended", when(m.end_time)),
            ("Percent", str(m.percent)),
        ]
    )
    rows = [
        [
            f"{s.number}{' (undo)' if s.undo else ''}",
            s.name,
            Step.State.Name(s.state),
            str(s.attempts),
            when(s.start_time),
            when(s.end_time),
            f"{s.failure.reason}: {s.failure.message}" if s.HasField("failure") else "",
        ]
        for s in m.steps
    ]
    return text + "\n" + table(["STEP", "NAME", "STATE", "TRIED", "BEGUN", "ENDED", "WHY"], rows)


def _wait(server: Server, arguments: argparse.Namespace) -> ExitCode:
    return ended(server, arguments, wait_for(server, operation_name(arguments.operation), arguments.seconds))


def _cancel(server: Server, arguments: argparse.Namespace) -> ExitCode:
    name = operation_name(arguments.operation)
    server.call(server.operations.CancelOperation, CancelOperationRequest(name=name))
    return output(arguments, server.call(server.operations.GetOperation, GetOperationRequest(name=name)), _cancelled)


def _settle(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.SettleOperationRequest(
        name=operation_name(arguments.operation),
        outcome=_OUTCOMES[arguments.outcome],
        reason=arguments.reason,
        request_id=request_id(arguments),
    )
    return output(arguments, server.call(server.admin.SettleOperation, request), _settled)


def _settled(operation: Operation) -> str:
    """Return the state of a settled operation, for people."""
    if not operation.done:
        return f"{operation.name} goes on. To wait: snapshotctl operation wait {operation.name}"
    return f"{operation.name} is {OperationMetadata.State.Name(metadata_of(operation).state)}."


def _cancelled(operation: Operation) -> str:
    """Return the state of a cancelled operation, for people. One that had not begun has ended already."""
    if not operation.done:
        return f"{operation.name} will end at its next safe point."
    return f"{operation.name} is {OperationMetadata.State.Name(metadata_of(operation).state)}."
