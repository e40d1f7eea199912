"""`snapshotctl snapshot delete` and `delete-all`."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import request_id
from snapshotd.client.plan import about_snapshot
from snapshotd.client.resolve import snapshot_name, vm_name


def delete(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Delete a snapshot, it and all below it, or all below it."""
    vm, scopes = vm_name(server, arguments.vm), pb.DeleteSnapshotRequest
    scope, words = scopes.ONE, ("delete snapshot", "")
    if arguments.with_descendants:
        scope, words = scopes.WITH_DESCENDANTS, ("delete snapshot", " and all below it")
    elif arguments.only_descendants:
        scope, words = scopes.ONLY_DESCENDANTS, ("delete all below snapshot", "")
    request = pb.DeleteSnapshotRequest(
        name=snapshot_name(server, vm, arguments.snapshot, repeated=bool(arguments.request_id)),
        scope=scope,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.snapshots.DeleteSnapshot, request)
    return about_snapshot(
        server, arguments, vm, operation, arguments.snapshot, what=lambda name: f"{words[0]} {name}{words[1]}"
    )


def delete_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Delete all snapshots of a VM, or those with memory."""
    vm = vm_name(server, arguments.vm)
    request = pb.DeleteAllSnapshotsRequest(
        parent=vm,
        only_with_memory=arguments.with_memory,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.snapshots.DeleteAllSnapshots, request)
    what = f"delete all snapshots{' with memory' if arguments.with_memory else ''}"
    return about_snapshot(server, arguments, vm, operation, "", what=lambda _: what)
