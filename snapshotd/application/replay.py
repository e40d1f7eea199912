"""Replay: the whole log folded into VMs and hosts, at the start and after any outage. Touches nothing."""

from __future__ import annotations

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.domain.errors import LogIncomplete
from snapshotd.domain.events import HostEvent
from snapshotd.domain.ids import StreamId
from snapshotd.ports.event_log import EventLog

_PAGE = 1000


async def replay(log: EventLog, vms: VirtualMachines, hosts: Hosts) -> int:
    """Fold every envelope of the log; return the position of the last. Raises LogIncomplete."""
    position, versions = 0, dict[StreamId, int]()
    while page := await log.read_all(position, _PAGE):
        for envelope in page:
            expected = versions.get(envelope.stream, 0) + 1
            if envelope.version != expected:
                raise LogIncomplete(envelope.stream, expected, envelope.position)
            versions[envelope.stream] = expected
            (hosts if isinstance(envelope.event, HostEvent) else vms).take(envelope)
        position = page[-1].position
    return position
