"""Errors of the event log. Each message says what to do."""

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
        return f"Cannot read event {self.topic!r}: {self.problem}. Run the release that wrote it, or restore the log."


@dataclass(eq=False)
class LogInUse(SnapshotdError):
    """Another process owns the log."""

    reason: ClassVar[str] = "LOG_IN_USE"
    path: str
    owner: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot open {self.path}: it is in use by process {self.owner or 'unknown'}. Stop that process first."


@dataclass(eq=False)
class LogForeign(SnapshotdError):
    """A file that is not an event log of snapshotd, or is one of another version."""

    reason: ClassVar[str] = "LOG_FOREIGN"
    path: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return (
            f"Cannot use {self.path} as the event log: {self.problem}. "
            "Restore it from a backup, or set storage.directory to another directory."
        )


@dataclass(eq=False)
class StorageUnusable(SnapshotdError):
    """A file of ours that cannot be opened: the disk is full or failing, or the rights are missing."""

    reason: ClassVar[str] = "STORAGE_UNUSABLE"
    path: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return (
            f"Cannot open {self.path}: {self.problem}. "
            "Check the disk, its free space and the rights on the file, then start again."
        )
