"""Writes histories into a real log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from snapshotd.domain.events import Envelope, NewEvent
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
