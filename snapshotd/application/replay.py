"""Replay: the whole log folded into VMs, hosts and volumes, at the start and after any outage. Changes nothing."""

from __future__ import annotations

from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.domain.events import Envelope, HostEvent, OperationRequested, PlanRepeated, UndoPlanned, VolumeEvent
from snapshotd.domain.ids import StreamId
from snapshotd.domain.operation import Operation
from snapshotd.domain.storage_errors import LogIncomplete, RecordNotReadable
from snapshotd.operations.catalogue import KINDS
from snapshotd.ports.event_log import EventLog
from snapshotd.steps.catalogue import ACTIONS

_PAGE = 1000


async def replay(log: EventLog, vms: VirtualMachines, hosts: Hosts, volumes: Volumes) -> int:
    """Fold every envelope of the log; return the position of the last. Raises LogIncomplete, RecordNotReadable."""
    position, versions = 0, dict[StreamId, int]()
    while page := await log.read_all(position, _PAGE):
        for envelope in page:
            expected = versions.get(envelope.stream, 0) + 1
            if envelope.version != expected:
                raise LogIncomplete(envelope.stream, expected, envelope.position)
            versions[envelope.stream] = expected
            _check_known(envelope)
            event = envelope.event
            (hosts if isinstance(event, HostEvent) else volumes if isinstance(event, VolumeEvent) else vms).take(
                envelope
            )
        position = page[-1].position
    for operation in (operation for vm in vms.with_work() for operation in vm.active_operations):
        _check_readable(operation)
    return position


def _check_known(envelope: Envelope) -> None:
    """Raise RecordNotReadable for a kind or an action that this release does not have."""
    event = envelope.event
    if isinstance(event, OperationRequested) and event.kind not in KINDS:
        raise RecordNotReadable(f"position {envelope.position} of the log", f"there is no kind {event.kind}")
    if isinstance(event, OperationRequested | UndoPlanned | PlanRepeated):
        for step in event.steps:
            if step.action not in ACTIONS:
                raise RecordNotReadable(f"position {envelope.position} of the log", f"there is no action {step.action}")


def _check_readable(operation: Operation) -> None:
    """Raise RecordNotReadable for what an active operation has put on record, and this release cannot go on with."""
    try:
        KINDS[operation.kind].params.read(operation.params)
        for step in operation.steps:
            action = ACTIONS[step.plan.action]
            parts = [(action.input, step.plan.input), (action.facts, step.before), (action.output, step.output)]
            for part, recorded in parts:
                if recorded is not None:
                    part.read(recorded)
    except RecordNotReadable as error:
        raise RecordNotReadable(f"{error.record} of {operation.name}", error.problem) from error
