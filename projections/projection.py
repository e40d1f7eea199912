"""What a projection is: a name, a handler for one event, and the tables that it changes. Never acts on the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from projections.store import Rows, Schema
from snapshotd.domain.events import Envelope, VolumeEvent
from snapshotd.domain.ids import HostId, VmId

Handler = Callable[[Rows, Envelope], None]


@dataclass(frozen=True, slots=True)
class Projection:
    """One projection. Its handler reads and writes no table but its own."""

    name: str
    handle: Handler
    tables: tuple[Schema, ...] = ()


def vm_of(envelope: Envelope) -> VmId:
    """Return the VM whose stream an event is in, or whose claim it is about; empty for an event of a host."""
    if isinstance(envelope.event, VolumeEvent):
        return envelope.event.vm_id
    kind, _, name = envelope.stream.partition("/")
    return VmId(name if kind == "vm" else "")


def host_of(envelope: Envelope) -> HostId:
    """Return the host whose stream an event is in; empty for any other event."""
    kind, _, name = envelope.stream.partition("/")
    return HostId(name if kind == "host" else "")
