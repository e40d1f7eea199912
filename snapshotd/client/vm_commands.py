"""`snapshotctl vm ...`."""

from __future__ import annotations

import argparse
from typing import Final

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.api.v1.host_pb2 import DiscoverVirtualMachinesRequest, GetHostRequest
from snapshotd.client import streams
from snapshotd.client.audit_diff import state_at
from snapshotd.client.calls import Server
from snapshotd.client.exports import POLICIES, exports_table, policy_text, released_text
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.labels import changed_labels, filter_of, labels_text
from snapshotd.client.offerings import memory_text
from snapshotd.client.options import output, request_id
from snapshotd.client.pages import output_pages
from snapshotd.client.render import facts, last, prose, shown, size, when, word
from snapshotd.client.resolve import BEGIN_WITH, all_vms, host_name, is_beginning, is_id, one_of, vm_name
from snapshotd.client.resolve_past import vm_ever
from snapshotd.client.standing import Standing, standing_of
from snapshotd.client.times import read_point

_NO_SUCH_VM: Final = "VIRTUAL_MACHINE_NOT_FOUND"
_ATTENTION: Final = "ATTENTION"
_HEADS: Final = ["VM", "HOST", "STATE", _ATTENTION, "SNAPSHOTS", "OWNER", "OPERATION", "ID"]
_MORE: Final = ["POWER", "CPUS", "MEMORY", "REGISTERED", "LOOKED AT"]
"""The heads of columns that are shown only when they are asked for."""


def register(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Register a VM that its host reports."""
    many = arguments.all or bool(arguments.match)
    if [bool(arguments.vm), arguments.all, bool(arguments.match)].count(True) != 1 or (arguments.dry_run and not many):
        raise Failed("Give one VM, or --all, or --match PATTERN. --dry-run goes with the last two.", ExitCode.USAGE)
    return _register_many(server, arguments) if many else _register_one(server, arguments)


def _register_many(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.RegisterHostVirtualMachinesRequest(
        host=host_name(arguments.host),
        name_patterns=[] if arguments.all else arguments.match,
        owner=arguments.owner,
        labels=dict(arguments.label),
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
    )
    found = server.call(server.vms.RegisterHostVirtualMachines, request)
    code = output(
        arguments,
        found,
        lambda said: _registered_text(said, dry_run=arguments.dry_run),
        lambda said: said.registered,
    )
    return ExitCode.REFUSED if found.refused and not code else code


def _registered_text(found: pb.RegisterHostVirtualMachinesResponse, *, dry_run: bool) -> str:
    verb = "would be registered" if dry_run else "registered"
    counts = (
        f"{len(found.registered)} {verb}, {found.registered_before} registered before, {len(found.refused)} refused."
    )
    why = [
        f"{shown(vm.display_name)} ({vm.vm_id}): {shown(vm.failure.message)} [{vm.failure.reason}]"
        for vm in found.refused
    ]
    return "\n".join([counts, *why])


def _register_one(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.RegisterVirtualMachineRequest(
        host=host_name(arguments.host),
        owner=arguments.owner,
        labels=dict(arguments.label),
        request_id=request_id(arguments),
    )
    registered = _registered(server, request, arguments.vm)
    for condition in registered.conditions:
        streams.warn(
            f"VM {shown(registered.display_name)} is registered, and needs attention: "
            f"{shown(condition.message)} [{condition.reason}]"
        )
    return output(arguments, registered, lambda vm: _facts(vm, standing_of(server, vm.name)))


def _registered(server: Server, request: pb.RegisterVirtualMachineRequest, text: str) -> pb.VirtualMachine:
    """Register the VM that a text stands for: an id, a name, which may look like an id, or an id's beginning."""
    if is_id(text):
        request.vm_id = text
        try:
            return server.call(server.vms.RegisterVirtualMachine, request)
        except Failed as failed:
            if failed.reason != _NO_SUCH_VM:
                raise
    request.vm_name = text
    try:
        return server.call(server.vms.RegisterVirtualMachine, request)
    except Failed as failed:
        if failed.reason != _NO_SUCH_VM or not is_beginning(text):
            raise
        request.vm_id = _discovered(server, request.host, text)
        if not request.vm_id:
            raise
    return server.call(server.vms.RegisterVirtualMachine, request)


def _discovered(server: Server, host: str, beginning: str) -> str:
    """Return the id of a host's VM by its beginning; empty if there is none. Raises Failed if there are several."""
    request = DiscoverVirtualMachinesRequest(name=host)
    found = server.call(server.hosts.DiscoverVirtualMachines, request).virtual_machines
    begun = [vm for vm in found if vm.vm_id.startswith(beginning.lower())]
    one_of("VMs", BEGIN_WITH, beginning, [f"{vm.vm_id} {shown(vm.display_name)}" for vm in begun])
    return begun[0].vm_id if begun else ""


def unregister(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Unregister a VM; nothing on its host is touched."""
    name = vm_name(server, arguments.vm, unregistered_by=arguments.request_id or "")
    request = pb.UnregisterVirtualMachineRequest(name=name, request_id=request_id(arguments))
    server.call(server.vms.UnregisterVirtualMachine, request)
    vm = shown(arguments.vm)
    return output(arguments, request, lambda _: f"VM {vm} is no longer registered. Nothing on its host was touched.")


def list_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show the registered VMs."""
    condition = filter_of(arguments, f'host = "{host_name(arguments.host)}"' if arguments.host else "")
    found = pb.ListVirtualMachinesResponse(virtual_machines=all_vms(server, condition))
    if arguments.host and not found.virtual_machines:
        server.call(server.hosts.GetHost, GetHostRequest(name=host_name(arguments.host)))  # refused if there is none
    attention = any(vm.conditions for vm in found.virtual_machines)
    return output_pages(
        arguments,
        [found],
        "virtual_machines",
        _HEADS if attention or arguments.columns else [head for head in _HEADS if head != _ATTENTION],
        lambda vm: _row(vm, attention=attention or bool(arguments.columns)),
        yields=("OWNER", "VM", "HOST", _ATTENTION),
        ids=("OPERATION", "ID"),
        more=_MORE,
    )


def _row(vm: pb.VirtualMachine, *, attention: bool) -> list[str]:
    return [
        vm.display_name,
        last(vm.host),
        pb.VirtualMachine.State.Name(vm.state),
        *([", ".join(condition.reason for condition in vm.conditions)] if attention else []),
        f"{vm.snapshot_count}/{vm.snapshot_limit}",
        vm.owner,
        ", ".join(vm.active_operations),
        vm.uid,
        Power.Name(vm.power),
        str(vm.service_offering.cpu_count),
        size(vm.service_offering.memory_bytes),
        when(vm.create_time),
        when(vm.observe_time),
    ]


def update(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Change a VM's owner, labels or export policy."""
    labels = bool(arguments.label or arguments.remove_label)
    asked = {"owner": bool(arguments.owner), "labels": labels, "export_policy": arguments.export_policy is not None}
    if not any(asked.values()):
        raise Failed("Say what to change: --owner, --label, --remove-label or --export-policy.", ExitCode.USAGE)
    name = vm_name(server, arguments.vm)
    known = server.call(server.vms.GetVirtualMachine, pb.GetVirtualMachineRequest(name=name)) if labels else None
    said = pb.VirtualMachine(
        name=name,
        owner=arguments.owner,
        labels=changed_labels(arguments, known.labels) if known else {},
        export_policy=POLICIES[arguments.export_policy or "default"],
    )
    request = pb.UpdateVirtualMachineRequest(virtual_machine=said, request_id=request_id(arguments))
    request.update_mask.paths.extend(field for field, there in asked.items() if there)
    updated = server.call(server.vms.UpdateVirtualMachine, request)
    return output(arguments, updated, lambda vm: _facts(vm, standing_of(server, vm.name)))


def show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show a VM, as it is or was."""
    if arguments.at:
        point = read_point("--at", arguments.at)
        then = state_at(server, vm_ever(server, arguments.vm), point)
        head = f"As of version {then.vm.version}, {when(then.vm.update_time)}.\n"
        return output(arguments, then.vm, lambda vm: head + _facts(vm, Standing(then.tree)))
    request = pb.GetVirtualMachineRequest(name=vm_name(server, arguments.vm))
    return output(
        arguments,
        server.call(server.vms.GetVirtualMachine, request),
        lambda vm: _facts(vm, standing_of(server, vm.name)),
    )


def _facts(vm: pb.VirtualMachine, standing: Standing) -> str:
    text = facts(
        [
            ("VM", vm.display_name),
            ("Name", vm.name),
            ("Host", vm.host),
            ("Owner", vm.owner),
            ("Labels", labels_text(vm.labels)),
            ("State", word(pb.VirtualMachine.State.Name(vm.state))),
            ("Power", Power.Name(vm.power)),
            ("Current", standing.vm_text() or last(vm.current_snapshot)),
            ("Operations", ", ".join(vm.active_operations)),
            ("Snapshots", f"{vm.snapshot_count} of {vm.snapshot_limit}"),
            ("Not ours", str(vm.foreign_checkpoint_count)),
            ("Blocked by", ", ".join(vm.snapshot_blockers)),
            ("CPUs", str(vm.service_offering.cpu_count)),
            ("Memory", memory_text(vm.service_offering)),
            ("Export policy", policy_text(vm)),
            ("Released", released_text(vm)),
            ("Registered", when(vm.create_time)),
            ("Last looked at", when(vm.observe_time)),
        ]
    )
    text += "".join(f"\n{condition.reason}: {condition.message}\n" for condition in vm.conditions)
    disks = [[d.location, _size(d.size_bytes), _size(d.file_bytes), d.path] for d in vm.disks]
    tables = [prose(["DISK", "SIZE", "ON DISK", "FILE"], disks), exports_table(vm)]
    return "\n\n".join([text.rstrip("\n"), *filter(None, tables)])


def _size(count: int) -> str:
    return size(count) if count else ""
