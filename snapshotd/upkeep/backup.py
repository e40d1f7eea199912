"""`snapshotd backup`: copies the event log and the local tokens into one archive, while the service runs.

What is copied is looked through first: a backup of a damaged log would be found out when it is needed.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from snapshotd.access.atomic_file import sync_directory
from snapshotd.domain.errors import SnapshotdError
from snapshotd.small_file import read_small
from snapshotd.store.copying import copy_log
from snapshotd.unusable import Unusable
from snapshotd.upkeep.archive import LOG, TOKENS, Manifest, note, write

_LARGEST_TOKENS: Final = 16 * 1024 * 1024
_MODE: Final = 0o600


class BackupFailed(Unusable):
    """A backup that was not made. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was made."""

    path: Path
    manifest: Manifest


def target_of(text: str) -> Path:
    """Return where a backup goes. Raises BackupFailed if nothing is named, or can only be a directory, and is none."""
    if not text:
        raise BackupFailed("Cannot back up to a file without a name. Name a file, or a directory.")
    path = Path(text)  # which drops a slash at the end
    if not text.endswith(("/", "/.")) or path.is_dir():
        return path
    if path.exists():
        raise BackupFailed(f"Cannot back up to {text}: it is a file. Name a directory, or another file.")
    raise BackupFailed(f"Cannot back up to {text}: there is no such directory. Make it: install -d -m 700 {path}")


def back_up(log: Path, tokens: Path, target: Path, now: datetime) -> Taken:
    """Make a backup; it is on the disk, whole, when this returns. Until then nothing has its name.

    Args:
        log: the event log.
        tokens: the file of local tokens, which need not be there.
        target: the file to write, which must not be there; or a directory for a file that is named by time and head.
        now: the time, in UTC.

    Raises BackupFailed.
    """
    try:
        return _back_up(log, tokens, target, now)
    except FileExistsError as error:
        text = f"Cannot back up to {target}: it exists. Name another file, or a directory: it then gets a name by time."
        raise BackupFailed(text) from error
    except SnapshotdError as error:
        raise BackupFailed(f"Cannot back up {log}: {error}") from error
    except sqlite3.Error as error:
        text = (
            f"Cannot back up {log}: {error}. Check the disk, then run `snapshotd check` while the service is stopped."
        )
        raise BackupFailed(text) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        text = f"Cannot back up {log} to {target}: {where}{(error.strerror or str(error)).lower()}. Correct that."
        raise BackupFailed(text) from error


def _back_up(log: Path, tokens: Path, target: Path, now: datetime) -> Taken:
    if not log.is_file():
        raise BackupFailed(f"Cannot back up {log}: there is no event log. Set storage.directory to where it is.")
    directory = target if target.is_dir() else target.parent
    with tempfile.TemporaryDirectory(prefix=".snapshotd-backup-", dir=directory) as work:
        files = {LOG: Path(work, LOG)}
        facts = copy_log(log, files[LOG])
        if tokens.exists():  # after the log: it has no events, and a revocation is rather in it than not
            files[TOKENS] = Path(work, TOKENS)
            files[TOKENS].touch(mode=_MODE)
            files[TOKENS].write_bytes(read_small(tokens, _LARGEST_TOKENS).content)
        manifest = Manifest(
            version=version("snapshotd"),
            installation_id=facts.installation_id,
            head_position=facts.head_position,
            time=now,
            files={name: note(path) for name, path in files.items()},
        )
        path = target
        if target.is_dir():
            path = target / f"snapshotd-{now:%Y%m%dT%H%M%SZ}-{facts.head_position}.tar"
        whole = Path(work, "whole.tar")
        write(whole, manifest, files)
        os.link(whole, path)  # unlike a rename, it replaces nothing
        sync_directory(directory)
    return Taken(path, manifest)
