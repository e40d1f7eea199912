"""What an export consists of: the files in its folder, and what is in them. Writes and reads no file of a VM itself.

    <folder>/Virtual Machines/<id>.vmcx (+ .vmgs, .VMRS)   the VM; documented
             Snapshots/<id>.vmcx (+ .VMRS)                 each checkpoint
             Virtual Hard Disks/*.vhdx, *.avhdx            their disks, all in one folder

A .vmcx is JSON here. Files name one another relative to the folder, so that it can be renamed: a VHDX knows its parent
by a relative path too (documented), and that an exported configuration finds its disks so is observed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.model.disks import DiskFile, DiskFiles, digest, new_disk
from snapshotd.simulator.model.machine import Checkpoint, Machine

MACHINES: Final = "Virtual Machines"
SNAPSHOTS: Final = "Snapshots"
DISKS: Final = "Virtual Hard Disks"
ALL, NONE, ONE, ONE_FOR_BACKUP = range(4)
"""CopySnapshotConfiguration (documented)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be exported of a VM: the settings of ExportSystemDefinition that have an effect here."""

    snapshots: int
    """CopySnapshotConfiguration."""
    snapshot_id: str
    """The one checkpoint."""
    storage: bool
    runtime: bool
    capture_live_state: int
    excluded: Collection[str]
    """Places whose disks are left out."""
    differential: bool
    """What is left out gets a differencing disk over the original."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of an export."""

    path: str
    """In its folder."""
    text: str


@dataclass(frozen=True, slots=True)
class Export:
    """The files of an export, in the order in which they are written, and the contents of its VM's disks."""

    vm_id: str
    pieces: tuple[Piece, ...]
    contents: Mapping[str, str]
    """A digest by place."""


def export_of(machine: Machine, disks: DiskFiles, order: Order) -> Export:
    """Return what an export of a VM as it is now consists of. Raises HyperVError for a disk that cannot be read.

    Args:
        machine: the VM.
        disks: where its disks are.
        order: what is wanted of it.
    """
    document, checkpoints = machine.document(), dict(machine.checkpoints)
    if order.snapshots != ALL:
        checkpoints = {}
        document["current_id"] = ""
    if order.snapshots in (ONE, ONE_FOR_BACKUP):
        chosen = machine.checkpoints[order.snapshot_id]
        # Documented for 3: the configuration has the VM's id. For 2 it is inferred from that: the checkpoint's.
        document["vm_id"] = machine.vm_id if order.snapshots == ONE_FOR_BACKUP else chosen.checkpoint_id
        document |= {"disks": chosen.disks, "memory": chosen.memory, "state": "Saved" if chosen.memory else "Off"}
    else:
        document |= _state_of(machine, order)
    storage = order.storage or order.snapshots == ONE  # documented: with 2 they are always exported
    copies = _Copies(disks, order, merged=order.snapshots != ALL, storage=storage)
    document["disks"] = copies.of(document["disks"])
    contents = {at: digest(content_of(disks, path)[0]) for at, path in _kept(document, order, machine).items()}
    frozen = [_checkpoint(checkpoint, copies) for checkpoint in checkpoints.values()]
    document |= {name: copies.names_of(document[name]) for name in ("strays", "leftovers")}
    document |= {"checkpoints": {}, "effects": 0, "last_effect": None, "hidden": False, "folder": ""}
    main = {"machine": document, "checkpoints": sorted(checkpoints)}
    name = document["vm_id"].upper()
    pieces = [Piece(f"{MACHINES}/{name}.vmcx", json.dumps(main)), Piece(f"{MACHINES}/{name}.vmgs", "{}")]
    if document["memory"]:
        pieces.append(Piece(f"{MACHINES}/{name}.VMRS", document["memory"]))
    pieces += [piece for of_one in frozen for piece in of_one]
    return Export(document["vm_id"], (*pieces, *copies.pieces), contents)


def content_of(disks: DiskFiles, path: str) -> tuple[dict[str, str], int]:
    """Return the blocks that a guest sees on a disk, and its size: of any file, whosever it is.

    Raises HyperVError if a file of the chain is not there.
    """
    files: list[DiskFile] = []
    while path:
        found = disks.find(path)
        if found is None or not disks.is_there(found[0]):
            raise HyperVError("OperationFailed", "", f"The system cannot find the file '{path}'. (0x80070002)")
        files.append(found[1])
        path = found[1].parent
    blocks: dict[str, str] = {}
    for file in reversed(files):
        blocks |= file.blocks
    return blocks, files[0].size_bytes


def standalone(disks: DiskFiles, path: str) -> str:
    """Return the text of a new file without parent that shows what a disk shows. Raises HyperVError."""
    blocks, size_bytes = content_of(disks, path)
    return new_disk(size_bytes, blocks=blocks).document()


class _Copies:
    """The files that disks become in an export."""

    def __init__(self, disks: DiskFiles, order: Order, *, merged: bool, storage: bool) -> None:
        self._disks = disks
        self._order = order
        self._merged = merged
        self._storage = storage
        self._names: dict[str, str] = {}
        """The name in the export of each file that is copied."""
        self._texts: dict[str, str] = {}

    @property
    def pieces(self) -> list[Piece]:
        """The files so far."""
        return [Piece(f"{DISKS}/{name}", text) for name, text in self._texts.items()]

    def names_of(self, paths: Iterable[str]) -> list[str]:
        """Return what files that were copied are called in the export; those that were not are left out."""
        return [f"{DISKS}/{self._names[path]}" for path in paths if path in self._names]

    def of(self, used: Mapping[str, str]) -> dict[str, str]:
        """Return the disks of a VM or a checkpoint as an export names them."""
        return {at: self._one(path, excluded=at in self._order.excluded) for at, path in used.items()}

    def _one(self, path: str, *, excluded: bool) -> str:
        if not self._storage or excluded:
            if not excluded or not self._order.differential:
                return path
            _, size_bytes = content_of(self._disks, path)
            return self._add(f"{Path(path).stem}_export.avhdx", DiskFile(path, size_bytes, {}).document())
        if not self._merged:
            return self._copy(path)
        # That it is named after the file that was merged is not verified.
        return self._add(f"{Path(path).stem}.vhdx", standalone(self._disks, path))

    def _copy(self, path: str) -> str:
        """Copy a file and all that it stands on, parents first."""
        if path in self._names:
            return f"{DISKS}/{self._names[path]}"
        content_of(self._disks, path)
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        parent = self._disks.chain(path)[1:2]
        if parent:
            document["parent"] = self._copy(parent[0]).rpartition("/")[2]
        name = self._add(Path(path).name, json.dumps(document))
        self._names[path] = name.rpartition("/")[2]
        return name

    def _add(self, name: str, text: str) -> str:
        taken = {other.lower() for other in self._texts}
        stem, _, ending = name.rpartition(".")
        free, n = name, 1
        while free.lower() in taken:
            free, n = f"{stem} ({n}).{ending}", n + 1
        self._texts[free] = text
        return f"{DISKS}/{free}"


def _state_of(machine: Machine, order: Order) -> dict[str, Any]:
    """Return the state, and the memory, that an exported VM has."""
    live = machine.state in ("Running", "Paused")
    wanted = order.capture_live_state == 1 if live else order.runtime
    memory = machine.memory if wanted else ""
    return {"state": "Saved" if memory else "Off", "memory": memory, "running_since": ""}


def _kept(document: Mapping[str, Any], order: Order, machine: Machine) -> dict[str, str]:
    """Return the places of an exported VM whose disks are in the export, with the files that they were."""
    of_one = order.snapshots in (ONE, ONE_FOR_BACKUP)
    was = machine.checkpoints[order.snapshot_id].disks if of_one else machine.disks
    return {at: was[at] for at, path in document["disks"].items() if not path.startswith("/")}


def _checkpoint(checkpoint: Checkpoint, copies: _Copies) -> list[Piece]:
    document = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    document["disks"] = copies.of(checkpoint.disks)
    name = f"{SNAPSHOTS}/{checkpoint.checkpoint_id.upper()}"
    memory = [Piece(f"{name}.VMRS", checkpoint.memory)] if checkpoint.memory else []
    return [Piece(f"{name}.vmcx", json.dumps(document)), *memory]
