"""The inventory file: which VMs a simulated host begins with. Read once, when the state directory is empty."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.model.machine import MAXIMUM_BYTES, MINIMUM_BYTES
from snapshotd.small_file import read_small, text_of

STATES: Final = ("Running", "Off", "Saved", "Paused")
CHECKPOINT_TYPES: Final = ("Disabled", "Production", "ProductionOnly", "Standard")
SNAPSHOT_TYPES: Final = (
    "Standard",
    "Recovery",
    "Planned",
    "Missing",
    "Replica",
    "AppConsistentReplica",
    "SyncedReplica",
)
BLOCKERS: Final = ("PASS_THROUGH_DISK", "SHARED_DISK", "REPLICA", "FIBRE_CHANNEL")
_LARGEST_FILE: Final = 64 * 1024 * 1024
"""Bytes; an inventory of thousands of VMs has some megabytes."""
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LOCATION: Final = re.compile(r"(IDE|SCSI):\d+:\d+")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)
_GIB: Final = 1 << 30
_VM_FIELDS: Final = (
    "id",
    "name",
    "state",
    "cpu_count",
    "memory_bytes",
    "disks",
    "checkpoint_type",
    "blockers",
    "vss",
    "automatic_checkpoints",
    "generation",
    "dynamic_memory",
    "minimum_bytes",
    "maximum_bytes",
    "switch",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryImage:
    """A file that disks stand on: a golden image, or a level of one."""

    name: str
    parent: str
    """The image that it stands on; empty: a base."""
    size_bytes: int
    blocks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InventoryDisk:
    """A disk of a VM: empty, or over an image."""

    size_bytes: int
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryVm:
    """A VM as the inventory describes it."""

    vm_id: str
    name: str
    state: str
    cpu_count: int
    memory_bytes: int
    disks: Mapping[str, InventoryDisk]
    """By location."""
    checkpoint_type: str
    blockers: tuple[str, ...]
    vss: bool
    automatic_checkpoints: bool
    generation: int
    dynamic_memory: bool
    minimum_bytes: int
    maximum_bytes: int
    switch: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """A host's name and VMs."""

    name: str
    vms: tuple[InventoryVm, ...]
    images: tuple[InventoryImage, ...] = ()
    """Each after the one that it stands on."""
    volumes: Mapping[str, int] = field(default_factory=dict)
    """Directories, from the storage on or absolute, with the bytes that are free in each at the beginning."""
    switches: tuple[str, ...] = ()
    """Virtual switches that VMs can be connected to: those named, and those that VMs are connected to."""


def read_inventory(path: Path) -> Inventory:
    """Read an inventory file. Raises ValueError naming file, field and value; OSError."""
    try:
        document = json.loads(text_of(read_small(path, _LARGEST_FILE).content))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    try:
        return _inventory(document)
    except ValueError as error:
        raise ValueError(f"{path} is no inventory: {error}") from error


def _inventory(document: object) -> Inventory:
    top = _object(document, "", ("host", "images", "vms", "volumes"))
    host = _object(top.get("host", {}), "host", ("name", "switches"))
    named = [_text(switch, "host.switches") for switch in _list(host.get("switches", []), "host.switches")]
    images: dict[str, InventoryImage] = {}
    for n, value in enumerate(_list(top.get("images", []), "images")):
        image = _image(value, f"images[{n}]", images)
        images[image.name] = image
    vms = tuple(_vm(vm, f"vms[{n}]", images) for n, vm in enumerate(_list(top.get("vms"), "vms")))
    ids = [vm.vm_id for vm in vms]
    for vm_id in ids:
        _check(ids.count(vm_id) == 1, f"two VMs have the id {vm_id}")
    switches = dict.fromkeys([*named, *(vm.switch for vm in vms if vm.switch)])
    return Inventory(
        name=_text(host.get("name", "hv01"), "host.name"),
        vms=vms,
        images=tuple(images.values()),
        volumes=_volumes(top),
        switches=tuple(switches),
    )


def _volumes(top: Mapping[str, Any]) -> dict[str, int]:
    volumes: dict[str, int] = {}
    for n, value in enumerate(_list(top.get("volumes", []), "volumes")):
        volume = _object(value, f"volumes[{n}]", ("path", "free_bytes"))
        free = volume.get("free_bytes")
        _check(type(free) is int and free >= 0, f"volumes[{n}].free_bytes {free!r} is no whole number, 0 or more")
        volumes[_text(volume.get("path"), f"volumes[{n}].path")] = int(str(free))
    return volumes


def _image(value: object, at: str, others: Mapping[str, InventoryImage]) -> InventoryImage:
    """Read an image, which can stand on one of those before it."""
    image = _object(value, at, ("name", "parent", "size_bytes", "blocks"))
    name = _text(image.get("name"), f"{at}.name")
    _check(_FILE_NAME.fullmatch(name), f"{at}.name {name!r} is no name of a file: use letters, digits, . _ -")
    _check(name.lower() not in (other.lower() for other in others), f"{at}.name {name!r} is taken already")
    parent = image.get("parent", "")
    _check(isinstance(parent, str) and parent in ("", *others), f"{at}.parent {parent!r} is no image before this one")
    size = others[parent].size_bytes if parent else _GIB
    blocks = _object(image.get("blocks", {}), f"{at}.blocks")
    _check(all(isinstance(data, str) for data in blocks.values()), f"{at}.blocks {blocks!r} are not all texts")
    size_bytes = _positive(image.get("size_bytes", size), f"{at}.size_bytes")
    return InventoryImage(name=name, parent=parent, size_bytes=size_bytes, blocks=blocks)


def _vm(value: object, at: str, images: Mapping[str, InventoryImage]) -> InventoryVm:
    vm = _object(value, at, _VM_FIELDS)
    vm_id = vm.get("id")
    _check(isinstance(vm_id, str) and _GUID.fullmatch(vm_id), f"{at}.id {vm_id!r} is no GUID")
    blockers = _list(vm.get("blockers", []), f"{at}.blockers")
    disks = _disks(vm.get("disks"), f"{at}.disks", images)
    memory = _memory(vm, at)
    return InventoryVm(
        vm_id=str(vm_id).lower(),
        name=_text(vm.get("name"), f"{at}.name"),
        state=_one_of(vm.get("state", "Off"), f"{at}.state", STATES),
        cpu_count=_positive(vm.get("cpu_count", 2), f"{at}.cpu_count"),
        memory_bytes=memory["memory_bytes"],
        minimum_bytes=memory["minimum_bytes"],
        maximum_bytes=memory["maximum_bytes"],
        dynamic_memory=_flag(vm.get("dynamic_memory", False), f"{at}.dynamic_memory"),
        generation=_generation(vm, at, disks),
        disks=disks,
        switch=_text(vm["switch"], f"{at}.switch") if "switch" in vm else "",
        checkpoint_type=_one_of(vm.get("checkpoint_type", "Production"), f"{at}.checkpoint_type", CHECKPOINT_TYPES),
        blockers=tuple(_one_of(blocker, f"{at}.blockers", BLOCKERS) for blocker in blockers),
        vss=_flag(vm.get("vss", True), f"{at}.vss"),
        automatic_checkpoints=_flag(vm.get("automatic_checkpoints", False), f"{at}.automatic_checkpoints"),
    )


def _memory(vm: Mapping[str, Any], at: str) -> dict[str, int]:
    """Read how much memory a VM has, and the least and the most that dynamic memory may give it."""
    startup = _positive(vm.get("memory_bytes", 4 * _GIB), f"{at}.memory_bytes")
    defaults = {"minimum_bytes": min(MINIMUM_BYTES, startup), "maximum_bytes": max(MAXIMUM_BYTES, startup)}
    bounds = {name: _positive(vm.get(name, value), f"{at}.{name}") for name, value in defaults.items()}
    least, most = bounds.values()
    _check(least <= startup <= most, f"{at}: minimum_bytes {least} <= memory_bytes {startup} <= maximum_bytes {most}")
    return {"memory_bytes": startup, **bounds}


def _generation(vm: Mapping[str, Any], at: str, disks: Mapping[str, InventoryDisk]) -> int:
    """Read a VM's generation: 1 if it has an IDE disk and none is named, else 2."""
    ide = [location for location in disks if location.startswith("IDE")]
    generation = vm.get("generation", 1 if ide else 2)
    _check(type(generation) is int and generation in (1, 2), f"{at}.generation {generation!r} is neither 1 nor 2")
    _check(generation == 1 or not ide, f"{at}.generation 2 has no IDE controllers, and a disk at {', '.join(ide)}")
    return int(generation)


def _disks(value: object, at: str, images: Mapping[str, InventoryImage]) -> dict[str, InventoryDisk]:
    disks: dict[str, InventoryDisk] = {}
    for n, entry in enumerate(_list(value, at)):
        disk = _object(entry, f"{at}[{n}]", ("location", "size_bytes", "image"))
        location = disk.get("location")
        _check(
            isinstance(location, str) and _LOCATION.fullmatch(location),
            f"{at}[{n}].location {location!r} is not like SCSI:0:0",
        )
        _check(location not in disks, f"{at}[{n}].location {location!r} is taken already")
        image = disk.get("image", "")
        _check(isinstance(image, str) and image in ("", *images), f"{at}[{n}].image {image!r} is no image")
        size = images[image].size_bytes if image else _GIB
        disks[str(location)] = InventoryDisk(_positive(disk.get("size_bytes", size), f"{at}[{n}].size_bytes"), image)
    return disks


def _object(value: object, at: str, fields: Collection[str] | None = None) -> Mapping[str, Any]:
    """Return an object with no other fields than these; None: any."""
    if not isinstance(value, dict):
        raise ValueError(f"{at or 'it'} is no object: {value!r}")  # noqa: TRY004  (the file's fault, not ours)
    unknown = sorted(set(value) - set(value if fields is None else fields))
    _check(not unknown, f"{at + ': ' if at else ''}unknown: {', '.join(unknown)}")
    return value


def _list(value: object, at: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{at} is no list: {value!r}")  # noqa: TRY004  (as above)
    return value


def _text(value: object, at: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{at} {value!r} is no name")
    return value


def _one_of(value: object, at: str, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{at} {value!r} is none of {', '.join(allowed)}")
    return value


def _flag(value: object, at: str) -> bool:
    _check(isinstance(value, bool), f"{at} {value!r} is neither true nor false")
    return bool(value)


def _positive(value: object, at: str) -> int:
    if type(value) is not int or value <= 0:
        raise ValueError(f"{at} {value!r} is no whole number above 0")
    return value


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
