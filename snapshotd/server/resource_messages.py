"""Hosts, VMs, snapshots and trees as the API tells them. Reads rows, writes messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from snapshotd.api.v1 import host_pb2, snapshot_pb2, virtual_machine_pb2
from snapshotd.dispatch.courses import Wait
from snapshotd.domain.host_report import Checkpoint, Disk, HostAnswer, VmReport
from snapshotd.domain.ids import CheckpointId, SnapshotId
from snapshotd.domain.lifecycle import SnapshotState, VmActivity
from snapshotd.domain.snapshot import Snapshot, counts_towards_limit
from snapshotd.ports.views import HostRow, SnapshotRow, VmRow
from snapshotd.server.operation_messages import failure_message, host_name, snapshot_name, vm_name, wait_message
from snapshotd.server.wire_values import timestamp, wire_power

_NOT_TRIED: Final = "CREDENTIAL_MISSING"
"""The executor did not even try to reach the host."""
_NO_ACTIVITY: Final = frozenset({VmActivity.NEW, VmActivity.UNREGISTERED, VmActivity.IDLE})


def host_message(
    row: HostRow,
    executor: str,
    contact: tuple[bool, Wait | None],
    last: HostAnswer | None,
    why: Wait | None,
) -> host_pb2.Host:
    """Return a host.

    Args:
        row: what is on record.
        executor: the executor that is fed for it; empty: none.
        contact: whether anybody has tried to reach it, and why it does not answer.
        last: its last report, for what it says of itself.
        why: why nothing can be done on it, whether it answers or not.
    """
    tried, wait = contact
    state = host_pb2.Host.UNTRIED
    if not executor:
        state = host_pb2.Host.NO_EXECUTOR
    elif tried and not (wait and wait.failure.reason == _NOT_TRIED):
        state = host_pb2.Host.UNREACHABLE if wait else host_pb2.Host.REACHABLE
    return host_pb2.Host(
        name=host_name(row.host_id),
        address=row.address,
        port=row.port,
        transport=host_pb2.Host.Transport.Value(row.transport),
        credential=row.credential,
        ca_file=row.ca_file,
        journal_directory=row.journal_directory,
        state=state,
        wait=wait_message(why),
        executor=executor,
        last_sync_time=timestamp(row.last_sync_at),
        computer_name=last.host_name if last else "",
        os_version=last.os_version if last else "",
        powershell=last.powershell if last else "",
        virtual_machine_count=row.vm_count,
        create_time=timestamp(row.registered_at),
    )


def vm_message(
    row: VmRow, snapshots: Iterable[SnapshotRow | Snapshot], limit: int, observed: datetime | None
) -> virtual_machine_pb2.VirtualMachine:
    """Return a VM.

    Args:
        row: what is on record.
        snapshots: all of its snapshots.
        limit: how many it may have.
        observed: when its host last reported it.
    """
    vm_state = virtual_machine_pb2.VirtualMachine.State
    activity = vm_state.STATE_UNSPECIFIED if row.activity in _NO_ACTIVITY else vm_state.Value(row.activity.name)
    snapshots = tuple(snapshots)
    own = {s.checkpoint_id for s in snapshots if s.checkpoint_id is not None}
    described = row.description
    message = virtual_machine_pb2.VirtualMachine(
        name=vm_name(row.vm_id),
        uid=row.vm_id,
        display_name=row.name,
        host=host_name(row.host_id),
        owner=row.owner,
        state=activity or vm_state.Value(row.power.name),
        power=wire_power(row.power),
        activity=activity,
        current_snapshot=snapshot_name(row.vm_id, row.current_id),
        active_operations=row.active_operations,
        snapshot_count=sum(counts_towards_limit(s.state, s.checkpoint_id, described) for s in snapshots),
        snapshot_limit=limit,
        create_time=timestamp(row.registered_at),
        update_time=timestamp(row.updated_at),
        observe_time=timestamp(observed),
        version=row.version,
    )
    if described is not None:
        message.service_offering.cpu_count = described.cpu_count
        message.service_offering.memory_bytes = described.memory_bytes
        message.disks.extend(_disk(d) for d in described.disks)
        message.foreign_checkpoint_count = sum(c.checkpoint_id not in own for c in described.checkpoints)
        message.snapshot_blockers.extend(described.snapshot_blockers)
        if described.checkpoint_type == "Disabled":
            message.snapshot_blockers.append("CHECKPOINTS_DISABLED")
    return message


def snapshot_message(row: SnapshotRow, vm: VmRow | None) -> snapshot_pb2.Snapshot:
    """Return a snapshot of a VM."""
    checkpoint = vm.description.checkpoint(row.checkpoint_id) if vm and vm.description else None
    message = snapshot_pb2.Snapshot(
        name=snapshot_name(row.vm_id, row.snapshot_id),
        uid=row.snapshot_id,
        display_name=row.name,
        description=row.description,
        kind=_kind(with_memory=row.with_memory),
        requested_kind=_kind(with_memory=row.requested_with_memory),
        state=snapshot_pb2.Snapshot.State.Value(row.state.name),
        parent=snapshot_name(row.vm_id, row.parent_id),
        current=vm is not None and vm.current_id == row.snapshot_id,
        checkpoint_id=row.checkpoint_id or "",
        size_bytes=row.size_bytes,
        create_time=timestamp(row.requested_at),
        update_time=timestamp(row.updated_at),
        failure=failure_message(row.failure, row.updated_at),
        actor=row.actor,
        active_operation=row.active_operation or "",
    )
    if checkpoint is not None:
        message.disks.extend(_disk(d) for d in checkpoint.disks)
    if row.cpu_count or row.memory_bytes:
        message.service_offering.cpu_count = row.cpu_count
        message.service_offering.memory_bytes = row.memory_bytes
    return message


def tree_message(vm: VmRow, snapshots: Iterable[SnapshotRow], observed: datetime | None) -> snapshot_pb2.SnapshotTree:
    """Return the tree of a VM's snapshots, with the checkpoints of others where they stand among them."""
    snapshots = [s for s in snapshots if s.state is not SnapshotState.REMOVED]
    checkpoints = {c.checkpoint_id: c for c in vm.description.checkpoints} if vm.description else {}
    own = {s.checkpoint_id: s.snapshot_id for s in snapshots if s.checkpoint_id is not None}
    ids: dict[CheckpointId | SnapshotId, str] = {c: f"checkpoints/{c}" for c in checkpoints if c not in own}
    ids |= {s.snapshot_id: snapshot_name(s.vm_id, s.snapshot_id) for s in snapshots}

    def node_of(checkpoint_id: CheckpointId | None) -> str:
        if checkpoint_id is None:
            return ""
        return ids.get(own.get(checkpoint_id, checkpoint_id), "")

    nodes: dict[str, snapshot_pb2.SnapshotTree.Node] = {}
    for snapshot in snapshots:
        checkpoint = checkpoints.get(snapshot.checkpoint_id) if snapshot.checkpoint_id else None
        parent = node_of(checkpoint.parent_id) if checkpoint else ids.get(snapshot.parent_id or SnapshotId(""), "")
        name = ids[snapshot.snapshot_id]
        nodes[name] = snapshot_pb2.SnapshotTree.Node(id=name, parent=parent, snapshot=snapshot_message(snapshot, vm))
    for checkpoint in checkpoints.values():
        if checkpoint.checkpoint_id not in own:
            name = ids[checkpoint.checkpoint_id]
            foreign = _foreign(checkpoint)
            parent = node_of(checkpoint.parent_id)
            nodes[name] = snapshot_pb2.SnapshotTree.Node(id=name, parent=parent, foreign_checkpoint=foreign)
    return snapshot_pb2.SnapshotTree(
        virtual_machine=vm_name(vm.vm_id),
        display_name=vm.name,
        state=vm_message(vm, snapshots, 0, None).state,
        nodes=_parents_first(nodes),
        current_node=node_of(vm.description.current_checkpoint_id) if vm.description else "",
        current_snapshot=snapshot_name(vm.vm_id, vm.current_id),
        version=vm.version,
        observe_time=timestamp(observed),
    )


def discovered_message(report: VmReport, *, registered: bool) -> host_pb2.DiscoveredVirtualMachine:
    """Return a VM as its host reports it."""
    link = f"virtualMachines/{report.vm_id}" if registered else ""
    if report.unread:
        return host_pb2.DiscoveredVirtualMachine(
            vm_id=report.vm_id,
            display_name=report.unread.name,
            power=wire_power(report.power),
            virtual_machine=link,
            snapshot_blockers=["UNREADABLE"],
        )
    assert report.description is not None, report
    return host_pb2.DiscoveredVirtualMachine(
        vm_id=report.vm_id,
        display_name=report.description.name,
        power=wire_power(report.power),
        host_state=report.host_state,
        virtual_machine=link,
        cpu_count=report.description.cpu_count,
        memory_bytes=report.description.memory_bytes,
        disk_count=len(report.description.disks),
        checkpoint_count=len(report.description.checkpoints),
        snapshot_blockers=report.description.snapshot_blockers,
    )


def _parents_first(nodes: Mapping[str, snapshot_pb2.SnapshotTree.Node]) -> list[snapshot_pb2.SnapshotTree.Node]:
    """Order nodes: parents before children, siblings by time of creation. What hangs in the air counts as a root."""

    def created(node: snapshot_pb2.SnapshotTree.Node) -> tuple[int, int, str]:
        own = node.HasField("snapshot")
        time = node.snapshot.create_time if own else node.foreign_checkpoint.create_time
        return time.seconds, time.nanos, node.id

    children: dict[str, list[snapshot_pb2.SnapshotTree.Node]] = {}
    for node in nodes.values():
        if node.parent not in nodes:
            node.parent = ""
        children.setdefault(node.parent, []).append(node)
    result: list[snapshot_pb2.SnapshotTree.Node] = []
    waiting = sorted(children.get("", ()), key=created, reverse=True)
    while waiting:
        node = waiting.pop()
        result.append(node)
        waiting += sorted(children.get(node.id, ()), key=created, reverse=True)
    return result


def _foreign(checkpoint: Checkpoint) -> snapshot_pb2.ForeignCheckpoint:
    return snapshot_pb2.ForeignCheckpoint(
        checkpoint_id=checkpoint.checkpoint_id,
        display_name=checkpoint.name,
        checkpoint_type=checkpoint.checkpoint_type,
        automatic=checkpoint.automatic,
        has_memory=checkpoint.has_memory,
        create_time=timestamp(checkpoint.created_at),
        size_bytes=checkpoint.system_files_bytes + sum(d.file_bytes for d in checkpoint.disks),
    )


def _disk(disk: Disk) -> virtual_machine_pb2.Disk:
    path = disk.chain[0] if disk.chain else ""
    return virtual_machine_pb2.Disk(location=disk.location, path=path, file_bytes=disk.file_bytes)


def _kind(*, with_memory: bool) -> snapshot_pb2.Snapshot.Kind.ValueType:
    return snapshot_pb2.Snapshot.DISK_AND_MEMORY if with_memory else snapshot_pb2.Snapshot.DISK
