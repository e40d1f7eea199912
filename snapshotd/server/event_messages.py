"""Builds the API's messages of events from the envelopes of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from snapshotd.api.v1 import audit_pb2 as pb
from snapshotd.domain.events import Envelope, subject_of, transition_of
from snapshotd.domain.ids import OperationName, SnapshotId, VmId
from snapshotd.domain.operation import Operation
from snapshotd.domain.storage_errors import NOT_READ
from snapshotd.ports import plain
from snapshotd.ports.views import Views
from snapshotd.server.event_summaries import Names, owner_of, summary_of
from snapshotd.server.struct_values import struct_of
from snapshotd.server.wire_values import timestamp

LARGEST_DATA: Final = 3 * 1024 * 1024
"""The bytes of the largest data of an event: with more, no caller would take the event, nor any page that it is in."""


_OF_SNAPSHOTS: Final = ("snapshot_id", "parent_id")
_ENDS: Final = ("", "from_", "to_")
"""How the fields of events are named that hold a snapshot's id."""


async def names_in(views: Views, envelopes: Sequence[Envelope]) -> Names:
    """Return what the views know of the subjects of events. Without views, nothing is known: the ids stand for it."""
    vms = {envelope.stream: VmId(owner_of(envelope)) for envelope in envelopes}
    snapshots: set[tuple[VmId, SnapshotId]] = set()
    for envelope in envelopes:
        fields = (getattr(envelope.event, end + name, None) for end in _ENDS for name in _OF_SNAPSHOTS)
        snapshots.update((vms[envelope.stream], found) for found in fields if found is not None)
    operations: dict[OperationName, Operation] = {}
    try:
        for name in {envelope.operation for envelope in envelopes if envelope.operation is not None}:
            if (known := await views.operation(name)) is not None:
                operations[name] = known
                snapshots |= {(known.vm_id, known.snapshot_id)} if known.snapshot_id is not None else set()
        return Names(*await views.display_names(frozenset(vms.values()), snapshots), operations)
    except NOT_READ:
        return Names()


def event_message(envelope: Envelope, names: Names) -> pb.Event:
    """Return an event as callers get it."""
    from_state, to_state = transition_of(envelope.event)
    data = struct_of(plain.encode(envelope.event))
    size = data.ByteSize()
    return pb.Event(
        position=envelope.position,
        stream=envelope.stream,
        version=envelope.version,
        event_id=envelope.event_id,
        time=timestamp(envelope.time),
        actor=envelope.actor,
        request_id=envelope.request_id,
        operation=envelope.operation or "",
        subject=_subject(envelope),
        type=type(envelope.event).__name__,
        from_state=from_state,
        to_state=to_state,
        data=data if size <= LARGEST_DATA else None,
        omitted_data_bytes=size if size > LARGEST_DATA else 0,
        summary=summary_of(envelope, names),
        on_behalf_of=envelope.on_behalf_of,
    )


def _subject(envelope: Envelope) -> str:
    """Return the resource name of an event's subject."""
    owner = owner_of(envelope)
    kind, _, name = subject_of(envelope.event).partition("/")
    match kind:
        case "host":
            return f"hosts/{owner}"
        case "access":
            return kind
        case "snapshot":
            return f"virtualMachines/{owner}/snapshots/{name}"
        case "operation":
            return str(envelope.operation)
        case "step":
            return f"{envelope.operation}/steps/{name.partition('.')[2]}"
        case _:
            return f"virtualMachines/{owner}"
