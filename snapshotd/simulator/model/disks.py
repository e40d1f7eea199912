"""Virtual hard disk files: real files with real content, in chains. Knows nothing of VMs.

A file is JSON: its parent's path (empty: a base), its size, and the blocks that were written to it. What a guest sees
is the chain laid over one another, base first.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

_AWAY: Final = ".away"
"""Ends the name of a folder whose storage is away."""
_GONE: Final = ".gone"
"""Ends the name of a file that the host does not find any more."""
IMAGES: Final = "images"
"""The folder of the files that the disks of several VMs stand on, and that no VM writes to."""


@dataclass(frozen=True, slots=True)
class DiskFile:
    """One file."""

    parent: str
    size_bytes: int
    blocks: Mapping[str, str]

    def document(self) -> str:
        """Return what the file holds."""
        return json.dumps({"parent": self.parent, "size_bytes": self.size_bytes, "blocks": dict(self.blocks)})


class DiskFiles:
    """The virtual hard disk files of a host's VMs, read once and written through.

    Each VM's are in a folder of their own, which can be taken away as storage is; what several stand on is in `images`.
    The directory can be other hosts' too: their VMs' folders are left alone.

    Args:
        directory: where they are.

    Raises ValueError for a file that is none, or whose parent is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """Where they are, each folder in it."""
        directory.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, DiskFile] = {}
        self._children: dict[str, set[str]] = {}
        self._gone: set[str] = set()
        self.load(IMAGES)

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def load(self, folder: str) -> None:
        """Read a folder: of a VM that is on this host now. Raises ValueError."""
        self.bring_back(folder)
        at = self.directory / folder
        for unfinished in at.glob("*.new"):
            unfinished.unlink()
        for path in at.glob("*vhdx"):
            self._keep(str(path), _read(path))
        for path in at.glob(f"*vhdx{_GONE}"):
            self._keep(str(path.with_suffix("")), _read(path))
            self._gone.add(str(path.with_suffix("")))
        for name in self._in(folder):
            parent = self._files[name].parent
            if parent and parent not in self._files:
                raise ValueError(f"{name}: its parent {parent} is missing")

    def forget(self, folder: str) -> None:
        """Know nothing of a folder any more: its VM is on another host."""
        for name in self._in(folder):
            self._children.get(self._files[name].parent, set()).discard(name)
            del self._files[name]
            self._gone.discard(name)

    def _in(self, folder: str) -> list[str]:
        inside = f"{self.directory / folder}/"
        return [name for name in self._files if name.startswith(inside)]

    def image(self, name: str) -> str:
        """Return the path of an image."""
        return str(self.directory / IMAGES / f"{name}.vhdx")

    def folder(self, name: str) -> str:
        """Return where the files of a folder are."""
        return str(self.directory / name)

    def make_disk(self, folder: str, name: str, file: DiskFile) -> str:
        """Make a disk that a VM, or an image, begins with; return its path.

        Raises ValueError for one that is there and not as it began: another host's.
        """
        self.load(folder)
        (self.directory / folder).mkdir(exist_ok=True)
        path = str(self.directory / folder / f"{name}.vhdx")
        if self._files.get(path, file) != file:
            raise ValueError(f"{path} is there already, and in use: choose another VM, image or --storage")
        return self._write(path, file)

    def make_child(self, parent: str, beside: str = "") -> str:
        """Make an empty differencing disk over a file, in the folder of another one or of that; return its path."""
        beside = beside or parent
        disk = next(path for path in self.chain(beside) if path.endswith(".vhdx"))
        path = str(Path(beside).with_name(f"{Path(disk).stem}_{str(uuid.uuid4()).upper()}.avhdx"))
        return self._write(path, DiskFile(parent, self._files[parent].size_bytes, {}))

    def put_on(self, path: str) -> str:
        """Put an empty differencing disk between a file and all that stands on it; return its path."""
        above = self.children(path)
        between = self.make_child(path)
        for child in above:
            self._write(child, replace(self._files[child], parent=between))
        return between

    def put_under(self, path: str) -> str:
        """Put an empty differencing disk between a file and its parent; return its path."""
        file = self._files[path]
        between = self.make_child(file.parent, beside=path)
        self._write(path, replace(file, parent=between))
        return between

    def write(self, path: str, block: str, data: str) -> None:
        """Write a block of a file that a VM writes to."""
        file = self._files[path]
        self._write(path, replace(file, blocks={**file.blocks, block: data}))

    def find(self, path: str) -> tuple[str, DiskFile] | None:
        """Return a file by its path, compared without regard to case."""
        if path in self._files:
            return path, self._files[path]
        known = next(((p, f) for p, f in self._files.items() if p.lower() == path.lower()), None)
        return known or self._find_elsewhere(Path(path))

    def _find_elsewhere(self, path: Path) -> tuple[str, DiskFile] | None:
        """Return a file of a VM of another host's, which changes it, and is not kept here."""
        try:
            return str(path), _read(path)
        except (OSError, ValueError):
            return None

    def is_away(self, folder: str) -> bool:
        """Return whether a folder has been taken away."""
        return (self.directory / f"{folder}{_AWAY}").exists()

    def take_away(self, folder: str) -> None:
        """Take a folder away, with all that is in it."""
        if not self.is_away(folder):
            (self.directory / folder).rename(self.directory / f"{folder}{_AWAY}")

    def bring_back(self, folder: str) -> None:
        """Bring a folder back that was taken away."""
        if self.is_away(folder):
            (self.directory / f"{folder}{_AWAY}").rename(self.directory / folder)

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

    def file_bytes(self, path: str) -> int:
        """Return how large a file is."""
        return Path(path).stat().st_size

    def chain(self, path: str) -> tuple[str, ...]:
        """Return the files that a disk consists of, leaf first, base last."""
        chain = [path]
        while parent := self._files[chain[-1]].parent:
            chain.append(parent)
        return tuple(chain)

    def own_base(self, path: str) -> str:
        """Return the lowest file of a chain that is in the same folder: under it are images, if anything."""
        folder = path.rpartition("/")[0]
        return [file for file in self.chain(path) if file.rpartition("/")[0] == folder][-1]

    def children(self, path: str) -> tuple[str, ...]:
        """Return the files right above one."""
        return tuple(sorted(self._children.get(path, ())))

    def tree(self, base: str) -> tuple[str, ...]:
        """Return a base and everything that stands on it, parents first."""
        found = [base]
        for path in found:
            found += self.children(path)
        return tuple(found)

    def content(self, path: str) -> dict[str, str]:
        """Return the blocks that a guest sees."""
        blocks: dict[str, str] = {}
        for file in reversed(self.chain(path)):
            blocks |= self._files[file].blocks
        return blocks

    def sha256(self, path: str) -> str:
        """Return a digest of what a guest sees."""
        return digest(self.content(path))

    def delete(self, path: str) -> None:
        """Delete a file that nothing stands on."""
        assert not self.children(path), path
        self._children.get(self._files[path].parent, set()).discard(path)
        del self._files[path]
        Path(path).unlink()

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
        beside = Path(f"{path}.new")
        beside.write_text(file.document(), encoding="utf-8")
        beside.replace(path)
        self._keep(path, file)
        return path

    def _keep(self, path: str, file: DiskFile) -> None:
        before = self._files.get(path)
        if before is not None:
            self._children.get(before.parent, set()).discard(path)
        self._files[path] = file
        self._children.setdefault(file.parent, set()).add(path)


def _read(path: Path) -> DiskFile:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return DiskFile(document["parent"], document["size_bytes"], document["blocks"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a virtual hard disk: {error!r}") from error


def digest(blocks: Mapping[str, str]) -> str:
    """Return the digest of a disk's content."""
    return hashlib.sha256(json.dumps(dict(blocks), sort_keys=True).encode()).hexdigest()
