"""Builds the API's messages of events from the envelopes of the log."""

from __future__ import annotations

from typing import Final

from snapshotd.api.v1 import audit_pb2 as pb
from snapshotd.domain.events import Envelope, subject_of, transition_of
from snapshotd.ports import plain
from snapshotd.server.struct_values import struct_of
from snapshotd.server.wire_values import timestamp

LARGEST_DATA: Final = 3 * 1024 * 1024
"""The bytes of the largest data of an event: with more, no caller would take the event, nor any page that it is in."""


def event_message(envelope: Envelope) -> pb.Event:
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
    )


def _subject(envelope: Envelope) -> str:
    """Return the resource name of an event's subject."""
    owner = envelope.stream.partition("/")[2]
    kind, _, name = subject_of(envelope).partition("/")
    match kind:
        case "host":
            return f"hosts/{owner}"
        case "snapshot":
            return f"virtualMachines/{owner}/snapshots/{name}"
        case "operation":
            return str(envelope.operation)
        case "step":
            return f"{envelope.operation}/steps/{name.partition('.')[2]}"
        case _:
            return f"virtualMachines/{owner}"
