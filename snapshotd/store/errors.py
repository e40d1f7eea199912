"""What can be wrong with an event log. Each says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class UnreadableEvent(SnapshotdError):
    """An event in the log that this release cannot read."""

    reason: ClassVar[str] = "LOG_UNREADABLE"
    topic: str
    problem: str

    def message(self) -> str:  # noqa: D102  (said once on the root; so below)
        return (
            f"event {self.topic!r} cannot be read: {self.problem}. Run the release that wrote the log, or restore it."
        )


@dataclass(eq=False)
class LogInUse(SnapshotdError):
    """Another process owns the log."""

    reason: ClassVar[str] = "LOG_IN_USE"
    path: str
    owner: str

    def message(self) -> str:  # noqa: D102
        return (
            f"{self.path} is in use by process {self.owner or 'unknown'}. One snapshotd owns a log; stop the other one."
        )


@dataclass(eq=False)
class LogForeign(SnapshotdError):
    """A file that is not an event log of snapshotd, or one of another version."""

    reason: ClassVar[str] = "LOG_FOREIGN"
    path: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return (
            f"{self.path} is no event log that this release can use: {self.problem}. "
            "Restore it, or name another directory: storage.directory."
        )


@dataclass(eq=False)
class StorageUnusable(SnapshotdError):
    """A file of ours that the system does not let us open: a full disk, missing rights, an error of the disk."""

    reason: ClassVar[str] = "STORAGE_UNUSABLE"
    path: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return (
            f"{self.path} cannot be opened: {self.problem}. See that its disk has room and works, and that the file "
            "can be read and written; then start again."
        )
