"""What stub cmdlets can call: the hypervisor's objects as JSON, and its acts. Knows neither sockets nor PowerShell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snapshotd.simulator.hypervisor import (
    LOGICAL_PROCESSORS,
    MEMORY_BYTES,
    Caller,
    CheckpointView,
    DriveView,
    Hypervisor,
    VmView,
)
from snapshotd.simulator.pwsh.bridge import Call
from snapshotd.simulator.pwsh.drive_calls import drive_calls
from snapshotd.simulator.pwsh.transfer_calls import transfer_calls
from snapshotd.simulator.pwsh.wmi_methods import wmi_calls


def calls_on(host: Hypervisor) -> dict[str, Call]:
    """Return all calls, by name."""

    def vms(_: Caller, arguments: Mapping[str, Any]) -> object:
        if arguments.get("id"):
            view = host.vm(arguments["id"])
            return [] if view is None else [_vm(view)]
        return [_vm(view) for view in host.vms()]

    def state(_: Caller, arguments: Mapping[str, Any]) -> object:
        view = host.vm(arguments["id"])
        return view and view.state

    def vhd(_: Caller, arguments: Mapping[str, Any]) -> object:
        view = host.vhd(arguments["path"])
        if view is None:
            return None
        return {
            "path": view.path,
            "parent_path": view.parent_path,
            "file_bytes": view.file_bytes,
            "size_bytes": view.size_bytes,
            "minimum_bytes": view.minimum_bytes,
            "identifier": view.identifier,
            "vhd_type": view.vhd_type,
            "attached": view.attached,
        }

    def stop(caller: Caller, arguments: Mapping[str, Any]) -> object:
        return host.stop_vm(caller, arguments["vm"], turn_off=arguments["turn_off"], force=arguments["force"])

    return {
        "host": lambda _, __: _host(host),
        "vms": vms,
        "state": state,
        "vhd": vhd,
        "set_checkpoint_type": lambda c, a: host.set_checkpoint_type(c, a["vm"], a["type"]),
        "set_vm": lambda c, a: host.set_vm(c, a["vm"], **{name: value for name, value in a.items() if name != "vm"}),
        "checkpoint": lambda c, a: host.checkpoint_vm(c, a["vm"], a["name"]),
        "rename": lambda c, a: host.rename_snapshot(c, a["checkpoint"], a["name"]),
        "restore": lambda c, a: host.restore_snapshot(c, a["checkpoint"]),
        "remove": lambda c, a: host.remove_snapshot(c, a["checkpoint"]),
        "start": lambda c, a: host.start_vm(c, a["vm"]),
        "resume": lambda c, a: host.resume_vm(c, a["vm"]),
        "restart": lambda c, a: host.restart_vm(c, a["vm"]),
        "stop": stop,
        "save": lambda c, a: host.save_vm(c, a["vm"]),
        "suspend": lambda c, a: host.suspend_vm(c, a["vm"]),
        **drive_calls(host),
        **wmi_calls(host),
        **transfer_calls(host),
    }


def _host(host: Hypervisor) -> dict[str, object]:
    return {
        "name": host.name,
        "folder": str(host.storage_directory),
        "logical_processors": LOGICAL_PROCESSORS,
        "memory_bytes": MEMORY_BYTES,
    }


def _vm(view: VmView) -> dict[str, object]:
    names = {c.checkpoint_id: c.name for c in view.checkpoints}
    return {
        "id": view.vm_id,
        "name": view.name,
        "state": view.state,
        "checkpoint_type": view.checkpoint_type,
        "parent_snapshot_id": view.parent_snapshot_id,
        "parent_snapshot_name": names.get(view.parent_snapshot_id),
        "checkpoints": [_checkpoint(view, c, names.get(c.parent_id)) for c in view.checkpoints],
        "drives": [_runtime(d) for d in view.drives],
        "secondary_status": list(view.secondary_status),
        **_offering(view),
        "generation": view.generation,
        "switch": view.switch,
        "vss": view.vss,
        "shutdown_service": view.shutdown_service,
        "replica": view.replica,
        "automatic_checkpoints": view.automatic_checkpoints,
        "fibre_channel": "FIBRE_CHANNEL" in view.blockers,
        "uptime_s": view.uptime_s,
        "created_at": view.created_at.isoformat() if view.created_at else None,
        "folder": view.folder,
        "settings": dict(view.settings),
    }


def _checkpoint(vm: VmView, view: CheckpointView, parent_name: str | None) -> dict[str, object]:
    return {
        "id": view.checkpoint_id,
        "vm_id": view.vm_id,
        "vm_name": view.vm_name,
        "name": view.name,
        "parent_id": view.parent_id,
        "parent_name": parent_name,
        "created_at": view.created_at.isoformat(),
        "snapshot_type": view.snapshot_type,
        "has_memory": view.has_memory,
        "automatic": view.automatic,
        "system_files_bytes": view.system_files_bytes,
        "drives": [_runtime(d) for d in view.drives],
        **_offering(view),
        "generation": vm.generation,
        "folder": vm.folder,
    }


def _offering(view: VmView | CheckpointView) -> dict[str, object]:
    return {
        "cpu_count": view.cpu_count,
        "memory_bytes": view.memory_bytes,
        "dynamic_memory": view.dynamic_memory,
        "minimum_bytes": view.minimum_bytes,
        "maximum_bytes": view.maximum_bytes,
    }


def _runtime(view: DriveView) -> dict[str, object]:
    kind, number, location = view.location.split(":")
    return {
        "type": kind,
        "number": int(number),
        "location": int(location),
        "path": view.path,
        "pass_through": view.pass_through,
        "shared": view.shared,
    }
