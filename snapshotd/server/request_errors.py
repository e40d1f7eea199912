"""Errors in a call that are found before the core is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class FilterInvalid(SnapshotdError):
    """A filter that cannot be read."""

    reason: ClassVar[str] = "FILTER_INVALID"
    text: ClassVar[str] = "Cannot read filter {filter!r}: {problem}"
    filter: str
    problem: str


@dataclass(eq=False)
class OrderByInvalid(SnapshotdError):
    """An order that cannot be read."""

    reason: ClassVar[str] = "ORDER_BY_INVALID"
    text: ClassVar[str] = "Cannot read order_by {order_by!r}: {problem}"
    order_by: str
    problem: str


@dataclass(eq=False)
class MalformedRequest(SnapshotdError):
    """A request that is no message of its type, or is not there."""

    reason: ClassVar[str] = "MALFORMED_REQUEST"
    text: ClassVar[str] = (
        "Cannot read the request of {request}: {problem}. Send one message of its type, encoded as its proto says; "
        "texts must be UTF-8."
    )
    request: str
    problem: str


@dataclass(eq=False)
class AnswerTooLarge(SnapshotdError):
    """An answer that callers would not take in one message."""

    reason: ClassVar[str] = "ANSWER_TOO_LARGE"
    text: ClassVar[str] = (
        "Cannot answer {request} in one message: it would have {size} bytes, and {limit} is the most. "
        "Read it in parts: a list has pages, and `snapshotctl snapshot list VM` has the snapshots of a tree."
    )
    request: str
    size: int
    limit: int


@dataclass(eq=False)
class PositionUnknown(SnapshotdError):
    """A position that the caller has read up to in another log: this one was restored from a backup since."""

    reason: ClassVar[str] = "POSITION_UNKNOWN"
    text: ClassVar[str] = (
        "Cannot go on after position {after_position}: this log, whose newest position is {head}, does not hold what "
        "was read there. It was restored from a backup, or it is another installation's. Read it anew."
    )
    after_position: int
    head: int


@dataclass(eq=False)
class VmNotThere(SnapshotdError):
    """A VM that is on record, and not registered: at the time that was asked for, or any longer."""

    reason: ClassVar[str] = "VIRTUAL_MACHINE_NOT_FOUND"
    text: ClassVar[str] = "Cannot show virtual machine {name!r}: {why}"
    name: str
    why: str
    """In a sentence."""


@dataclass(eq=False)
class Stopping(SnapshotdError):
    """The service is stopping, and begins nothing new."""

    reason: ClassVar[str] = "STOPPING"
    text: ClassVar[str] = (
        "Cannot serve {method}: the service is stopping. Nothing was recorded. Try again when it is back."
    )
    method: str


@dataclass(eq=False)
class ActorNotAllowed(SnapshotdError):
    """A caller that may not act under the name it gives."""

    reason: ClassVar[str] = "ACTOR_NOT_ALLOWED"
    text: ClassVar[str] = "Cannot admit the caller at {peer}: {detail}"
    peer: str
    detail: str
