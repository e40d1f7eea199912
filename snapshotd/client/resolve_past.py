"""Finds what is no longer there: VMs that were unregistered and snapshots that were deleted, by name or id.

What is there comes first: only if nothing of that name is, the name means what was.
"""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict

from snapshotd.api.v1.audit_pb2 import ListEventsRequest
from snapshotd.api.v1.snapshot_pb2 import Snapshot
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.pages import pages
from snapshotd.client.render import last, when
from snapshotd.client.resolve import all_snapshots, how_it_went, one_of, snapshot_name, unregistered_vms, vm_name
from snapshotd.domain.names import same_name


def vm_ever(server: Server, text: str) -> str:
    """Return the resource name of a VM that is registered or was. Raises Failed."""
    try:
        return vm_name(server, text)
    except Failed as failed:
        if failed.exit_code is not ExitCode.NOT_FOUND:
            raise
        gone = unregistered_vms(server, text)
        if not gone:
            raise
    ids = [f"{vm.uid} on {last(vm.host)}, {how_it_went(vm)}" for vm in gone]
    one_of("VMs that were unregistered or destroyed", "were named", text, ids)
    return gone[0].name


def snapshot_ever(server: Server, vm: str, text: str) -> str:
    """Return the resource name of a snapshot that is there or was. Raises Failed.

    Args:
        server: the server to ask.
        vm: resource name of the VM; empty if the text is a full resource name.
        text: the user's text.
    """
    try:
        return snapshot_name(server, vm, text)
    except Failed as failed:
        if failed.exit_code is not ExitCode.NOT_FOUND or not vm:
            raise
        gone = _deleted(server, vm, text)
        if not gone:
            raise
    one_of("deleted snapshots", "were named", text, [f"{last(name)}, {about}" for name, about in gone.items()])
    return next(iter(gone))


def _deleted(server: Server, vm: str, text: str) -> dict[str, str]:
    """Return the deleted snapshots of a name, with when they were."""
    try:
        found = [s for s in all_snapshots(server, vm, deleted=True) if s.state == Snapshot.REMOVED]
        return {
            s.name: f"taken {when(s.create_time)}, deleted {when(s.update_time)}"
            for s in found
            if same_name(s.display_name, text)
        }
    except Failed as failed:
        if failed.exit_code is not ExitCode.NOT_FOUND:
            raise
    # The VM is not registered: only the log knows its snapshots.
    request = ListEventsRequest(virtual_machine=vm, types=["SnapshotRequested"])
    events = (e for page in pages(server, server.audit.ListEvents, request) for e in page.events)
    return {
        e.subject: f"requested {when(e.time)}" for e in events if same_name(MessageToDict(e.data).get("name", ""), text)
    }
