"""Copies an event log while its owner writes it. Never writes the log, and needs no lock on it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapshotd.store.errors import LogForeign
from snapshotd.store.log_file import foreign
from snapshotd.store.streams import EVENTS
from snapshotd.store.verification import reading, refuse_damaged

_PAGES: Final = 4096
"""Pages that are copied at a time, so that a signal can end it."""
_WHOSE: Final = "SELECT id FROM installation"
_NEWEST: Final = f"SELECT IFNULL(MAX(position), 0) FROM {EVENTS}"  # noqa: S608  (a constant)


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What a whole log is about."""

    installation_id: str
    head_position: int
    """Of its newest event; 0: it has none."""


def copy_log(log: Path, copy: Path) -> LogFacts:
    """Copy a log as it is at one moment, and return what the copy holds. It is looked through as by `facts_of`.

    Raises as `facts_of` does.
    """
    if problem := foreign(log):
        raise LogForeign(str(log), problem)
    with reading(log) as source, closing(sqlite3.connect(copy)) as target:
        # Within one transaction of reading, all pages are of one moment, and nothing is begun anew when others write.
        source.execute("BEGIN")
        source.execute(_NEWEST).fetchone()
        source.backup(target, pages=_PAGES, progress=lambda *_: None)
    return facts_of(copy)


def facts_of(log: Path) -> LogFacts:
    """Read a whole log, and return what it is about.

    Raises LogForeign for a file that is no log of this release, LogIncomplete for one that lacks an event,
    sqlite3.Error for one that is damaged or cannot be read.
    """
    if problem := foreign(log):
        raise LogForeign(str(log), problem)
    refuse_damaged(log)
    with reading(log) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'installation'").fetchone():
            raise LogForeign(str(log), "its first start ended before it had its tables")
        ((installation_id,),) = connection.execute(_WHOSE).fetchall()
        ((head,),) = connection.execute(_NEWEST).fetchall()
    return LogFacts(str(installation_id), int(head))


def installation_of(log: Path) -> str:
    """Return the id of the installation that a log is of; empty: it has none, or it cannot be read."""
    try:
        with reading(log) as connection:
            ((installation_id,),) = connection.execute(_WHOSE).fetchall()
    except (OSError, sqlite3.Error, ValueError):
        return ""
    return str(installation_id)


def has_events(log: Path) -> bool:
    """Return whether a file may hold events: it does, or it cannot be told."""
    try:
        with reading(log) as connection:
            found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (EVENTS,)).fetchone()
            return found is not None and connection.execute(_NEWEST).fetchone() != (0,)
    except sqlite3.Error:
        return True
