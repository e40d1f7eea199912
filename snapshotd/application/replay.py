"""Replay: the whole log folded into VMs and hosts, at the start and after any outage. Touches nothing."""

from __future__ import annotations

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.domain.events import HostEvent
from snapshotd.ports.event_log import EventLog

_PAGE = 1000


async def replay(log: EventLog, vms: VirtualMachines, hosts: Hosts) -> int:
    """Fold every envelope of the log; return the position of the last."""
    position = 0
    while page := await log.read_all(position, _PAGE):
        for envelope in page:
            (hosts if isinstance(envelope.event, HostEvent) else vms).take(envelope)
        position = page[-1].position
    return position
