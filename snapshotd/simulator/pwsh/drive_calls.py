"""What stub cmdlets can call about drives, disks, processors, memory, and VMs that come and go (see calls.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snapshotd.simulator.hypervisor import Caller, Hypervisor
from snapshotd.simulator.pwsh.bridge import Call


def drive_calls(host: Hypervisor) -> dict[str, Call]:
    """Return these calls, by name."""

    def new_vhd(caller: Caller, arguments: Mapping[str, Any]) -> None:
        how = {name: arguments[name] for name in ("parent", "fixed")}
        host.new_vhd(caller, arguments["path"], arguments["size_bytes"], **how)

    def set_memory(caller: Caller, arguments: Mapping[str, Any]) -> None:
        host.set_memory(caller, arguments["vm"], **{n: value for n, value in arguments.items() if n != "vm"})

    return {
        "add_drive": lambda c, a: host.add_drive(c, a["vm"], a["location"], a["path"]),
        "remove_drive": lambda c, a: host.remove_drive(c, a["vm"], a["location"]),
        "new_vm": lambda c, a: host.new_vm(c, a["name"], **{n: value for n, value in a.items() if n != "name"}),
        "remove_vm": lambda c, a: host.remove_vm(c, a["vm"]),
        "new_vhd": new_vhd,
        "resize_vhd": lambda c, a: host.resize_vhd(c, a["path"], a["size_bytes"]),
        "set_processor": lambda c, a: host.set_processor(c, a["vm"], a["count"]),
        "set_memory": set_memory,
    }
