"""Virtual hard disk files: real files with real content, in chains. Knows nothing of VMs.

A file is JSON: its parent's path (empty: a base), its size, and the blocks that were written to it. What a guest sees
is the chain laid over one another, base first. Each block stands for a mebibyte that the guest has written.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapshotd.domain.state import replace

AWAY: Final = ".away"
"""Ends the name of a folder whose storage is away."""
_GONE: Final = ".gone"
"""Ends the name of a file that the host does not find any more."""
IMAGES: Final = "images"
"""The folder of the files that the disks of several VMs stand on, and that no VM writes to."""
BLOCK_BYTES: Final = 1 << 20
"""What a block that was written takes of a disk's size."""
NEW_CHILD_BYTES: Final = 256
"""Room enough for an empty differencing disk."""
SMALLEST_BYTES: Final = 3 << 20
"""No disk can be made smaller (not verified)."""


@dataclass(frozen=True, slots=True)
class DiskFile:
    """One file."""

    parent: str
    size_bytes: int
    blocks: Mapping[str, str]
    identifier: str = ""
    """The disk's, which every file of its chain has (inferred): only the base keeps it."""
    fixed: bool = False
    """It takes its whole size from the beginning."""

    @property
    def vhd_type(self) -> str:
        """VhdType: Differencing, Fixed or Dynamic."""
        return "Differencing" if self.parent else "Fixed" if self.fixed else "Dynamic"

    def document(self) -> str:
        """Return what the file holds."""
        document: dict[str, object] = {
            "parent": self.parent,
            "size_bytes": self.size_bytes,
            "blocks": dict(self.blocks),
        }
        if self.identifier:
            document["identifier"] = self.identifier
        if self.fixed:
            document["fixed"] = True
        return json.dumps(document)


def new_disk(size_bytes: int, *, parent: str = "", blocks: Mapping[str, str] | None = None) -> DiskFile:
    """Return a disk as it begins, with an identifier of its own, unless it stands on another file."""
    identifier = "" if parent else str(uuid.uuid4()).upper()
    return DiskFile(parent, size_bytes, blocks or {}, identifier)


class DiskFiles:
    """The virtual hard disk files in the chains of a host's VMs, read once and written through.

    The host knows the files of chains, wherever they are, and no others: those it reads when it is asked for them, as
    scripts, guests of other hosts and people make, change and delete them. A VM's folder can be taken away as storage
    is. The directory can be other hosts' too: their VMs' folders are left alone.

    Args:
        directory: where each VM has a folder, and images have theirs.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, DiskFile] = {}
        self._children: dict[str, set[str]] = {}
        self._gone: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def adopt(self, path: str) -> None:
        """Know a disk from now on, with all that it stands on. Raises ValueError if a file is missing, or no disk."""
        while path and path not in self._files:
            gone = Path(f"{path}{_GONE}")
            file = _read(gone if gone.exists() else Path(path))
            if gone.exists():
                self._gone.add(path)
            self._keep(path, file)
            if file.parent and not self.is_kept(file.parent):
                raise ValueError(f"{path}: its parent {file.parent} is missing")
            path = file.parent

    def forget(self, disks: Iterable[str], used: Iterable[str]) -> None:
        """Know the files of some disks no more, but for those that others stand on or are."""
        needed = {file for path in used for file in self.chain(path)}
        for name in {file for path in disks for file in self.chain(path)} - needed:
            if name in self._files:
                self._children.get(self._files[name].parent, set()).discard(name)
                del self._files[name]
                self._gone.discard(name)

    def clean(self, folder: str) -> None:
        """Bring a VM's folder back, if it is away, and remove what was never finished in it."""
        self.bring_back(folder)
        for unfinished in Path(folder).glob("*.new"):
            unfinished.unlink()

    def image(self, name: str) -> str:
        """Return the path of an image."""
        return str(self.directory / IMAGES / f"{name}.vhdx")

    def make_disk(self, folder: str, name: str, file: DiskFile) -> str:
        """Make a disk that a VM, or an image, begins with; return its path.

        Raises ValueError for one that is there and not as it began: another host's.
        """
        self.clean(str(self.directory / folder))
        (self.directory / folder).mkdir(exist_ok=True)
        path = str(self.directory / folder / f"{name}.vhdx")
        there = _read(Path(path)) if Path(path).exists() else file
        if replace(there, identifier="") != replace(file, identifier=""):
            raise ValueError(f"{path} is there already, and in use: choose another VM, image or --storage")
        return self._write(path, file)

    def make_file(self, path: str, file: DiskFile) -> None:
        """Make a file that no VM uses yet. Raises OSError."""
        beside = Path(f"{path}.new")
        beside.write_text(file.document(), encoding="utf-8")
        beside.replace(path)

    def child_path(self, parent: str, beside: str = "") -> str:
        """Return where a new differencing disk over a file goes: in the folder of another one or of that."""
        beside = beside or parent
        disk = next((path for path in self.chain(beside) if not is_differencing(path)), beside)
        return str(Path(beside).with_name(f"{Path(disk).stem}_{str(uuid.uuid4()).upper()}.avhdx"))

    def make_child(self, parent: str, path: str) -> str:
        """Make an empty differencing disk over a file; return its path."""
        return self._write(path, DiskFile(parent, self._files[parent].size_bytes, {}))

    def put_on(self, path: str) -> str:
        """Put an empty differencing disk between a file and all that stands on it; return its path."""
        above = self.children(path)
        between = self.make_child(path, self.child_path(path))
        for child in above:
            self._write(child, replace(self._files[child], parent=between))
        return between

    def put_under(self, path: str) -> str:
        """Put an empty differencing disk between a file and its parent; return its path."""
        file = self._files[path]
        between = self.make_child(file.parent, self.child_path(file.parent, beside=path))
        self._write(path, replace(file, parent=between))
        return between

    def write(self, path: str, block: str, data: str) -> None:
        """Write a block of a file that a VM writes to."""
        file = self._files[path]
        self._write(path, replace(file, blocks={**file.blocks, block: data}))

    def resize(self, path: str, size_bytes: int) -> None:
        """Give a disk another size, whether a VM uses it or not. Raises OSError, ValueError."""
        known = path in self._files
        file = replace(self._files[path] if known else _read(Path(path)), size_bytes=size_bytes)
        (self._write if known else self.make_file)(path, file)

    def find(self, path: str) -> tuple[str, DiskFile] | None:
        """Return a file by its path, compared without regard to case; None if it is none, or not there."""
        if path in self._files:
            return path, self._files[path]
        known = next(((p, f) for p, f in self._files.items() if p.lower() == path.lower()), None)
        real = known[0] if known else real_path(path)
        file = known[1] if known else self._peek(real)
        return None if file is None else (real, file)

    def _peek(self, path: str) -> DiskFile | None:
        """Return a file that is known, or else as it is on the disk now."""
        known = self._files.get(path)
        if known is not None:
            return known
        try:
            return _read(Path(path))
        except ValueError:
            return None

    def is_away(self, folder: str) -> bool:
        """Return whether a folder has been taken away, or one that it is in, as a share."""
        return any(_taken(part).exists() for part in (Path(folder), *Path(folder).parents))

    def take_away(self, folder: str) -> None:
        """Take a folder away, with all that is in it."""
        if not self.is_away(folder):
            Path(folder).rename(_taken(folder))

    def bring_back(self, folder: str) -> None:
        """Bring a folder back that was taken away."""
        if _taken(folder).exists():
            _taken(folder).rename(folder)

    def is_gone(self, path: str) -> bool:
        """Return whether a file that is known here is not found any more."""
        return path in self._gone

    def lose(self, path: str) -> None:
        """Take a file away: it is known here, and not found."""
        if path not in self._gone:
            Path(path).rename(f"{path}{_GONE}")
            self._gone.add(path)

    def restore(self, path: str) -> None:
        """Bring a file back that was taken away."""
        if path in self._gone:
            Path(f"{path}{_GONE}").rename(path)
            self._gone.remove(path)

    def is_there(self, path: str) -> bool:
        """Return whether a file is on the disk."""
        return path not in self._gone and Path(path).exists()

    def is_kept(self, path: str) -> bool:
        """Return whether a file is on the disk, be it that the host does not find it."""
        return Path(path).exists() or Path(f"{path}{_GONE}").exists()

    def file_bytes(self, path: str) -> int:
        """Return how large a file is. Raises OSError."""
        file = self._peek(path)
        return file.size_bytes if file is not None and file.fixed else Path(path).stat().st_size

    def size_bytes(self, path: str) -> int:
        """Return how large the guest sees a disk; 0 if its file is not there."""
        file = self._peek(path)
        return file.size_bytes if file is not None else 0

    def minimum_bytes(self, path: str) -> int:
        """Return the size that a disk can be made small to: what the guest has written takes its room."""
        file = self._peek(path)
        least = max(SMALLEST_BYTES, BLOCK_BYTES * len(self.content(path)))
        return min(file.size_bytes, least) if file is not None else 0

    def identifier(self, path: str) -> str:
        """Return DiskIdentifier, which all files of a chain have alike (inferred: the guest sees one disk)."""
        base = self.chain(path)[-1]
        file = self._peek(base)
        # A state of before the files had one.
        return (file.identifier if file else "") or str(uuid.uuid5(uuid.NAMESPACE_URL, base)).upper()

    def chain(self, path: str) -> tuple[str, ...]:
        """Return the files that a disk consists of, leaf first, base last; one that is missing ends it."""
        chain = [path]
        while (file := self._peek(chain[-1])) is not None and file.parent and file.parent not in chain:
            chain.append(file.parent)
        return tuple(chain)

    def own(self, path: str) -> tuple[str, ...]:
        """Return the part of a chain that is the VM's own: its hypervisor's files, and the disk that they stand on."""
        chain = self.chain(path)
        below = next((n for n, file in enumerate(chain) if not is_differencing(file)), len(chain))
        return chain[: below + 1]

    def children(self, path: str) -> tuple[str, ...]:
        """Return the files right above one."""
        return tuple(sorted(self._children.get(path, ())))

    def content(self, path: str) -> dict[str, str]:
        """Return the blocks that a guest sees."""
        blocks: dict[str, str] = {}
        for file in reversed(self.chain(path)):
            if (known := self._peek(file)) is not None:
                blocks |= known.blocks
        return blocks

    def sha256(self, path: str) -> str:
        """Return a digest of what a guest sees."""
        return digest(self.content(path))

    def delete(self, path: str) -> None:
        """Delete a file that nothing stands on."""
        assert not self.children(path), path
        self._children.get(self._files[path].parent, set()).discard(path)
        del self._files[path]
        Path(path).unlink(missing_ok=True)

    def grows_by(self, path: str) -> int:
        """Return how much larger a file's parent becomes when the file is merged into it."""
        child = self._files[path]
        parent = self._files[child.parent]
        merged = replace(parent, blocks={**parent.blocks, **child.blocks})
        return len(merged.document().encode()) - len(parent.document().encode())

    def lay_into_parent(self, path: str) -> str:
        """Write a file's blocks into its parent; return the parent. What the file itself shows stays as it is."""
        child = self._files[path]
        parent = self._files[child.parent]
        return self._write(child.parent, replace(parent, blocks={**parent.blocks, **child.blocks}))

    def dissolve(self, path: str) -> None:
        """Put what stands on a file on its parent, which has its blocks already, and delete it."""
        for above in self.children(path):
            self._write(above, replace(self._files[above], parent=self._files[path].parent))
        self.delete(path)

    def _write(self, path: str, file: DiskFile) -> str:
        self.make_file(path, file)
        self._keep(path, file)
        return path

    def _keep(self, path: str, file: DiskFile) -> None:
        before = self._files.get(path)
        if before is not None:
            self._children.get(before.parent, set()).discard(path)
        self._files[path] = file
        self._children.setdefault(file.parent, set()).add(path)


def is_differencing(path: str) -> bool:
    """Return whether a file is one that the hypervisor makes for a checkpoint, by its name."""
    return path.lower().endswith((".avhdx", ".avhd"))


def real_path(path: str) -> str:
    """Return how a file's name is written where it is, compared without regard to case; as it is if there is none."""
    if os.path.lexists(path):
        return path
    named = Path(path)
    try:
        return next((str(other) for other in named.parent.iterdir() if other.name.lower() == named.name.lower()), path)
    except OSError:
        return path


def _read(path: Path) -> DiskFile:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        # A parent may be named from the file's own folder on, so that both can be moved (documented).
        parent = document["parent"] and os.path.normpath(path.parent / document["parent"])
        return DiskFile(
            parent,
            document["size_bytes"],
            document["blocks"],
            document.get("identifier", ""),
            document.get("fixed", False),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a virtual hard disk: {error!r}") from error


def digest(blocks: Mapping[str, str]) -> str:
    """Return the digest of a disk's content."""
    return hashlib.sha256(json.dumps(dict(blocks), sort_keys=True).encode()).hexdigest()


def _taken(folder: str | Path) -> Path:
    """Return where a folder is that has been taken away."""
    return Path(f"{folder}{AWAY}")
