"""What the doctor looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from snapshotd.settings import Settings


class Level(Enum):
    """How bad it is."""

    OK = "OK"
    WARNING = "WARNING"
    """It works, and will not always."""
    ERROR = "ERROR"
    """It does not work, or not safely."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, and what is so; if it is not well, also what to do."""

    level: Level
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the checks look at."""

    settings: Settings
    environ: Mapping[str, str]
    now: datetime
    serves: bool
    """Whether this is about a machine that runs the service; otherwise it runs an executor only."""
    config: Path | None = None
    """The settings file, if there is one."""
    for_unit: bool = False
    """Whether root looks for a unit that is installed: what root can read says nothing of the unit's user."""
    deep: bool = False
    """Whether the whole log is read."""

    def file(self, name: str) -> Path | None:
        """Return the path that a setting has; None: it is not set."""
        value = self.settings.values.get(name)
        return value if isinstance(value, Path) else None

    @property
    def executes(self) -> bool:
        """Whether an executor runs on this machine."""
        return not self.serves or self.settings.switch("executor.in_process")


Check: TypeAlias = Callable[[Ground], Iterator[Finding]]


def ok(subject: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str) -> Finding:
    """Return a finding of what works, and will not always."""
    return Finding(Level.WARNING, subject, text)


def error(subject: str, text: str) -> Finding:
    """Return a finding of what does not work."""
    return Finding(Level.ERROR, subject, text)
