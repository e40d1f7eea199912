"""Replay: the whole log folded into VMs and hosts, at the start and after any outage. Changes nothing."""

from __future__ import annotations

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.domain.errors import LogIncomplete, RecordNotReadable
from snapshotd.domain.events import Event, HostEvent, OperationRequested, UndoPlanned
from snapshotd.domain.ids import StreamId
from snapshotd.operations.catalogue import KINDS
from snapshotd.ports.event_log import EventLog
from snapshotd.steps.catalogue import ACTIONS

_PAGE = 1000


async def replay(log: EventLog, vms: VirtualMachines, hosts: Hosts) -> int:
    """Fold every envelope of the log; return the position of the last. Raises LogIncomplete, RecordNotReadable."""
    position, versions = 0, dict[StreamId, int]()
    while page := await log.read_all(position, _PAGE):
        for envelope in page:
            expected = versions.get(envelope.stream, 0) + 1
            if envelope.version != expected:
                raise LogIncomplete(envelope.stream, expected, envelope.position)
            versions[envelope.stream] = expected
            _check_known(envelope.event)
            (hosts if isinstance(envelope.event, HostEvent) else vms).take(envelope)
        position = page[-1].position
    return position


def _check_known(event: Event) -> None:
    """Raise RecordNotReadable for an unknown kind or action, and for values that it cannot read."""
    if isinstance(event, OperationRequested):
        if event.kind not in KINDS:
            raise RecordNotReadable(f"an operation of kind {event.kind}", "this release does not know it")
        KINDS[event.kind].params.read(event.params)
    if isinstance(event, OperationRequested | UndoPlanned):
        for step in event.steps:
            if step.action not in ACTIONS:
                raise RecordNotReadable(f"a step with the action {step.action}", "this release does not know it")
            ACTIONS[step.action].input.read(step.input)
