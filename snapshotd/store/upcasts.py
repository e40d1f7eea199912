"""What turns the data of an older version of an event into those of the next. Reads nothing else."""

from __future__ import annotations

from typing import Any


def described_2(data: dict[str, Any]) -> dict[str, Any]:
    """Return a VmDescribed with what version 1 did not tell, as not known; the offering is what it told of it."""
    told = dict(data["description"])
    offering = _offering(told)
    unknown = {"size_bytes": 0, "identifier": "", "minimum_bytes": 0, "vhd_type": ""}
    told |= {
        "offering": offering,
        "generation": 0,
        "files": [file | unknown for file in told["files"]],
        "checkpoints": [checkpoint | {"offering": None} for checkpoint in told["checkpoints"]],
    }
    return {"description": told}


def snapshot_created_2(data: dict[str, Any]) -> dict[str, Any]:
    """Return a SnapshotCreated with the offering that version 1 told as two numbers."""
    told = dict(data)
    return {"offering": _offering(told), **told}


def _offering(told: dict[str, Any]) -> dict[str, Any]:
    """Return the offering that two numbers stand for, and take them away."""
    known = {"cpu_count": told.pop("cpu_count"), "memory_bytes": told.pop("memory_bytes")}
    return {**known, "dynamic_memory": False, "minimum_bytes": 0, "maximum_bytes": 0}


def details_changed_2(data: dict[str, Any]) -> dict[str, Any]:
    """Return a VmDetailsChanged with the export policy that every VM had when version 1 was written: the server's."""
    return data | {part: data[part] | {"export_policy": "AS_SERVER"} for part in ("before", "after")}
