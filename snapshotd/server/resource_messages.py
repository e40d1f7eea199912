"""Builds the API's messages of hosts, VMs, snapshots and trees from the domain's values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from snapshotd.api.v1 import host_pb2, snapshot_pb2, virtual_machine_pb2
from snapshotd.dispatch.watch import Wait
from snapshotd.domain.conditions import conditions
from snapshotd.domain.export import Export, ExportPolicy, Release
from snapshotd.domain.host import HostRecord
from snapshotd.domain.host_report import Checkpoint, Disk, HostAnswer, VmDescription, VmReport, file_key
from snapshotd.domain.ids import CheckpointId, SnapshotId
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.offering import Offering
from snapshotd.domain.snapshot import Snapshot, counts_towards_limit
from snapshotd.domain.vm_record import VmRecord
from snapshotd.ports.views import NO_ACTIVITY
from snapshotd.server.operation_messages import failure_message, host_name, snapshot_name, vm_name, wait_message
from snapshotd.server.registering import Refused, name_of
from snapshotd.server.wire_values import timestamp, wire_power
from snapshotd.steps.checkpoint_name import is_marked

_NOT_TRIED: Final = "CREDENTIAL_MISSING"
"""The executor did not even try to reach the host."""


def host_message(
    host: HostRecord,
    vm_count: int,
    executor: str,
    contact: tuple[bool, Wait | None],
    last: HostAnswer | None,
    why: Wait | None,
) -> host_pb2.Host:
    """Return a host.

    Args:
        host: what is on record.
        vm_count: how many registered VMs it has.
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
        name=host_name(host.host_id),
        address=host.address,
        port=host.port,
        transport=host_pb2.Host.Transport.Value(host.transport),
        credential=host.credential,
        ca_file=host.ca_file,
        journal_directory=host.journal_directory,
        state=state,
        wait=wait_message(why),
        executor=executor,
        last_sync_time=timestamp(host.synced_at),
        computer_name=last.host_name if last else "",
        os_version=last.os_version if last else "",
        powershell=last.powershell if last else "",
        virtual_machine_count=vm_count,
        create_time=timestamp(host.registered_at),
    )


def vm_message(
    vm: VmRecord, snapshots: Iterable[Snapshot], limit: int, observed: datetime | None
) -> virtual_machine_pb2.VirtualMachine:
    """Return a VM.

    Args:
        vm: what is on record.
        snapshots: its snapshots; those that are REMOVED may be left out.
        limit: how many it may have.
        observed: when its host last reported it.
    """
    snapshots = tuple(snapshots)
    own = {s.checkpoint_id for s in snapshots if s.state is not SnapshotState.REMOVED} | set(vm.temporary_checkpoints())
    described = vm.description
    message = virtual_machine_pb2.VirtualMachine(
        name=vm_name(vm.vm_id),
        uid=vm.vm_id,
        display_name=vm.name,
        host=host_name(vm.host_id),
        owner=vm.owner,
        state=vm_state(vm),
        power=wire_power(vm.power),
        activity=_activity(vm),
        labels=vm.labels,
        current_snapshot=snapshot_name(vm.vm_id, vm.current_id),
        active_operations=[active.name for active in vm.active],
        snapshot_count=sum(counts_towards_limit(s, described) for s in snapshots),
        snapshot_limit=limit,
        create_time=timestamp(vm.registered_at),
        update_time=timestamp(vm.updated_at),
        observe_time=timestamp(observed),
        version=vm.version,
        unregister_time=None if vm.registered else timestamp(vm.updated_at),
        exports=map(_export, vm.exports),
        export_policy=policy_value(vm.export_policy),
        released=_release(vm.released),
        conditions=[
            virtual_machine_pb2.VirtualMachine.Condition(reason=c.reason, message=c.message) for c in conditions(vm)
        ],
    )
    if described is not None:
        message.service_offering.CopyFrom(offering_message(described.offering))
        message.disks.extend(_disks(described.disks, described))
        message.foreign_checkpoint_count = sum(c.checkpoint_id not in own for c in described.checkpoints)
        message.snapshot_blockers.extend(described.snapshot_blockers)
        if described.checkpoint_type == "Disabled":
            message.snapshot_blockers.append("CHECKPOINTS_DISABLED")
    return message


def policy_value(policy: ExportPolicy) -> virtual_machine_pb2.VirtualMachine.ExportPolicy.ValueType:
    """Return a VM's export policy; unspecified if it is the server's."""
    policies = virtual_machine_pb2.VirtualMachine.ExportPolicy
    own = policy is not ExportPolicy.AS_SERVER
    return policies.Value(policy.name) if own else policies.EXPORT_POLICY_UNSPECIFIED


def _export(export: Export) -> virtual_machine_pb2.VirtualMachine.Export:
    return virtual_machine_pb2.VirtualMachine.Export(
        directory=export.directory,
        configuration_path=export.configuration_path,
        size_bytes=export.size_bytes,
        host=host_name(export.host_id),
        create_time=timestamp(export.made_at),
        of_version=export.of_version,
        in_use=export.in_use,
    )


def _release(release: Release | None) -> virtual_machine_pb2.VirtualMachine.Release | None:
    if release is None:
        return None
    return virtual_machine_pb2.VirtualMachine.Release(
        host=host_name(release.host_id), directory=release.directory, time=timestamp(release.at)
    )


def vm_state(vm: VmRecord) -> virtual_machine_pb2.VirtualMachine.State.ValueType:
    """Return the state of a VM: its activity, or its power if there is none."""
    return _activity(vm) or virtual_machine_pb2.VirtualMachine.State.Value(vm.power.name)


def _activity(vm: VmRecord) -> virtual_machine_pb2.VirtualMachine.State.ValueType:
    states = virtual_machine_pb2.VirtualMachine.State
    return states.STATE_UNSPECIFIED if vm.activity in NO_ACTIVITY else states.Value(vm.activity.name)


def snapshot_message(snapshot: Snapshot, vm: VmRecord) -> snapshot_pb2.Snapshot:
    """Return a snapshot of a VM."""
    checkpoint = vm.description.checkpoint(snapshot.checkpoint_id) if vm.description else None
    at_work = [a.name for a in vm.active if snapshot.snapshot_id in (a.snapshot_id, *a.touches)]
    message = snapshot_pb2.Snapshot(
        name=snapshot_name(snapshot.vm_id, snapshot.snapshot_id),
        uid=snapshot.snapshot_id,
        display_name=snapshot.name,
        description=snapshot.description,
        kind=kind_of(with_memory=snapshot.with_memory),
        requested_kind=kind_of(with_memory=snapshot.requested_with_memory),
        state=snapshot_pb2.Snapshot.State.Value(snapshot.state.name),
        parent=snapshot_name(snapshot.vm_id, snapshot.parent_id),
        current=vm.current_id == snapshot.snapshot_id,
        checkpoint_id=snapshot.checkpoint_id or "",
        size_bytes=snapshot.size_bytes,
        create_time=timestamp(snapshot.requested_at),
        update_time=timestamp(snapshot.updated_at),
        failure=failure_message(snapshot.failure, snapshot.updated_at),
        actor=snapshot.actor,
        labels=snapshot.labels,
        adopted=snapshot.adopted,
        expire_time=timestamp(snapshot.expire_at),
        active_operation=at_work[0] if at_work else "",
    )
    if snapshot.hold is not None:
        message.hold.actor, message.hold.reason = snapshot.hold.actor, snapshot.hold.why
        message.hold.time.FromDatetime(snapshot.hold.since)
    if checkpoint is not None and vm.description is not None:
        message.disks.extend(_disks(checkpoint.disks, vm.description))
    if (offering := snapshot.offering or (checkpoint.offering if checkpoint else None)) is not None:
        message.service_offering.CopyFrom(offering_message(offering))
    return message


def offering_message(offering: Offering) -> virtual_machine_pb2.ServiceOffering:
    """Return processors and memory. Whether memory is dynamic is known only with its bounds."""
    known = offering.minimum_bytes > 0 or offering.maximum_bytes > 0
    return virtual_machine_pb2.ServiceOffering(
        cpu_count=offering.cpu_count,
        memory_bytes=offering.memory_bytes,
        dynamic_memory=offering.dynamic_memory if known else None,
        minimum_bytes=offering.minimum_bytes,
        maximum_bytes=offering.maximum_bytes,
    )


def tree_message(vm: VmRecord, snapshots: Iterable[Snapshot], observed: datetime | None) -> snapshot_pb2.SnapshotTree:
    """Return the tree of a VM's snapshots, with foreign checkpoints in their places."""
    snapshots = [s for s in snapshots if s.state is not SnapshotState.REMOVED]
    checkpoints = {c.checkpoint_id: c for c in vm.description.checkpoints} if vm.description else {}
    passed = {temporary: checkpoints.pop(temporary).parent_id for temporary in vm.temporary_checkpoints()}
    own = {s.checkpoint_id: s.snapshot_id for s in snapshots if s.checkpoint_id is not None}
    ids: dict[CheckpointId | SnapshotId, str] = {c: f"checkpoints/{c}" for c in checkpoints if c not in own}
    ids |= {s.snapshot_id: snapshot_name(s.vm_id, s.snapshot_id) for s in snapshots}

    def node_of(checkpoint_id: CheckpointId | None) -> str:
        while checkpoint_id in passed:  # it is there for a while only, and stands in no tree
            checkpoint_id = passed[checkpoint_id]
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
        if vm.description is not None and checkpoint.checkpoint_id not in own:
            name = ids[checkpoint.checkpoint_id]
            foreign = foreign_message(checkpoint, vm)
            parent = node_of(checkpoint.parent_id)
            nodes[name] = snapshot_pb2.SnapshotTree.Node(id=name, parent=parent, foreign_checkpoint=foreign)
    return snapshot_pb2.SnapshotTree(
        virtual_machine=vm_name(vm.vm_id),
        display_name=vm.name,
        state=vm_state(vm),
        nodes=_parents_first(nodes),
        current_node=node_of(vm.description.current_checkpoint_id) if vm.description else "",
        current_snapshot=snapshot_name(vm.vm_id, vm.current_id),
        version=vm.version,
        observe_time=timestamp(observed),
        update_time=timestamp(vm.updated_at),
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


def refused_message(refused: Refused, now: datetime) -> virtual_machine_pb2.RegisterHostVirtualMachinesResponse.Refused:
    """Return a VM that was not registered, and why."""
    return virtual_machine_pb2.RegisterHostVirtualMachinesResponse.Refused(
        vm_id=refused.report.vm_id,
        display_name=name_of(refused.report) or "",
        failure=failure_message(refused.why, now),
    )


def _parents_first(nodes: Mapping[str, snapshot_pb2.SnapshotTree.Node]) -> list[snapshot_pb2.SnapshotTree.Node]:
    """Return nodes, parents before children, siblings by time of creation. A node without its parent becomes a root."""

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


def foreign_message(checkpoint: Checkpoint, vm: VmRecord) -> snapshot_pb2.ForeignCheckpoint:
    """Return a checkpoint of a VM that is not ours."""
    message = snapshot_pb2.ForeignCheckpoint(
        checkpoint_id=checkpoint.checkpoint_id,
        display_name=checkpoint.name,
        checkpoint_type=checkpoint.checkpoint_type,
        automatic=checkpoint.automatic,
        has_memory=checkpoint.has_memory,
        create_time=timestamp(checkpoint.created_at),
        size_bytes=vm.description.size_of(checkpoint) if vm.description else 0,
        marked_as_ours=is_marked(checkpoint.name),
    )
    if (ignored := vm.ignored.get(checkpoint.checkpoint_id)) is not None:
        message.ignore.actor, message.ignore.reason = ignored.actor, ignored.why
        message.ignore.time.FromDatetime(ignored.at)
    return message


def _disks(disks: Iterable[Disk], described: VmDescription) -> Iterator[virtual_machine_pb2.Disk]:
    """Yield disks with the sizes of their files. A VM may have thousands of files: they are looked through once."""
    sizes = {file_key(file.path): (file.file_bytes, file.size_bytes) for file in described.files}
    for disk in disks:
        taken, shown = sizes.get(file_key(disk.path), (0, 0))
        yield virtual_machine_pb2.Disk(location=disk.location, path=disk.path, file_bytes=taken, size_bytes=shown)


def kind_of(*, with_memory: bool) -> snapshot_pb2.Snapshot.Kind.ValueType:
    """Return the kind of a snapshot."""
    return snapshot_pb2.Snapshot.DISK_AND_MEMORY if with_memory else snapshot_pb2.Snapshot.DISK
