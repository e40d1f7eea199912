"""Writes histories into a real log, and reads what a log has of VMs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from snapshotd.application.replay import every_vm
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.event_log import EventLog
from snapshotd.store.sqlite_log import SqliteEventLog


async def write(log: SqliteEventLog, envelopes: Sequence[Envelope]) -> None:
    """Append events, of each stream in a row together."""
    for stream, group in groupby(envelopes, key=lambda envelope: envelope.stream):
        together = list(group)
        events = [
            NewEvent(
                event_id=f"{envelope.stream}.{envelope.version}",
                time=envelope.time,
                actor=envelope.actor,
                request_id=envelope.request_id,
                operation=envelope.operation,
                event=envelope.event,
            )
            for envelope in together
        ]
        await log.append(stream, together[0].version - 1, events)


async def registered(log: EventLog) -> list[VirtualMachine]:
    """Return the registered VMs."""
    return [vm async for some in every_vm(log) for vm in some if vm.registered]
