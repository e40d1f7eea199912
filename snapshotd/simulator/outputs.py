"""What the journal may hold of an action that is done (docs/host-protocol.md, 'The payload'). Reads no journal."""

from __future__ import annotations

from typing import Final

from snapshotd.simulator.journal import Output

OUTPUTS: Final[dict[str, dict[str, type]]] = {
    "checkpoint_create": {"checkpoint_id": str, "has_memory": bool},
    "disk_create": {"identifier": str},
    "disk_export": {"job_id": str},
    "disk_convert": {"job_id": str},
    "disk_place": {"path": str, "size_bytes": int, "identifier": str},
    "vm_export": {"job_id": str},
    "export_complete": {"configuration_path": str, "size_bytes": int},
}
"""The fields of an action's output with their types: str, bool or int. An action that is not in here has none."""


def fits(action: str, output: Output) -> bool:
    """Return whether an output can be an action's: it has all its fields, each of its type, and no others."""
    types = {name: type(value) for name, value in output.items()}
    return types == OUTPUTS.get(action, {}) and output.get("checkpoint_id") != ""
