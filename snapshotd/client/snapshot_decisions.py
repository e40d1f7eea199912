"""`snapshotctl snapshot ...`: what a person decides about a snapshot. Nothing on the host is touched."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.client import arguments as read
from snapshotd.client.calls import ExitCode, Server
from snapshotd.client.options import Subcommands, add_request_id, output, request_id
from snapshotd.client.render import shown, when
from snapshotd.client.resolve import snapshot_name, vm_name


def add_to(group: Subcommands) -> None:
    """Declare the commands below `snapshot`."""
    hold = group.command("hold", "keep a snapshot from being deleted by anyone", _hold)
    release = group.command("release", "allow again that a snapshot is deleted", _release)
    for parser in (hold, release):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
        parser.add_argument("snapshot", type=read.named, metavar="SNAPSHOT", help="name or id")
        add_request_id(parser)
    hold.add_argument("--reason", metavar="TEXT", help="why, for those who would delete it")


def _hold(server: Server, arguments: argparse.Namespace) -> ExitCode:
    name = snapshot_name(server, vm_name(server, arguments.vm), arguments.snapshot)
    request = pb.HoldSnapshotRequest(name=name, reason=arguments.reason, request_id=request_id(arguments))
    held = server.call(server.snapshots.HoldSnapshot, request)
    return output(arguments, held, lambda s: f"Nobody deletes {shown(s.display_name)} until it is released.")


def _release(server: Server, arguments: argparse.Namespace) -> ExitCode:
    name = snapshot_name(server, vm_name(server, arguments.vm), arguments.snapshot)
    request = pb.ReleaseSnapshotRequest(name=name, request_id=request_id(arguments))
    released = server.call(server.snapshots.ReleaseSnapshot, request)
    return output(arguments, released, lambda s: f"{shown(s.display_name)} can be deleted again.")


def held_text(snapshot: pb.Snapshot) -> str:
    """Return who holds a snapshot, since when and why; empty if nobody does."""
    if not snapshot.HasField("hold"):
        return ""
    why = f": {snapshot.hold.reason}" if snapshot.hold.reason else ""
    return f"by {snapshot.hold.actor} since {when(snapshot.hold.time)}{why}"
