"""`snapshotctl audit diff`: what differs between a VM then and then."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from datetime import datetime

from snapshotd.api.v1.snapshot_pb2 import GetSnapshotTreeRequest
from snapshotd.api.v1.virtual_machine_pb2 import GetVirtualMachineRequest
from snapshotd.client.calls import Server
from snapshotd.client.columns import short_ids
from snapshotd.client.documents import DOCUMENTS, document
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import columns, shown, table, when
from snapshotd.client.resolve_past import vm_ever
from snapshotd.client.times import read_point
from snapshotd.client.vm_diff import Change, State, changes


def diff(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show what differs."""
    if arguments.output not in ("table", *DOCUMENTS):
        raise Failed(f"Cannot print this with -o {arguments.output}: use a table or -o json.", ExitCode.USAGE)
    points = read_point("--from", arguments.begin), read_point("--to", arguments.end)
    vm = vm_ever(server, arguments.vm)
    before, after = (state_at(server, vm, point) for point in points)
    found = list(changes(before, after))
    if arguments.output in DOCUMENTS:
        content = {
            "virtual_machine": vm,
            "from": _point(before),
            "to": _point(after),
            "changes": [asdict(change) for change in found],
        }
        sys.stdout.write(document(content, arguments.output) + "\n")
        return ExitCode.OK
    head = f"{shown(after.vm.display_name)} from {_told(before)} to {_told(after)}"
    rows = [[_subject(change), change.before or "-", change.after or "-"] for change in found]
    if not arguments.full_ids:  # but paths stay as they are, whatever of an id is in them
        named = [n for n, change in enumerate(found) if not change.field.startswith("disk ")]
        cells = iter(short_ids(cell for n in named for cell in rows[n]))
        for n in named:
            rows[n] = [next(cells) for _ in rows[n]]
    text = table(["WHAT", "BEFORE", "AFTER"], rows, yields=("AFTER", "BEFORE", "WHAT"), width=columns())
    sys.stdout.write(f"{head}\n{text if rows else 'Nothing differs.'}\n")
    return ExitCode.OK


def state_at(server: Server, vm: str, point: datetime | int) -> State:
    """Return a VM with its tree as they were. Raises Failed."""
    request = GetVirtualMachineRequest(name=vm)
    if isinstance(point, int):
        request.as_of_version = point
    else:
        request.as_of_time.FromDatetime(point)
    found = server.call(server.vms.GetVirtualMachine, request)
    # By its version: at the time, another event may have come between the two calls.
    tree = GetSnapshotTreeRequest(name=vm, as_of_version=found.version)
    return State(found, server.call(server.snapshots.GetSnapshotTree, tree))


def _point(state: State) -> dict[str, object]:
    return {"version": state.vm.version, "time": state.vm.update_time.ToJsonString()}


def _told(state: State) -> str:
    return f"version {state.vm.version} ({when(state.vm.update_time)})"


def _subject(change: Change) -> str:
    if change.subject.startswith("virtualMachines/") and "/snapshots/" not in change.subject:
        return change.field
    kind = "checkpoint" if change.subject.startswith("checkpoints/") else "snapshot"
    return f"{kind} {change.name}{f': {change.field}' if change.field else ''}"
