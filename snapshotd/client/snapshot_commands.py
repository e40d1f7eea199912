"""`snapshotctl snapshot ...`."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.virtual_machine_pb2 import GetVirtualMachineRequest, VirtualMachine
from snapshotd.client.audit_diff import state_at
from snapshotd.client.calls import Server
from snapshotd.client.columns import chosen
from snapshotd.client.exports import beside_tree
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.labels import expiry_of, filter_of, labels_text
from snapshotd.client.options import output, request_id
from snapshotd.client.pages import Listing, output_pages, pages
from snapshotd.client.plan import about_snapshot
from snapshotd.client.progress import metadata_of
from snapshotd.client.render import columns, facts, last, prose, shown, size, when
from snapshotd.client.resolve import all_snapshots, snapshot_name, vm_name
from snapshotd.client.resolve_past import vm_ever
from snapshotd.client.snapshot_decisions import held_text
from snapshotd.client.standing import Standing, name_of, standing_of
from snapshotd.client.times import read_point
from snapshotd.client.tree import ASCII, BOXES, Strokes, draw, facts_of, id_of, kind_of
from snapshotd.client.watching import watch_tree

_HEADS: Final = ["SNAPSHOT", "STATE", "KIND", "CURRENT", "PARENT", "AGE", "SIZE", "ID"]
_MORE: Final = ["DESCRIPTION", "TAKEN", "ACTOR", "OPERATION", "CHECKPOINT"]
"""The heads of columns that are shown only when they are asked for."""


def create(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Take a snapshot."""
    vm = vm_name(server, arguments.vm)
    request = pb.CreateSnapshotRequest(
        parent=vm,
        snapshot=pb.Snapshot(
            display_name=arguments.name,
            description=arguments.description,
            kind=pb.Snapshot.DISK_AND_MEMORY if arguments.memory else pb.Snapshot.DISK,
            labels=dict(arguments.label),
            expire_time=expiry_of(arguments),
        ),
        allow_fallback=arguments.allow_fallback,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.snapshots.CreateSnapshot, request)
    made = "" if arguments.name or arguments.dry_run else _made(server, operation)
    return about_snapshot(server, arguments, vm, operation, arguments.name or "", made)


def _made(server: Server, operation: Operation) -> str:
    """Return the name that a snapshot got that was requested without one, in a sentence."""
    snapshot = metadata_of(operation).snapshot
    try:
        name = server.call(server.snapshots.GetSnapshot, pb.GetSnapshotRequest(name=snapshot)).display_name
    except Failed:
        # The create is accepted even if nothing can be read just now. The id leads to the name later.
        return f"The snapshot is {shown(snapshot)}."
    return f"The snapshot is named {shown(name)}."


def list_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show a VM's snapshots."""
    vm, condition = vm_name(server, arguments.vm), filter_of(arguments)
    if arguments.output not in ("table", "csv"):
        chosen(arguments, _HEADS)
        request = pb.ListSnapshotsRequest(parent=vm, show_deleted=arguments.deleted, filter=condition)
        found = pages(server, server.snapshots.ListSnapshots, request)
        return output_pages(arguments, found, "snapshots", _HEADS, lambda _: ())
    show = Listing(
        arguments, [*_HEADS, *_MORE], chosen(arguments, _HEADS, _MORE), ("PARENT", "SNAPSHOT"), ("ID", "OPERATION")
    )
    tree = server.call(server.snapshots.GetSnapshotTree, pb.GetSnapshotTreeRequest(name=vm))
    for snapshot in all_snapshots(server, vm, deleted=True) if arguments.deleted else ():
        if snapshot.state == pb.Snapshot.REMOVED:
            tree.nodes.add(id=snapshot.name, parent=snapshot.parent, snapshot=snapshot)
    standing = Standing(tree)
    meant = {s.name for s in all_snapshots(server, vm, condition, deleted=arguments.deleted)} if condition else None
    rows = [_row(node, standing) for node in tree.nodes if meant is None or node.id in meant]
    sys.stdout.write(f"{show.text(rows) if rows or arguments.output == 'csv' else '(none)'}\n")
    return ExitCode.OK


def _row(node: pb.SnapshotTree.Node, standing: Standing) -> list[str]:
    state, kind, how_old, how_large = facts_of(node)
    parent = standing.parent(node)
    current = "*" if node.id == standing.current else ""
    cells = [name_of(node), state, kind, current, standing.name(parent), how_old, how_large, id_of(node)]
    own = node.snapshot
    return [*cells, own.description, when(own.create_time), own.actor, last(own.active_operation), own.checkpoint_id]


def draw_tree(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Draw a VM's snapshots as a tree: as they are or were, or after each change."""
    strokes = ASCII if arguments.ascii or not _can_box() else BOXES
    if arguments.at:
        point = read_point("--at", arguments.at)
        then = state_at(server, vm_ever(server, arguments.vm), point)
        now = then.tree.update_time.ToDatetime(UTC)
        head = f"As of version {then.tree.version}, {when(then.tree.update_time)}."
        return output(arguments, then.tree, lambda t: f"{head}\n{_drawn(arguments, t, strokes, then.vm, now)}")
    vm = vm_name(server, arguments.vm)

    known = VirtualMachine(name=vm)

    def drawn(tree: pb.SnapshotTree, now: datetime | None = None) -> str:
        nonlocal known
        with suppress(Failed):  # the tree is what counts; what is known stands beside it
            known = server.call(server.vms.GetVirtualMachine, GetVirtualMachineRequest(name=vm))
        return _drawn(arguments, tree, strokes, known, now)

    if arguments.watch:
        watch_tree(server, arguments, vm, drawn)
    tree = server.call(server.snapshots.GetSnapshotTree, pb.GetSnapshotTreeRequest(name=vm))
    return output(arguments, tree, drawn)


def _drawn(
    arguments: argparse.Namespace,
    tree: pb.SnapshotTree,
    strokes: Strokes,
    vm: VirtualMachine,
    now: datetime | None = None,
) -> str:
    return draw(tree, strokes, now, columns(), whole_ids=arguments.full_ids, beside=beside_tree(vm))


def _can_box() -> bool:
    """Return whether standard output can encode box characters."""
    try:
        BOXES.last.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show a snapshot."""
    vm = vm_name(server, arguments.vm)
    request = pb.GetSnapshotRequest(name=snapshot_name(server, vm, arguments.snapshot))
    snapshot = server.call(server.snapshots.GetSnapshot, request)
    return output(arguments, snapshot, lambda s: _facts(s, standing_of(server, vm)))


def _facts(snapshot: pb.Snapshot, standing: Standing) -> str:
    failure = snapshot.failure
    text = facts(
        [
            ("Snapshot", snapshot.display_name),
            ("Description", snapshot.description),
            ("Name", snapshot.name),
            ("State", pb.Snapshot.State.Name(snapshot.state)),
            ("Why", f"{failure.reason}: {failure.message}" if failure.reason else ""),
            ("Held", held_text(snapshot)),
            ("Labels", labels_text(snapshot.labels)),
            ("Expires", when(snapshot.expire_time)),
            ("Adopted", "yes: others made its checkpoint" if snapshot.adopted else ""),
            ("Kind", kind_of(snapshot.kind)),
            ("Kind requested", kind_of(snapshot.requested_kind)),
            ("Current", standing.current_text(snapshot)),
            ("Parent", standing.parent_text(snapshot)),
            ("Checkpoint", snapshot.checkpoint_id),
            ("Size", size(snapshot.size_bytes)),
            ("Requested by", snapshot.actor),
            ("Taken", when(snapshot.create_time)),
            ("Operation", snapshot.active_operation),
        ]
    )
    return text + "\n" + prose(["DISK", "FILE"], [[d.location, d.path] for d in snapshot.disks])
