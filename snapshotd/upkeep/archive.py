"""A backup as one file: a tar archive of a manifest, then the files that it names. Knows nothing of what they hold.

manifest.json   format, version, installation, head position, time; size and SHA-256 of each file
events.db       the event log, of one moment, without a write-ahead log
tokens.json     the local tokens (hashed), if there were any
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

LOG: Final = "events.db"
TOKENS: Final = "tokens.json"
_MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1
_LARGEST_MANIFEST: Final = 64 * 1024
_PIECE: Final = 1024 * 1024
_MODE: Final = 0o600


class ArchiveUnusable(Exception):
    """A file that is no whole backup; the text says what is wrong with it."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a backup."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup is of."""

    format: int = _FORMAT
    version: str
    """Of the snapshotd that made it."""
    installation_id: str
    head_position: int
    """Position of the newest event in it."""
    time: datetime
    """When it was begun: what was recorded later is not in it."""
    files: Mapping[str, Kept]


def note(path: Path) -> Kept:
    """Return the size and the digest of a file."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return Kept(size=opened.tell(), sha256=digest)


def write(archive: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Write an archive of these files. It is on the disk when this returns."""
    with _made(archive) as opened:
        with tarfile.open(fileobj=opened, mode="w", format=tarfile.PAX_FORMAT) as tar:
            described = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
            tar.addfile(_entry(_MANIFEST, len(described), manifest.time), BytesIO(described))
            for name, path in files.items():
                with path.open("rb") as content:
                    tar.addfile(_entry(name, manifest.files[name].size, manifest.time), content)
        opened.flush()
        os.fsync(opened.fileno())


def unpack(archive: Path, directory: Path) -> Manifest:
    """Write the files of an archive into an empty directory, and return its manifest. Raises ArchiveUnusable, OSError.

    Only what the manifest names is written, whatever else is in the archive, and each only as it was when it was noted.
    """
    if archive.exists() and not archive.is_file():  # to open a pipe could take for ever
        raise ArchiveUnusable("it is no regular file")
    try:
        with tarfile.open(archive, mode="r:") as tar:
            manifest = _manifest_of(tar)
            for name, kept in manifest.files.items():
                _unpack_next(tar, name, kept, directory / name)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveUnusable(f"it is not a whole archive: {error}") from error
    return manifest


def _manifest_of(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.isreg() and first.name == _MANIFEST else None
    if content is None:
        raise ArchiveUnusable(f"it does not begin with {_MANIFEST}")
    try:
        manifest = msgspec.json.decode(content.read(_LARGEST_MANIFEST), type=Manifest)
    except msgspec.DecodeError as error:
        raise ArchiveUnusable(f"its manifest is not one of this release: {error}") from error
    if manifest.format != _FORMAT:
        raise ArchiveUnusable(f"its format is {manifest.format}, and this release reads {_FORMAT}")
    if LOG not in manifest.files or not manifest.files.keys() <= {LOG, TOKENS}:
        raise ArchiveUnusable(f"it holds {', '.join(map(repr, manifest.files)) or 'nothing'}; expected was {LOG!r}")
    return manifest


def _unpack_next(tar: tarfile.TarFile, name: str, kept: Kept, path: Path) -> None:
    member = tar.next()
    content = tar.extractfile(member) if member is not None and member.isreg() and member.name == name else None
    if content is None or member is None or member.size != kept.size:
        raise ArchiveUnusable(f"it lacks {name}, or has another one than its manifest names")
    digest = hashlib.sha256()
    with _made(path) as written:
        while piece := content.read(_PIECE):
            digest.update(piece)
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())
    if digest.hexdigest() != kept.sha256:
        raise ArchiveUnusable(f"its {name} is damaged: the SHA-256 is {digest.hexdigest()}, and was {kept.sha256}")


def _entry(name: str, size: int, time: datetime) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, _MODE, int(time.timestamp())
    return entry


def _made(path: Path) -> BinaryIO:
    """Make a file that is only its owner's, to write."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), "wb")
