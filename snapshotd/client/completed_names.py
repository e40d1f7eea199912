"""The names that can complete a command line, asked of the server. What takes too long, or fails, completes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from google.longrunning.operations_pb2 import ListOperationsRequest

from snapshotd.api.v1.host_pb2 import ListHostsRequest
from snapshotd.api.v1.snapshot_pb2 import ListSnapshotsRequest
from snapshotd.api.v1.virtual_machine_pb2 import (
    GetVirtualMachineRequest,
    ListVirtualMachinesRequest,
    ListVolumeSnapshotsRequest,
)
from snapshotd.client.calls import Server
from snapshotd.client.connection import Connection
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import last
from snapshotd.client.resolve import WORDS, vm_name

_TIMEOUT_S = 1.0
"""Longer than that, nobody waits for a key."""
_MOST = 1000


def names(kind: str, vm: str, word: str, connection: Connection, actor: str) -> Iterable[str]:
    """Return names of a kind.

    Args:
        kind: vm, host, snapshot, operation, place (of a disk) or volume_snapshot.
        vm: the VM on the line, as the user named it; empty: there is none.
        word: what is typed of the name.
        connection: to the server.
        actor: who asks.
    """
    try:
        with Server(connection.address, actor, _TIMEOUT_S, _give_up, security=connection.security) as server:
            return _found(server, kind, vm, word)
    except Failed:
        return ()


def _found(server: Server, kind: str, vm: str, word: str) -> list[str]:
    if kind == "host":
        hosts = server.call(server.hosts.ListHosts, ListHostsRequest(page_size=_MOST)).hosts
        return [last(host.name) for host in hosts]
    if kind == "vm":
        request = ListVirtualMachinesRequest(page_size=_MOST)
        vms = server.call(server.vms.ListVirtualMachines, request).virtual_machines
        return _or_ids([one.display_name for one in vms], [one.uid for one in vms], word)
    if kind == "operation":
        operations = server.call(server.operations.ListOperations, ListOperationsRequest(page_size=50)).operations
        return [one.name if word.startswith("operations/") else one.name.rpartition("-")[2] for one in operations]
    if not vm:
        return []
    if kind == "place":
        disks = server.call(server.vms.GetVirtualMachine, GetVirtualMachineRequest(name=vm_name(server, vm))).disks
        return [disk.location for disk in disks]
    if kind == "volume_snapshot":
        copies = ListVolumeSnapshotsRequest(parent=vm_name(server, vm), page_size=_MOST)
        found = server.call(server.vms.ListVolumeSnapshots, copies).volume_snapshots
        return _or_ids([one.display_name for one in found], [last(one.name) for one in found], word)
    wanted = ListSnapshotsRequest(parent=vm_name(server, vm), page_size=_MOST)
    snapshots = server.call(server.snapshots.ListSnapshots, wanted).snapshots
    return _or_ids([*(one.display_name for one in snapshots), *WORDS], [one.uid for one in snapshots], word)


def _or_ids(found: list[str], ids: list[str], word: str) -> list[str]:
    """Return names; if none begins like that, ids."""
    return found if any(name.startswith(word) for name in found) else ids


def _give_up(_: float) -> None:
    """Raise Failed, where others would wait for a server that may come back."""
    raise Failed("There is no server.", ExitCode.UNAVAILABLE)
