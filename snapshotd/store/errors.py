"""Errors of the event log. Each message says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError


@dataclass(eq=False)
class UnreadableEvent(SnapshotdError):
    """An event in the log that this release cannot read."""

    reason: ClassVar[str] = "LOG_UNREADABLE"
    text: ClassVar[str] = "Cannot read event {topic!r}: {problem}. Run the release that wrote it, or restore the log."
    topic: str
    problem: str


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
    text: ClassVar[str] = (
        "Cannot use {path} as the event log: {problem}. "
        "Restore it from a backup, or set storage.directory to another directory."
    )
    path: str
    problem: str


@dataclass(eq=False)
class StorageUnusable(SnapshotdError):
    """A file of ours that cannot be opened: the disk is full or failing, or the rights are missing."""

    reason: ClassVar[str] = "STORAGE_UNUSABLE"
    text: ClassVar[str] = (
        "Cannot open {path}: {problem}. Check the disk, its free space and the rights on the file, then start again."
    )
    path: str
    problem: str
