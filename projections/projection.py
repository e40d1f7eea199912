"""What a projection is: a name, a handler for one event, and the tables that it changes. Never acts on the world."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from projections.rows import Rows, Schema
from snapshotd.domain.events import Envelope, VolumeEvent
from snapshotd.domain.ids import HostId, VmId

Handler = Callable[[Rows, Envelope], None]


@dataclass(frozen=True, slots=True)
class Projection:
    """One projection. Its handler reads and writes no table but its own."""

    name: str
    handle: Handler
    tables: tuple[Schema, ...] = ()
    takes: frozenset[type] | None = None
    """The types of the events that it gets; None: all."""
    finish: Callable[[sqlite3.Connection, int], None] | None = None
    """Called with views.db and the last position of each batch, when that is written, in its transaction."""

    def wanted(self, envelopes: Iterable[Envelope]) -> Iterable[Envelope]:
        """Return those that it gets."""
        takes = self.takes
        return envelopes if takes is None else [e for e in envelopes if type(e.event) in takes]


def vm_of(envelope: Envelope) -> VmId:
    """Return the VM whose stream an event is in, or whose claim it is about; empty for an event of a host."""
    stream = envelope.stream
    if stream.startswith("vm/"):
        return VmId(stream[3:])
    return envelope.event.vm_id if isinstance(envelope.event, VolumeEvent) else VmId("")


def host_of(envelope: Envelope) -> HostId:
    """Return the host whose stream an event is in; empty for any other event."""
    stream = envelope.stream
    return HostId(stream[5:] if stream.startswith("host/") else "")
