"""`snapshotctl snapshot ...`: what a person decides about snapshots and foreign checkpoints."""

from __future__ import annotations

import argparse
import shlex

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.labels import changed_labels, expiry_of
from snapshotd.client.options import output, request_id
from snapshotd.client.plan import about_snapshot
from snapshotd.client.render import shown, when
from snapshotd.client.resolve import foreign_checkpoint, snapshot_name, vm_name


def update(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Change a snapshot's name, description, labels or expiry."""
    typed = {
        "display_name": arguments.name is not None,
        "description": arguments.description is not None,
        "labels": bool(arguments.label or arguments.remove_label),
        "expire_time": arguments.expires is not None,
    }
    mask = [field for field, there in typed.items() if there]
    if not mask:
        text = "Say what to change: --name, --description, --label, --remove-label or --expires."
        raise Failed(text, ExitCode.USAGE)
    vm = vm_name(server, arguments.vm)
    name = snapshot_name(server, vm, arguments.snapshot)
    known = server.call(server.snapshots.GetSnapshot, pb.GetSnapshotRequest(name=name)) if typed["labels"] else None
    said = pb.Snapshot(
        name=name,
        display_name=arguments.name,
        description=arguments.description,
        labels=changed_labels(arguments, known.labels) if known else {},
        expire_time=expiry_of(arguments),
    )
    request = pb.UpdateSnapshotRequest(
        snapshot=said, request_id=request_id(arguments), validate_only=arguments.dry_run, expected_plan=arguments.expect
    )
    request.update_mask.paths.extend(mask)
    operation = server.call(server.snapshots.UpdateSnapshot, request)
    return about_snapshot(server, arguments, vm, operation, arguments.snapshot)


def hold(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Keep a snapshot from being deleted by anyone."""
    name = snapshot_name(server, vm_name(server, arguments.vm), arguments.snapshot)
    request = pb.HoldSnapshotRequest(name=name, reason=arguments.reason, request_id=request_id(arguments))
    held = server.call(server.snapshots.HoldSnapshot, request)
    released_by = shlex.join(["snapshotctl", "snapshot", "release", arguments.vm, arguments.snapshot])

    def text(snapshot: pb.Snapshot) -> str:
        return f"{shown(snapshot.display_name)} is held: nobody can delete it until `{shown(released_by)}`."

    return output(arguments, held, text)


def release(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Allow again that a snapshot is deleted."""
    name = snapshot_name(server, vm_name(server, arguments.vm), arguments.snapshot)
    request = pb.ReleaseSnapshotRequest(name=name, request_id=request_id(arguments))
    released = server.call(server.snapshots.ReleaseSnapshot, request)
    return output(arguments, released, lambda s: f"{shown(s.display_name)} can be deleted again.")


def forget(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Take a snapshot off the record."""
    vm = vm_name(server, arguments.vm)
    request = pb.DeleteSnapshotRequest(
        name=snapshot_name(server, vm, arguments.snapshot, repeated=bool(arguments.request_id)),
        forget=True,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.snapshots.DeleteSnapshot, request)
    return about_snapshot(server, arguments, vm, operation, arguments.snapshot)


def adopt(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Make a checkpoint that others made a snapshot."""
    vm = vm_name(server, arguments.vm)
    request = pb.AdoptCheckpointRequest(
        parent=vm,
        checkpoint_id=foreign_checkpoint(server, vm, arguments.checkpoint),
        snapshot=pb.Snapshot(
            display_name=arguments.name,
            description=arguments.description,
            labels=dict(arguments.label),
            expire_time=expiry_of(arguments),
        ),
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.snapshots.AdoptCheckpoint, request)
    return about_snapshot(server, arguments, vm, operation, arguments.checkpoint)


def ignore(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Note that a checkpoint that others made may stay."""
    vm = vm_name(server, arguments.vm)
    request = pb.IgnoreCheckpointRequest(
        parent=vm,
        checkpoint_id=foreign_checkpoint(server, vm, arguments.checkpoint),
        reason=arguments.reason,
        undo=arguments.undo,
        request_id=request_id(arguments),
    )
    noted = server.call(server.snapshots.IgnoreCheckpoint, request)
    text = "is no longer ignored" if arguments.undo else "is ignored: it may stay as it is"
    return output(arguments, noted, lambda c: f"Checkpoint {shown(c.display_name)} {text}.")


def held_text(snapshot: pb.Snapshot) -> str:
    """Return who holds a snapshot, since when and why; empty if nobody does."""
    if not snapshot.HasField("hold"):
        return ""
    why = f": {snapshot.hold.reason}" if snapshot.hold.reason else ""
    return f"by {snapshot.hold.actor} since {when(snapshot.hold.time)}{why}"
