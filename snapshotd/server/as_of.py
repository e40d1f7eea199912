"""A VM and its snapshots as they were, folded from the log by the functions that the views are folded by.

The log is read in batches, and each is folded in a thread, so that no stream is too long for the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.domain.errors import InvalidArgument, NotFound
from snapshotd.domain.events import Envelope, SnapshotEvent, VmEvent
from snapshotd.domain.ids import SnapshotId, VmId, vm_stream
from snapshotd.domain.snapshot import Snapshot, evolve_snapshot
from snapshotd.domain.vm_record import VmRecord, evolve_record
from snapshotd.ports.plain import encode_time
from snapshotd.ports.views import EventQuery
from snapshotd.server.backend import Backend
from snapshotd.server.request_errors import VmNotThere
from snapshotd.server.requests import time_of

_BATCH: Final = 500
"""Events that are read and folded at a time."""

Point: TypeAlias = datetime | int
"""A time, or a version of the VM's stream."""


@dataclass(slots=True)
class Past:
    """A VM with its snapshots, in whatever state, at one version of its stream."""

    vm: VmRecord
    snapshots: dict[SnapshotId, Snapshot] = field(default_factory=dict)

    def take(self, envelopes: Iterable[Envelope]) -> None:
        """Apply events."""
        for envelope in envelopes:
            event = envelope.event
            assert isinstance(event, VmEvent), envelope
            self.vm = evolve_record(self.vm, event, envelope)
            if isinstance(event, SnapshotEvent):
                known = self.snapshots.get(event.snapshot_id)
                self.snapshots[event.snapshot_id] = evolve_snapshot(self.vm.vm_id, known, event, envelope)


def point_of(chosen: str | None, time: Timestamp, version: int) -> Point | None:
    """Return the point that a request names by its `as_of`; None: the present. Raises InvalidArgument.

    Args:
        chosen: the field of `as_of` that is set, if any.
        time: `as_of_time`.
        version: `as_of_version`.
    """
    if chosen is None:
        return None
    if chosen == "as_of_time":
        return time_of(time, chosen)
    if version < 1:
        raise InvalidArgument(chosen, str(version), "must be 1 or more.")
    return version


async def past(backend: Backend, vm_id: VmId, point: Point) -> Past:
    """Return a VM as it was at a version, or after its last event that was recorded at a time or before.

    Raises InvalidArgument for a point that has not come yet, NotFound for a VM that was never registered, and
    VmNotThere for one that was not registered then.
    """
    record = await (await backend.seen("inventory", "audit")).vm(vm_id)
    if record is None:
        raise NotFound("virtual machine", vm_id, "See `snapshotctl vm list`, or register it.")
    newest = f"the newest version is {record.version}, of {_text(record.updated_at)}."
    if isinstance(point, int):
        if point > record.version:
            raise InvalidArgument("as_of_version", str(point), f"it has not come yet: {newest}")
        version = point
    else:
        if point > backend.clock.now():
            raise InvalidArgument("as_of_time", _text(point), f"it has not come yet: {newest}")
        version = await _version_at(backend, vm_id, point)
    folded = Past(VmRecord(vm_id=vm_id))
    while folded.vm.version < version:
        limit = min(_BATCH, version - folded.vm.version)
        batch = await backend.log.read_stream(vm_stream(vm_id), folded.vm.version, limit)
        await asyncio.to_thread(folded.take, batch)
    if not folded.vm.readable:
        raise VmNotThere(vm_id, f"it was not registered then: it was unregistered at {_text(folded.vm.updated_at)}.")
    return folded


async def _version_at(backend: Backend, vm_id: VmId, time: datetime) -> int:
    """Return the version of a VM's last event that was recorded at a time or before. Raises VmNotThere."""
    # Clocks may be set back, so the last event is not the one with the latest time.
    query = EventQuery(vm_id=vm_id, until=time + timedelta(microseconds=1))
    positions = await backend.views.event_positions(query, 0, 1, descending=True)
    if not positions:
        first, *_ = await backend.log.read_stream(vm_stream(vm_id), 0, 1)
        since = _text(first.time)
        raise VmNotThere(vm_id, f"it was not registered yet at that time. It was first registered at {since}.")
    (last,) = await backend.log.read_at(positions)
    return last.version


def _text(time: datetime | None) -> str:
    return encode_time(time) if time else "an unknown time"
