"""`snapshotctl volume-snapshot ...`."""

from __future__ import annotations

import argparse
from typing import Final

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.options import output, request_id
from snapshotd.client.pages import output_pages, pages
from snapshotd.client.plan import about_vm
from snapshotd.client.progress import metadata_of
from snapshotd.client.render import age, facts, last, shown, size, when, word
from snapshotd.client.resolve import all_vms, vm_name
from snapshotd.client.resolve_past import vm_ever
from snapshotd.client.resolve_volume_snapshot import find_volume_snapshot

_ALL: Final = "virtualMachines/-"
_HEADS: Final = ("VOLUME SNAPSHOT", "STATE", "DISK", "AGE", "SIZE", "ID")
_MORE: Final = ("VM", "CONSISTENCY", "TAKEN", "ACTOR", "FILE", "IDENTITY")
"""The heads of columns that are shown only when they are asked for; VM also if those of all VMs are listed."""
_FROZEN: Final = {
    pb.VolumeSnapshot.OFF: "the VM was off",
    pb.VolumeSnapshot.APPLICATION: "its guest had frozen file systems and applications",
    pb.VolumeSnapshot.CRASH: "as after a power cut: its guest could not be frozen",
}


def take(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Copy one disk of a VM, as it is now, to a file."""
    request = pb.TakeVolumeSnapshotRequest(
        parent=vm_name(server, arguments.vm),
        volume_snapshot=pb.VolumeSnapshot(display_name=arguments.name, location=arguments.place),
        allow_fallback=arguments.allow_fallback,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.vms.TakeVolumeSnapshot, request)
    made = "" if arguments.name or arguments.dry_run else _made(server, operation)
    what = f"copy the disk at {arguments.place} of {shown(arguments.vm)}"
    return about_vm(server, arguments, operation, what=what, made=made)


def _made(server: Server, operation: Operation) -> str:
    """Return the name that a volume snapshot got that was requested without one, in a sentence."""
    name = metadata_of(operation).volume_snapshot
    try:
        found = server.call(server.vms.GetVolumeSnapshot, pb.GetVolumeSnapshotRequest(name=name))
    except Failed:
        # It is accepted even if nothing can be read just now. The id leads to the name later.
        return f"The volume snapshot is {shown(name)}."
    return f"The volume snapshot is named {shown(found.display_name)}."


def delete(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Delete the copy of a disk, with its file."""
    vm = vm_ever(server, arguments.vm)
    one = find_volume_snapshot(server, vm, arguments.volume_snapshot, repeated=bool(arguments.request_id))
    request = pb.DeleteVolumeSnapshotRequest(
        name=one.name,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.vms.DeleteVolumeSnapshot, request)
    what = f"delete volume snapshot {shown(one.display_name or arguments.volume_snapshot)} of {shown(arguments.vm)}"
    return about_vm(server, arguments, operation, what=what)


def list_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show the copies of a VM's disks, or of all VMs'."""
    parent = vm_ever(server, arguments.vm) if arguments.vm else _ALL
    request = pb.ListVolumeSnapshotsRequest(parent=parent, show_deleted=arguments.deleted, filter=arguments.filter)
    found = pages(server, server.vms.ListVolumeSnapshots, request, "volume_snapshots")
    tabular = arguments.output in ("table", "csv")
    names = {vm.name: vm.display_name for vm in all_vms(server)} if tabular else {}
    heads, more = (_HEADS, _MORE) if arguments.vm else ((_MORE[0], *_HEADS), _MORE[1:])

    def row(one: pb.VolumeSnapshot) -> list[str]:
        cells = _cells(one, names)
        return [cells[head] for head in (*heads, *more)]

    return output_pages(
        arguments, found, "volume_snapshots", heads, row, yields=("VOLUME SNAPSHOT",), ids=("ID",), more=more
    )


def _cells(one: pb.VolumeSnapshot, names: dict[str, str]) -> dict[str, str]:
    """Return what a list can show of a copy, by head. `names`: the names of VMs, by resource name."""
    vm = one.name.partition("/volumeSnapshots/")[0]
    return {
        "VOLUME SNAPSHOT": one.display_name,
        "STATE": _state(one),
        "DISK": one.location,
        "AGE": age(one.create_time),
        "SIZE": size(one.size_bytes) if one.size_bytes else "",
        "ID": last(one.name),
        "VM": names.get(vm, last(vm)),
        "CONSISTENCY": word(pb.VolumeSnapshot.Consistency.Name(one.consistency)) if one.consistency else "",
        "TAKEN": when(one.create_time),
        "ACTOR": one.actor,
        "FILE": one.path,
        "IDENTITY": one.disk_identifier,
    }


def _state(one: pb.VolumeSnapshot) -> str:
    state = pb.VolumeSnapshot.State.Name(one.state)
    return f"{state} ({one.failure.reason})" if one.state == pb.VolumeSnapshot.ERROR else state


def show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show the copy of a disk."""
    name = find_volume_snapshot(server, vm_ever(server, arguments.vm), arguments.volume_snapshot).name
    return output(arguments, server.call(server.vms.GetVolumeSnapshot, pb.GetVolumeSnapshotRequest(name=name)), _facts)


def _facts(one: pb.VolumeSnapshot) -> str:
    return facts(
        [
            ("Volume snapshot", one.display_name),
            ("Name", one.name),
            ("State", pb.VolumeSnapshot.State.Name(one.state)),
            ("Why", f"{one.failure.reason}: {one.failure.message}" if one.failure.reason else ""),
            ("Disk", one.location),
            ("Holds", _FROZEN.get(one.consistency, "")),
            ("File", one.path),
            ("Host", one.host),
            ("Size", size(one.size_bytes) if one.size_bytes else ""),
            ("Identity", one.disk_identifier),
            ("Requested by", one.actor),
            ("Requested at", when(one.create_time)),
        ]
    )
