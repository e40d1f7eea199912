"""`snapshotd restore`: puts a backup in the place of an event log, which it keeps aside.

    unpacked, looked through ──► lock ──► old files linked aside ──► events.db is a note, no log ──► views dropped,
    old write-ahead log gone ──► tokens ──► events.db is the backup's

Whenever that is interrupted, there is the old log, whole, or a note that no start takes for a log, or the new one:
never a new log beside an old write-ahead log, and never a place where a start would make an empty log, which would be
another installation.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from projections.store import drop_views
from snapshotd.access.atomic_file import SECRET, sync_directory, write_file
from snapshotd.domain.errors import SnapshotdError
from snapshotd.store.copying import facts_of, has_events
from snapshotd.store.log_file import LogFile
from snapshotd.unusable import Unusable
from snapshotd.upkeep.archive import LOG, TOKENS, ArchiveUnusable, Manifest, unpack

_BESIDE: Final = (f"{LOG}-wal", f"{LOG}-shm")
_NOTE: Final = b"A restore by snapshotd was interrupted here. Run it again.\n"
_PRIVATE: Final = 0o700


class RestoreRefused(Unusable):
    """A restore that was not done. The text says why, what is as it was, and what to do."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    manifest: Manifest
    aside: Path | None
    """The directory of what was replaced; None: there was nothing."""
    tokens: str
    """What became of the local tokens, for people; empty: there are none."""


def restore(archive: Path, storage: Path, tokens: Path, now: datetime, *, replace: bool) -> Restored:
    """Put a backup into a storage directory, which is made if it is missing.

    Args:
        archive: the backup.
        storage: the directory of the event log.
        tokens: where the file of local tokens belongs. One that is there stays: it is newer than the backup's, and a
            token that was revoked since must not come back.
        now: the time, in UTC.
        replace: whether a log that has events may be replaced.

    Raises RestoreRefused. A directory that was made for it is gone then.
    """
    new = not storage.exists()
    try:
        return _restored(archive, storage, tokens, now, replace=replace)
    except BaseException:
        if new:
            with suppress(OSError):  # what is in it stays
                storage.rmdir()
        raise


def _restored(archive: Path, storage: Path, tokens: Path, now: datetime, *, replace: bool) -> Restored:
    try:
        storage.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".snapshotd-restore-", dir=storage) as work:
            manifest = _unpacked(archive, Path(work))
            lock = LogFile(storage / LOG)
            try:
                return _put(Path(work), manifest, storage, tokens, now, replace=replace)
            finally:
                lock.release()
    except ArchiveUnusable as error:
        raise RestoreRefused(f"Cannot restore {archive}: {error}. Nothing was changed. Take another backup.") from error
    except SnapshotdError as error:
        raise RestoreRefused(f"Cannot restore to {storage}: {error}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        text = f"Cannot restore {archive} to {storage}: {where}{(error.strerror or str(error)).lower()}. Correct that."
        raise RestoreRefused(text) from error


def _unpacked(archive: Path, work: Path) -> Manifest:
    """Unpack an archive, and look its log through. Raises ArchiveUnusable, OSError."""
    manifest = unpack(archive, work)
    try:
        facts = facts_of(work / LOG)
    except (SnapshotdError, sqlite3.Error) as error:
        raise ArchiveUnusable(f"its event log cannot be used: {error}") from error
    if (facts.installation_id, facts.head_position) != (manifest.installation_id, manifest.head_position):
        raise ArchiveUnusable("its event log is not the one that its manifest describes")
    return manifest


def _put(work: Path, manifest: Manifest, storage: Path, tokens: Path, now: datetime, *, replace: bool) -> Restored:
    log = storage / LOG
    interrupted = log.is_file() and log.stat().st_size == len(_NOTE) and log.read_bytes() == _NOTE
    there = log.exists() and not interrupted
    if there and not replace and has_events(log):
        raise RestoreRefused(
            f"Cannot restore to {storage}: there is an event log already, which has events or cannot be read. "
            "Nothing was changed. Set another storage.directory, or give --replace, which keeps that log aside."
        )
    aside = _linked_aside(storage, now) if there else None
    note = work / "note"
    note.write_bytes(_NOTE)
    note.replace(log)
    for name in _BESIDE:
        (storage / name).unlink(missing_ok=True)
    drop_views(storage / "views.db")
    sync_directory(storage)
    said = _put_tokens(work / TOKENS, tokens, manifest)
    _give_to_owner_of(storage, work / LOG, storage / f"{LOG}.lock")
    (work / LOG).replace(log)
    sync_directory(storage)
    return Restored(manifest, aside, said)


def _linked_aside(storage: Path, now: datetime) -> Path:
    """Give the files of a log a second name each, in a new directory, so that nothing is lost whatever happens next."""
    aside = storage / f"replaced-{now:%Y%m%dT%H%M%SZ}"
    aside.mkdir(mode=_PRIVATE)
    for name in (LOG, f"{LOG}-wal"):
        with suppress(FileNotFoundError):
            os.link(storage / name, aside / name)
    _give_to_owner_of(storage, aside)
    sync_directory(aside)
    return aside


def _give_to_owner_of(directory: Path, *paths: Path) -> None:
    """Give files to the owner of a directory: what root puts there must be the service's."""
    if os.geteuid() == 0:
        owner = directory.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def _put_tokens(backed_up: Path, tokens: Path, manifest: Manifest) -> str:
    if not backed_up.exists():
        return ""
    if tokens.exists():
        return f"{tokens} is as it was: a token that was revoked since the backup must not come back."
    write_file(tokens, backed_up.read_bytes(), SECRET)
    return f"{tokens} is the backup's: tokens that were revoked after {manifest.time:%Y-%m-%d %H:%M}Z are valid again."
