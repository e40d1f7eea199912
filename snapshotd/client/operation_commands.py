"""`snapshotctl operation ...`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from google.longrunning.operations_pb2 import (
    CancelOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    ListOperationsResponse,
    Operation,
)

from snapshotd.api.v1 import admin_pb2 as pb
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Step
from snapshotd.client.calls import Server, reason_of
from snapshotd.client.columns import chosen
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import again, ended, output, request_id, waited
from snapshotd.client.pages import Listing, Stream, or_else, output_pages, pages
from snapshotd.client.progress import metadata_of, state_of, wait_for
from snapshotd.client.render import age, facts, last, prose, shown, took, when, word
from snapshotd.client.resolve import VmNames, refuse_unknown, vm_name
from snapshotd.client.streams import notes
from snapshotd.client.times import read_time
from snapshotd.client.watching import since, watch_operations
from snapshotd.client.which_operation import active_on, asked_for

_OUTCOMES: Final = {
    name.lower().replace("_", "-"): number for name, number in pb.SettleOperationRequest.Outcome.items() if number
}
"""What can be said of a step."""
_HEADS: Final = ("OPERATION", "VM", "KIND", "STATE", "STEP", "%", "AGE", "OVERDUE", "WAITS FOR", "ACTOR")
_FAILED: Final = ("OPERATION", "VM", "KIND", "ENDED", "ACTOR", "REASON")
"""The heads of what is shown of operations, and of those that failed."""
_MORE: Final = ("SNAPSHOT", "HOST", "REQUESTED", "ENDED", "REASON", "ERROR")
"""The heads of columns that are shown only when they are asked for."""
_YIELDS: Final = ("ACTOR", "VM", "WAITS FOR", "STEP", "KIND", "REASON")
_IDS: Final = ("OPERATION", "SNAPSHOT")


def list_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show operations, the newest first; or those, and each again when it has changed."""
    conditions = ['done = "false"'] if arguments.active else ['state = "FAILED"'] if arguments.failed else []
    if arguments.since:
        field = "end_time" if arguments.failed else "create_time"
        conditions.append(f'{field} >= "{read_time("--since", arguments.since).isoformat()}"')
    vm = vm_name(server, arguments.vm) if arguments.vm else ""
    if vm:
        conditions.append(f'virtual_machine = "{vm}"')
    request = ListOperationsRequest(filter=" AND ".join(conditions))
    found = pages(server, server.operations.ListOperations, request, "operations", arguments.limit)
    found = or_else(found, "operations", lambda: refuse_unknown(server, "virtual_machine", vm, "vm list"))
    names = VmNames(server)
    heads = _FAILED if arguments.failed else _HEADS
    more = [head for head in (*_HEADS, *_MORE) if head not in heads]

    def row(operation: Operation) -> list[str]:
        cells = _cells(operation, names.of(metadata_of(operation).virtual_machine))
        return [cells[head] for head in (*heads, *more)]

    def drawn(operations: Sequence[Operation]) -> str:
        listing = Listing(arguments, [*heads, *more], chosen(arguments, heads, more), _YIELDS, _IDS)
        return listing.text([row(operation) for operation in operations]) if operations else "(none)"

    if arguments.watch:
        listed = [operation for page in found for operation in page.operations]
        # One that fails may have been requested before all that have.
        oldest = "" if arguments.failed else since(listed)
        condition = " AND ".join([*conditions, *([oldest] if oldest else [])])
        watch_operations(server, arguments, condition, Stream(arguments, heads, row, _YIELDS, _IDS, more), drawn)
    return output_pages(arguments, found, "operations", heads, row, yields=_YIELDS, ids=_IDS, more=more)


def _cells(operation: Operation, vm: str) -> dict[str, str]:
    """Return what a list can show of an operation, by head. `vm`: the name of its VM."""
    m = metadata_of(operation)
    return {
        "OPERATION": operation.name,
        "VM": vm,
        "KIND": word(OperationMetadata.Kind.Name(m.kind)),
        "STATE": state_of(m),
        "STEP": f"{m.current_step_number}/{m.step_count} {m.current_step}" if m.current_step else "",
        "%": str(m.percent),
        "AGE": age(m.create_time),
        "OVERDUE": age(m.overdue_since),
        "WAITS FOR": m.wait.reason if m.HasField("wait") else "",
        "ACTOR": m.actor,
        "SNAPSHOT": last(m.snapshot),
        "HOST": last(m.host),
        "REQUESTED": when(m.create_time),
        "ENDED": when(m.end_time),
        "REASON": reason_of(operation.error),
        "ERROR": operation.error.message,
    }


def show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show an operation with its steps."""
    request = GetOperationRequest(name=asked_for(server, arguments))
    return output(arguments, server.call(server.operations.GetOperation, request), _facts)


def _facts(operation: Operation) -> str:
    m = metadata_of(operation)
    text = facts(
        [
            ("Operation", operation.name),
            ("Kind", word(OperationMetadata.Kind.Name(m.kind))),
            ("State", state_of(m)),
            ("Cancelled", _cancellation(m)),
            ("Error", operation.error.message if operation.HasField("error") else ""),
            ("Outcome", m.outcome_detail),
            ("Waits", f"{m.wait.reason}: {m.wait.message}" if m.HasField("wait") else ""),
            ("Waits since", when(m.wait.since) if m.HasField("wait") else ""),
            ("Overdue since", when(m.overdue_since)),
            ("VM", m.virtual_machine),
            ("Snapshot", m.snapshot),
            ("Host", m.host),
            ("Requested by", m.actor),
            ("Requested at", when(m.create_time)),
            ("Ended", when(m.end_time)),
            ("Percent", str(m.percent)),
        ]
    )
    # Which snapshot a step is about is told where there are several.
    several = len({s.snapshot for s in m.steps if s.snapshot}) > 1
    rows = [
        [
            f"{s.number}{' (undo)' if s.undo else ''}",
            s.name,
            *([last(s.snapshot)] if several else []),
            Step.State.Name(s.state),
            str(s.attempts),
            when(s.start_time),
            took(s.start_time, s.end_time),
            f"{s.failure.reason}: {s.failure.message}" if s.HasField("failure") else "",
        ]
        for s in m.steps
    ]
    heads = ["STEP", "NAME", *(["SNAPSHOT"] if several else []), "STATE", "TRIED", "BEGUN", "TOOK", "WHY"]
    return text + "\n" + prose(heads, rows)


def wait(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Wait until an operation has ended."""
    if not arguments.vm:
        return waited(server, arguments, asked_for(server, arguments), arguments.seconds)
    vm = vm_name(server, arguments.vm)
    until = None if arguments.seconds is None else server.clock() + arguments.seconds
    found = []
    for operation in active_on(server, vm):
        left_s = None if until is None else max(0.0, until - server.clock())
        command = again(arguments, "operation", "wait", operation.name)
        found.append(wait_for(server, operation.name, left_s, notes(arguments.output), again=command))
    if len(found) == 1:
        return ended(server, arguments, found[0])
    names = ", ".join(f"{o.name} {OperationMetadata.State.Name(metadata_of(o).state)}" for o in found)
    output(
        arguments,
        ListOperationsResponse(operations=found),
        lambda _: f"Ended: {names}." if names else f"No operation is active on {shown(arguments.vm)}.",
    )
    return ExitCode.OPERATION_FAILED if any(o.HasField("error") for o in found) else ExitCode.OK


def cancel(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """End an operation as soon as that is safe."""
    name = asked_for(server, arguments)
    server.call(server.operations.CancelOperation, CancelOperationRequest(name=name))
    return output(arguments, server.call(server.operations.GetOperation, GetOperationRequest(name=name)), _cancelled)


def settle(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Settle an operation whose host will never tell what became of it."""
    request = pb.SettleOperationRequest(
        name=asked_for(server, arguments),
        outcome=_OUTCOMES[arguments.outcome],
        reason=arguments.reason,
        request_id=request_id(arguments),
    )
    return output(arguments, server.call(server.admin.SettleOperation, request), lambda o: _settled(arguments, o))


def _settled(arguments: argparse.Namespace, operation: Operation) -> str:
    """Return the state of a settled operation, for people."""
    if not operation.done:
        return f"{operation.name} goes on. To wait: {again(arguments, 'operation', 'wait', operation.name)}"
    return f"{operation.name} is {OperationMetadata.State.Name(metadata_of(operation).state)}."


def _cancellation(m: OperationMetadata) -> str:
    """Return that somebody has cancelled an operation, and what became of that; empty if nobody has."""
    if not m.cancel_requested:
        return ""
    if not m.HasField("end_time"):
        return "requested; it ends at its next safe point"
    return "as requested" if m.state == OperationMetadata.CANCELLED else "requested, and it ended otherwise"


def _cancelled(operation: Operation) -> str:
    """Return the state of a cancelled operation, for people. One that had not begun has ended already."""
    if not operation.done:
        return f"{operation.name} will end at its next safe point."
    return f"{operation.name} is {OperationMetadata.State.Name(metadata_of(operation).state)}."
