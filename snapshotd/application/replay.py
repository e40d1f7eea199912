"""Replay: what a start needs of the log, folded; and all of it, to check it. Acts on nothing.

A start needs the hosts, the volumes that are claimed, and the VMs with an operation under way. The others are folded
when they are asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from snapshotd.application.hosts import Hosts
from snapshotd.application.readable import refuse_unknown, refuse_unreadable
from snapshotd.application.standing import ACTIVE, SHAPE, vm_standing, volume_standing
from snapshotd.application.virtual_machines import VirtualMachines, apply
from snapshotd.application.volumes import Volumes, last_of
from snapshotd.domain.ids import StreamId, vm_in, vm_stream
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume import volume_stream
from snapshotd.ports.event_log import EventLog, Standing

_TOGETHER = 200
"""Streams that are folded at a time."""


async def replay(log: EventLog, vms: VirtualMachines, hosts: Hosts, volumes: Volumes) -> int:
    """Fold what a start needs; return the position of the newest event.

    Raises LogUnavailable, LogIncomplete, RecordNotReadable, UnreadableEvent.
    """
    if await log.standings_shape() != SHAPE:
        await restand(log)
    await hosts.start()
    await volumes.start()
    for vm in await vms.load_all(await vms.marked(ACTIVE)):
        for operation in vm.active_operations:
            refuse_unreadable(operation)
    return log.head_position()


async def restand(log: EventLog) -> None:
    """Make the places and marks of all streams anew, from their events (standing.py). Raises as `replay` does."""
    await log.restand(_standings(log), SHAPE)


async def _standings(log: EventLog) -> AsyncIterator[Mapping[StreamId, Standing]]:
    async for vms in every_vm(log):
        yield {vm_stream(vm.vm_id): vm_standing(VirtualMachine(vm_id=vm.vm_id), vm) for vm in vms}
    after = None
    while rows := await log.rows_from("volume/", after, _TOGETHER):
        after = rows[-1].stream
        yield {volume_stream(volume.key): volume_standing(volume) for volume in await last_of(log, rows)}


async def every_vm(log: EventLog) -> AsyncIterator[tuple[VirtualMachine, ...]]:
    """Yield all VMs on record, some at a time, each folded from its first event. Raises as `replay` does."""
    after = None
    while rows := await log.rows_from("vm/", after, _TOGETHER):
        after = rows[-1].stream
        vms = {row.stream: VirtualMachine(vm_id=vm_in(row.stream)) for row in rows}
        for envelope in await log.read_streams(dict.fromkeys(vms, 0)):
            refuse_unknown(envelope)
            vms[envelope.stream] = apply(vms[envelope.stream], envelope)
        yield tuple(vms.values())


@dataclass(frozen=True, slots=True)
class Counts:
    """What a whole log holds."""

    position: int
    """Of its newest event."""
    vms: int
    """The registered ones."""
    operations: int
    """The active ones."""


async def fold_all(log: EventLog, vms: VirtualMachines, hosts: Hosts, volumes: Volumes) -> Counts:
    """Fold every stream from its first event, then make the rows of all streams anew. Raises as `replay` does.

    Folded twice, so that a log that cannot be read stays as it is.
    """
    counts = Counts(log.head_position(), 0, 0)
    async for some in every_vm(log):
        registered = sum(vm.registered for vm in some)
        counts = replace(
            counts,
            vms=counts.vms + registered,
            operations=counts.operations + sum(len(vm.active_operations) for vm in some),
        )
    await restand(log)
    await replay(log, vms, hosts, volumes)
    return counts
