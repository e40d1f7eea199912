"""The doctor on the storage directory: rights, disk, event log, views. Changes nothing, takes no lock."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from snapshotd.domain.errors import SnapshotdError
from snapshotd.store.copying import facts_of
from snapshotd.store.log_file import foreign
from snapshotd.store.streams import EVENTS
from snapshotd.store.verification import reading
from snapshotd.upkeep.archive import LOG
from snapshotd.upkeep.findings import Finding, Ground, error, ok, warning

_LITTLE: Final = 1 << 30
_NONE: Final = 64 << 20
"""Bytes that are free: below the first a disk fills soon, below the second at any moment."""
_OF_VOLUME: Final = "lost+found"
"""The directory that is root's on a volume of ext4, whoever may write there."""
_BEHIND: Final = 10_000
"""Events that views may lack before that is told."""
_NETWORK: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "glusterfs", "lustre", "gfs2", "ocfs2", "virtiofs")
)
"""File systems that several machines may have: SQLite's write-ahead log needs memory that its users share."""
_PASSING: Final = frozenset(("tmpfs", "ramfs", "overlay"))
"""File systems whose content goes with the machine's next start, or with the container."""


def directory(ground: Ground) -> Iterator[Finding]:
    """Look at the directory's rights, and at what it holds."""
    path = _storage(ground)
    try:
        found = path.stat()
    except FileNotFoundError:
        near = next((up for up in path.parents if up.exists()), Path(os.sep))
        if os.access(near, os.W_OK):
            yield ok("storage", f"{path} is not there yet; the first start makes it.")
        else:
            yield error("storage", f"{path} is not there, and {near} cannot be written to. Make it: install -d -m 700.")
        return
    except OSError as problem:
        yield error(
            "storage", f"{path} cannot be read: {problem.strerror}. Run this as the service's user, or as root."
        )
        return
    if not stat.S_ISDIR(found.st_mode):
        yield error("storage", f"{path} is not a directory. Set storage.directory to one.")
    elif found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(found.st_mode)
        yield warning("storage", f"{path} has mode {mode:o}: others may look into it. Run chmod 700 {path}.")
    else:
        yield ok("storage", f"{path} is there, and only {_user(found.st_uid)} may enter it.")
    if stat.S_ISDIR(found.st_mode):
        yield from _owners(path, found.st_uid)


def _owners(path: Path, owner: int) -> Iterator[Finding]:
    if os.geteuid() not in (0, owner):
        yield error(
            "storage", f"{path} belongs to {_user(owner)}, and this is {_user(os.geteuid())}. Run this as that."
        )
        return
    strangers = [one.name for one in path.iterdir() if one.name != _OF_VOLUME and one.stat().st_uid != owner]
    if strangers:
        told = f"{', '.join(strangers[:5])} in {path} belong to somebody else than {_user(owner)}"
        yield error("storage", f"{told}. Run chown -R --reference={path} {path}.")


def disk(ground: Ground) -> Iterator[Finding]:
    """Look at the space that is free, and at the kind of file system."""
    path = next(up for up in (_storage(ground), *_storage(ground).parents) if up.exists())
    free = shutil.disk_usage(path).free
    told = f"{free >> 20:,} MiB are free below {path}"
    if free < _NONE:
        yield error("disk", f"{told}, which is too little: soon nothing can be recorded. Make room.")
    elif free < _LITTLE:
        yield warning("disk", f"{told}. Make room: at the end of it, everything that changes something is refused.")
    else:
        yield ok("disk", f"{told}.")
    kind = file_system(path, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if kind in _NETWORK or kind.startswith("fuse"):
        yield error("disk", f"{path} is on {kind}, where SQLite's log is not safe. Use a disk of this machine.")
    elif kind in _PASSING:
        yield warning("disk", f"{path} is on {kind}, which does not last. Use a disk, or a volume of the container.")
    else:
        yield ok("disk", f"{path} is on {kind or 'a file system of unknown kind'}.")


def file_system(path: Path, mounts: str) -> str:
    """Return the kind of file system that a path is on, by the lines of /proc/self/mountinfo; empty: unknown."""
    whole, found = path.resolve(), ("", "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")  # a blank is written \040
        if whole.is_relative_to(point) and len(point) >= len(found[0]):  # the last of those on one point is on top
            found = point, after.split()[0]
    return found[1]


def log(ground: Ground) -> Iterator[Finding]:
    """Look at the event log: whether it is ours, who has it, and how far the views are."""
    path = _storage(ground) / LOG
    if not path.exists():
        text = f"{path} is not there yet; the first start makes it, and a new installation with it."
        yield warning("log", text) if (path.parent / "views.db").exists() else ok("log", text)
        return
    try:
        if problem := foreign(path):
            yield error("log", f"{path} cannot be used: {problem}. Run the release that wrote it, or restore a backup.")
            return
        head, views = _positions(path)
    except (OSError, sqlite3.Error) as problem:
        yield error("log", f"{path} cannot be read: {problem}. Check rights and disk, or restore a backup.")
        return
    owner = holder(path.with_name(f"{LOG}.lock"), Path("/proc/locks").read_text(encoding="utf-8"))
    yield ok("log", f"{path} has {head} events; {f'process {owner} writes it' if owner else 'nobody writes it now'}.")
    if views is None:
        yield ok("views", "views.db is made at the next start.")
    elif owner and head - views > _BEHIND:
        yield warning("views", f"The views lack {head - views} events. See `snapshotctl status`.")
    else:
        yield ok("views", f"The views are at position {views}.")


def whole_log(ground: Ground) -> Iterator[Finding]:
    """Read the whole log, if that was asked for."""
    path = _storage(ground) / LOG
    if not ground.deep or not path.exists():
        return
    try:
        facts = facts_of(path)
    except (SnapshotdError, OSError, sqlite3.Error) as problem:
        yield error("log", f"{path}, read through: {problem}")
    else:
        yield ok("log", f"{path}, read through: nothing is damaged or missing up to position {facts.head_position}.")


def holder(lock: Path, locks: str) -> int:
    """Return the process that holds a lock on a file, by the lines of /proc/locks; 0: none.

    To try the lock would do, too, but keep a daemon from it that starts just then.
    """
    if not lock.exists():
        return 0
    inode = str(lock.stat().st_ino)
    held = (line.split() for line in locks.splitlines() if " FLOCK " in line and "->" not in line)
    return next((int(words[4]) for words in held if words[5].rpartition(":")[2] == inode), 0)


def _positions(path: Path) -> tuple[int, int | None]:
    """Return the position of the log's newest event, and that of the view that is the furthest behind."""
    with reading(path) as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (EVENTS,)).fetchone()
        head = connection.execute(f"SELECT IFNULL(MAX(position), 0) FROM {EVENTS}").fetchone()[0] if made else 0  # noqa: S608  (a constant)
    views = path.with_name("views.db")
    if not views.exists():
        return head, None
    try:
        with closing(sqlite3.connect(f"{views.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return head, connection.execute("SELECT IFNULL(MIN(position), 0) FROM positions").fetchone()[0]
    except sqlite3.Error:
        return head, None  # it is made again


def _storage(ground: Ground) -> Path:
    path = ground.file("storage.directory")
    assert path is not None
    return path


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
