"""What a caller is told when the event log or the views cannot be written or read. Knows nothing of SQLite or gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class StreamChanged(SnapshotdError):
    """Another append to the stream came first. Read the stream and decide again."""

    reason: ClassVar[str] = "CONFLICT"
    text: ClassVar[str] = "Cannot append to {stream}: it has grown past version {expected}. Try again."
    stream: str
    expected: int


@dataclass(eq=False)
class LogUnavailable(SnapshotdError):
    """The event log cannot be written or read just now. Nothing was recorded."""

    reason: ClassVar[str] = "LOG_UNAVAILABLE"
    text: ClassVar[str] = "Cannot use the event log, so nothing was recorded: {detail}."
    detail: str
    """Why, and what to do; without a full stop."""


@dataclass(eq=False)
class AppendUncertain(SnapshotdError):
    """A write to the event log failed, and nobody knows whether it took effect."""

    reason: ClassVar[str] = "APPEND_UNCERTAIN"
    text: ClassVar[str] = (
        "Cannot tell whether this was recorded: {detail}. "
        "Then repeat the request with the same request id, or look at what is there."
    )
    detail: str


@dataclass(eq=False)
class LogIncomplete(SnapshotdError):
    """The event log lacks an event in the middle of a stream: a row was lost. snapshotd never deletes one."""

    reason: ClassVar[str] = "LOG_INCOMPLETE"
    text: ClassVar[str] = (
        "Cannot rely on the event log: it lacks version {version} of {stream}, which must come before "
        "position {position}. Restore events.db from a backup."
    )
    stream: str
    version: int
    position: int


@dataclass(eq=False)
class RecordNotReadable(SnapshotdError):
    """What a kind of operation or an action of a step has put on record, and this release cannot read."""

    reason: ClassVar[str] = "RECORD_NOT_READABLE"
    text: ClassVar[str] = "Cannot read {record}: {problem}. Run the release that wrote it."
    record: str
    problem: str


@dataclass(eq=False)
class ViewStopped(SnapshotdError):
    """A projection has stopped at an event that it could not take in."""

    reason: ClassVar[str] = "VIEW_STOPPED"
    text: ClassVar[str] = (
        "Cannot read the {view} view: it stopped after position {position} of the log ({detail}). "
        "Commands are still carried out. Remove the cause, stop the service, and run `snapshotd check`, which "
        "rebuilds the views."
    )
    view: str
    position: int
    detail: str


@dataclass(eq=False)
class ViewBehind(SnapshotdError):
    """A view that does not hold yet what was acknowledged."""

    reason: ClassVar[str] = "VIEW_BEHIND"
    view: str
    position: int
    wanted: int
    why: str = ""
    """What keeps the views from following the log, and what to do; empty: nothing is known."""

    def message(self) -> str:  # noqa: D102
        known = f"it is at position {self.position}, not {self.wanted}"
        return f"Cannot read the {self.view} view yet: {known}. {self.why or 'Try again.'}"


@dataclass(eq=False)
class ViewsUnreadable(SnapshotdError):
    """The views' file cannot be read."""

    reason: ClassVar[str] = "VIEWS_UNREADABLE"
    text: ClassVar[str] = "Cannot read the views: {detail}."
    detail: str
    """Why, and what to do; without a full stop."""
    damaged: bool = False
    """What is in the file is not whole."""


NOT_READ: Final = (ViewStopped, ViewBehind, ViewsUnreadable)
"""Errors of reading a view. What was recorded before is durable all the same."""
