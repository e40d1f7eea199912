"""What a projection is: a name, and a handler that changes its own tables for one event. Never acts on the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from projections.store import Rows
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import HostId, VmId

Handler = Callable[[Rows, Envelope], None]


@dataclass(frozen=True, slots=True)
class Projection:
    """One projection. Its handler reads and writes no table but its own."""

    name: str
    handle: Handler


def vm_of(envelope: Envelope) -> VmId | None:
    """Return the VM whose stream an event is in."""
    kind, _, name = envelope.stream.partition("/")
    return VmId(name) if kind == "vm" else None


def host_of(envelope: Envelope) -> HostId | None:
    """Return the host whose stream an event is in."""
    kind, _, name = envelope.stream.partition("/")
    return HostId(name) if kind == "host" else None
