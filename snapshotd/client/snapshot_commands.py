"""`snapshotctl snapshot ...`."""

from __future__ import annotations

import argparse
import sys

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.client import arguments as read
from snapshotd.client import revert_commands, snapshot_decisions
from snapshotd.client.calls import ExitCode, Failed, Server
from snapshotd.client.options import Subcommands, add_request_id, add_wait, output, request_id
from snapshotd.client.plan import about_snapshot
from snapshotd.client.progress import metadata_of
from snapshotd.client.render import age, columns, facts, last, shown, size, table, when
from snapshotd.client.resolve import all_snapshots, snapshot_name, vm_name
from snapshotd.client.snapshot_decisions import held_text
from snapshotd.client.tree import ASCII, BOXES, draw, state_text


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("snapshot", "snapshots of VMs")
    create = group.command("create", "take a snapshot", _create)
    listing = group.command("list", "show a VM's snapshots", _list)
    tree = group.command("tree", "draw a VM's snapshots as a tree", _tree)
    show = group.command("show", "show a snapshot", _show)
    delete = group.command("delete", "delete a snapshot; its children stay", _delete)
    for parser in (create, listing, tree, show, delete):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    for parser in (show, delete):
        parser.add_argument("snapshot", type=read.named, metavar="SNAPSHOT", help="name or id")
    create.add_argument("--name", type=read.named, metavar="NAME", help="its name (default: <vm>_VS_<time>)")
    create.add_argument("--description", metavar="TEXT")
    kinds = create.add_mutually_exclusive_group()
    kinds.add_argument("--memory", action="store_true", help="take the memory too; the VM must be running")
    kinds.add_argument("--allow-fallback", action="store_true", help="keep one with memory if disks cannot be frozen")
    listing.add_argument("--deleted", action="store_true", help="show deleted ones too")
    snapshot_decisions.add_to(group)
    tree.add_argument("--ascii", action="store_true", help="draw without box characters")
    revert_commands.add_to(group)
    for parser in (create, delete):
        parser.add_argument("--dry-run", action="store_true", help="print the plan, and do nothing")
        add_request_id(parser)
        add_wait(parser)


def _create(server: Server, arguments: argparse.Namespace) -> ExitCode:
    vm = vm_name(server, arguments.vm)
    request = pb.CreateSnapshotRequest(
        parent=vm,
        snapshot=pb.Snapshot(
            display_name=arguments.name,
            description=arguments.description,
            kind=pb.Snapshot.DISK_AND_MEMORY if arguments.memory else pb.Snapshot.DISK,
        ),
        allow_fallback=arguments.allow_fallback,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
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


def _delete(server: Server, arguments: argparse.Namespace) -> ExitCode:
    vm = vm_name(server, arguments.vm)
    request = pb.DeleteSnapshotRequest(
        name=snapshot_name(server, vm, arguments.snapshot, repeated=bool(arguments.request_id)),
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
    )
    operation = server.call(server.snapshots.DeleteSnapshot, request)
    return about_snapshot(server, arguments, vm, operation, arguments.snapshot)


def _list(server: Server, arguments: argparse.Namespace) -> ExitCode:
    snapshots = all_snapshots(server, vm_name(server, arguments.vm), deleted=arguments.deleted)
    return output(arguments, pb.ListSnapshotsResponse(snapshots=snapshots), _table)


def _table(found: pb.ListSnapshotsResponse) -> str:
    names = {s.name: s.display_name for s in found.snapshots}
    heads = ["SNAPSHOT", "STATE", "KIND", "CURRENT", "PARENT", "AGE", "SIZE", "ID"]
    rows = [
        [
            s.display_name,
            state_text(s),
            pb.Snapshot.Kind.Name(s.kind),
            "*" if s.current else "",
            names.get(s.parent, last(s.parent)),
            age(s.create_time),
            size(s.size_bytes),
            s.uid,
        ]
        for s in found.snapshots
    ]
    return table(heads, rows, yields=("PARENT", "SNAPSHOT"), width=columns())


def _tree(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.GetSnapshotTreeRequest(name=vm_name(server, arguments.vm))
    strokes = ASCII if arguments.ascii or not _can_box() else BOXES
    return output(
        arguments, server.call(server.snapshots.GetSnapshotTree, request), lambda t: draw(t, strokes, width=columns())
    )


def _can_box() -> bool:
    """Return whether standard output can encode box characters."""
    try:
        BOXES.last.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    vm = vm_name(server, arguments.vm)
    request = pb.GetSnapshotRequest(name=snapshot_name(server, vm, arguments.snapshot))
    return output(arguments, server.call(server.snapshots.GetSnapshot, request), _facts)


def _facts(snapshot: pb.Snapshot) -> str:
    failure = snapshot.failure
    text = facts(
        [
            ("Snapshot", snapshot.display_name),
            ("Description", snapshot.description),
            ("Name", snapshot.name),
            ("State", pb.Snapshot.State.Name(snapshot.state)),
            ("Why", f"{failure.reason}: {failure.message}" if failure.reason else ""),
            ("Held", held_text(snapshot)),
            ("Kind", pb.Snapshot.Kind.Name(snapshot.kind)),
            ("Asked for", pb.Snapshot.Kind.Name(snapshot.requested_kind)),
            ("Current", "yes" if snapshot.current else "no"),
            ("Parent", snapshot.parent),
            ("Checkpoint", snapshot.checkpoint_id),
            ("Size", size(snapshot.size_bytes)),
            ("Asked for by", snapshot.actor),
            ("At", when(snapshot.create_time)),
            ("Operation", snapshot.active_operation),
        ]
    )
    return text + "\n" + table(["DISK", "FILE"], [[d.location, d.path] for d in snapshot.disks])
