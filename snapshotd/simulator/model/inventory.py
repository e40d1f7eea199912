"""The inventory file: which VMs a simulated host begins with. Read once, when the state directory is empty."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STATES: Final = ("Running", "Off", "Saved", "Paused")
CHECKPOINT_TYPES: Final = ("Disabled", "Production", "ProductionOnly", "Standard")
BLOCKERS: Final = ("PASS_THROUGH_DISK", "SHARED_DISK", "REPLICA", "FIBRE_CHANNEL")
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LOCATION: Final = re.compile(r"(IDE|SCSI):\d+:\d+")
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryVm:
    """A VM as the inventory describes it."""

    vm_id: str
    name: str
    state: str
    cpu_count: int
    memory_bytes: int
    disks: Mapping[str, int]
    """Sizes in bytes, by location."""
    checkpoint_type: str
    blockers: tuple[str, ...]
    vss: bool


@dataclass(frozen=True, slots=True)
class Inventory:
    """A host's name and VMs."""

    name: str
    vms: tuple[InventoryVm, ...]


def read_inventory(path: Path) -> Inventory:
    """Read an inventory file. Raises ValueError naming file, field and value; OSError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    try:
        unknown = set(document) - {"host", "vms"}
        _check(not unknown, f"unknown: {', '.join(sorted(unknown))}")
        name = document.get("host", {}).get("name", "hv01")
        _check(isinstance(name, str), f"host.name {name!r} is no name")
        vms = tuple(_vm(vm, f"vms[{n}]") for n, vm in enumerate(document["vms"]))
        ids = [vm.vm_id for vm in vms]
        _check(len(ids) == len(set(ids)), "two VMs have one id")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no inventory: {error}") from error
    return Inventory(name, vms)


def _vm(vm: Mapping[str, Any], at: str) -> InventoryVm:
    fields = {"id", "name", "state", "cpu_count", "memory_bytes", "disks", "checkpoint_type", "blockers", "vss"}
    unknown = set(vm) - fields
    _check(not unknown, f"{at}: unknown: {', '.join(sorted(unknown))}")
    result = InventoryVm(
        vm_id=str(vm["id"]).lower(),
        name=vm["name"],
        state=vm.get("state", "Off"),
        cpu_count=vm.get("cpu_count", 2),
        memory_bytes=vm.get("memory_bytes", 4 * _GIB),
        disks={d["location"]: d.get("size_bytes", _GIB) for d in vm["disks"]},
        checkpoint_type=vm.get("checkpoint_type", "Production"),
        blockers=tuple(vm.get("blockers", ())),
        vss=vm.get("vss", True),
    )
    _check(_GUID.fullmatch(result.vm_id), f"{at}.id {vm['id']!r} is no GUID")
    _check(result.name, f"{at}.name {result.name!r} is no name")
    _check(result.state in STATES, f"{at}.state {result.state!r} is none of {', '.join(STATES)}")
    _check(
        result.checkpoint_type in CHECKPOINT_TYPES,
        f"{at}.checkpoint_type {result.checkpoint_type!r} is none of {', '.join(CHECKPOINT_TYPES)}",
    )
    for blocker in result.blockers:
        _check(blocker in BLOCKERS, f"{at}.blockers: {blocker!r} is none of {', '.join(BLOCKERS)}")
    for location, size in result.disks.items():
        _check(_LOCATION.fullmatch(location), f"{at}.disks: location {location!r} is not like SCSI:0:0")
        _check(size > 0, f"{at}.disks: size_bytes {size!r} is no number of bytes")
    return result


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
