"""A VM's exports, for people: where they are, and what it means that a VM was released after one."""

from __future__ import annotations

from typing import Final

from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.client.render import last, prose, shown, size, when

POLICIES: Final = {
    "default": VirtualMachine.EXPORT_POLICY_UNSPECIFIED,
    "never": VirtualMachine.NEVER,
    "on-stop": VirtualMachine.ON_STOP,
    "on-snapshot": VirtualMachine.ON_SNAPSHOT,
}
"""What the command line calls them."""
_POLICY_TEXTS: Final = {
    VirtualMachine.NEVER: "never",
    VirtualMachine.ON_STOP: "after each stop, if it has snapshots",
    VirtualMachine.ON_SNAPSHOT: "with each snapshot",
}
_HEADS: Final = ("EXPORTED", "SIZE", "BY", "IN USE", "FOLDER")


def policy_text(vm: VirtualMachine) -> str:
    """Return when a VM is exported by itself; empty if that is as the server's settings say."""
    return _POLICY_TEXTS.get(vm.export_policy, "")


def released_text(vm: VirtualMachine) -> str:
    """Return that a VM is on no host, and where it is kept; empty if it is on one."""
    if not vm.HasField("released"):
        return ""
    released = vm.released
    return f"from {last(released.host)} {when(released.time)}; it is kept in {released.directory}"


def exports_table(vm: VirtualMachine) -> str:
    """Return a VM's exports as a table; empty if it has none."""
    rows = [
        [
            when(e.create_time),
            size(e.size_bytes) if e.size_bytes else "",
            last(e.host),
            "yes" if e.in_use else "",
            e.directory,
        ]
        for e in vm.exports
    ]
    return prose(_HEADS, rows) if rows else ""


def beside_tree(vm: VirtualMachine) -> list[str]:
    """Return what stands beside a VM's tree: each export, and whether the VM is kept as one of them."""
    lines = [
        f"Exported {when(e.create_time)} to {shown(e.directory)}{f' ({size(e.size_bytes)})' if e.size_bytes else ''}"
        for e in vm.exports
    ]
    released = released_text(vm)
    return [*lines, *([f"Released {shown(released)}"] if released else [])]
