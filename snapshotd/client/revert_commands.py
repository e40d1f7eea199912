"""`snapshotctl snapshot revert` and `undo-revert`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

from google.longrunning.operations_pb2 import ListOperationsRequest, Operation

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.options import request_id
from snapshotd.client.pages import pages
from snapshotd.client.plan import about_snapshot
from snapshotd.client.progress import metadata_of
from snapshotd.client.render import last, shown
from snapshotd.client.resolve import snapshot_name, vm_name

_POWERS = {
    "as-snapshot": pb.RevertToSnapshotRequest.AS_SNAPSHOT,
    "running": pb.RevertToSnapshotRequest.RUNNING,
    "as-before": pb.RevertToSnapshotRequest.AS_BEFORE,
}


def revert(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Bring a VM back to a snapshot."""
    vm = vm_name(server, arguments.vm)
    target = snapshot_name(server, vm, arguments.snapshot, repeated=bool(arguments.request_id))
    return about_snapshot(server, arguments, vm, _asked(server, arguments, target), arguments.snapshot)


def undo(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Bring a VM back to what it was before its last revert."""
    vm = vm_name(server, arguments.vm)
    before = _before_last_revert(server, arguments.vm, vm)
    return about_snapshot(server, arguments, vm, _asked(server, arguments, before.name), before.display_name)


def _asked(server: Server, arguments: argparse.Namespace, target: str) -> Operation:
    changes = pb.RevertToSnapshotRequest
    request = pb.RevertToSnapshotRequest(
        name=target,
        power_state_change=changes.REFUSE if arguments.refuse_power_change else changes.ALLOW,
        power_after=_POWERS[arguments.power_after],
        safety_snapshot=arguments.safety_snapshot or arguments.safety_snapshot_name is not None,
        safety_snapshot_name=arguments.safety_snapshot_name,
        require_memory=arguments.require_memory,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    return server.call(server.snapshots.RevertToSnapshot, request)


def _before_last_revert(server: Server, text: str, vm: str) -> pb.Snapshot:
    """Return the safety snapshot of a VM's last revert that is READY. Raises Failed if there is none.

    A revert back to it is no further revert to be undone, so undoing twice leads to the same state.

    Args:
        server: the server to ask.
        text: the VM, as the user named it.
        vm: its resource name.
    """
    later: list[OperationMetadata] = []
    list_it = f"See `snapshotctl snapshot list {shlex.quote(text)}`."
    for done in _reverts(server, vm):
        if not done.safety_snapshot:
            later.append(done)
            continue
        safety = server.call(server.snapshots.GetSnapshot, pb.GetSnapshotRequest(name=done.safety_snapshot))
        if safety.state != pb.Snapshot.READY:
            later.append(done)
            continue
        other = next((m for m in later if m.snapshot != safety.name and m.state == OperationMetadata.SUCCEEDED), None)
        if other is not None:
            named = f"{shown(safety.display_name)} ({last(safety.name)})"
            raise Failed(
                f"Cannot undo the last revert of {shown(text)}: no snapshot of the state before it is there. The last "
                f"one of an earlier revert is {named}. To go back to that, run "
                f"`snapshotctl snapshot revert {shlex.quote(text)} {last(safety.name)}`.",
                ExitCode.REFUSED,
            )
        return safety
    what = "no snapshot was taken before it, or none is READY" if later else "there was none"
    raise Failed(f"Cannot undo the last revert of {shown(text)}: {what}. {list_it}", ExitCode.REFUSED)


def _reverts(server: Server, vm: str) -> Iterator[OperationMetadata]:
    """Yield the reverts of a VM that have ended, the newest first."""
    kind = OperationMetadata.Kind.Name(OperationMetadata.REVERT_TO_SNAPSHOT)
    request = ListOperationsRequest(filter=f'virtual_machine = "{vm}" AND kind = "{kind}" AND done = "true"')
    for page in pages(server, server.operations.ListOperations, request):
        yield from map(metadata_of, page.operations)
