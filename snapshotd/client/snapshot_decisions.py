"""`snapshotctl snapshot ...`: what a person decides about a snapshot. Nothing on the host is touched."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import output, request_id
from snapshotd.client.render import shown, when
from snapshotd.client.resolve import snapshot_name, vm_name


def hold(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Keep a snapshot from being deleted by anyone."""
    name = snapshot_name(server, vm_name(server, arguments.vm), arguments.snapshot)
    request = pb.HoldSnapshotRequest(name=name, reason=arguments.reason, request_id=request_id(arguments))
    held = server.call(server.snapshots.HoldSnapshot, request)
    return output(arguments, held, lambda s: f"Nobody deletes {shown(s.display_name)} until it is released.")


def release(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Allow again that a snapshot is deleted."""
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
