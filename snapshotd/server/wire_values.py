"""Translates power and time between the core and protobuf, for all messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.domain.lifecycle import Power

_POWERS: Final = {
    pb.RUNNING: Power.RUNNING,
    pb.STOPPED: Power.STOPPED,
    pb.PAUSED: Power.PAUSED,
    pb.SAVED: Power.SAVED,
    pb.UNKNOWN: Power.UNKNOWN,
    pb.ABSENT: Power.ABSENT,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WIRE_POWERS: Final = {power: wire for wire, power in _POWERS.items()}


def wire_power(power: Power) -> pb.Power.ValueType:
    """Return a power as the API and the host protocol name it."""
    return _WIRE_POWERS[power]


def power_of(wire: pb.Power.ValueType) -> Power:
    """Return the power that a message names. Raises KeyError for one that this release does not know."""
    return _POWERS[wire]


def timestamp(time: datetime | None) -> Timestamp | None:
    """Return a time as protobuf has it; None stays absent."""
    if time is None:
        return None
    since = time - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
