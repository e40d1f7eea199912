"""`snapshotctl vm ...`."""

from __future__ import annotations

import argparse
from typing import Final

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.api.v1.host_pb2 import GetHostRequest
from snapshotd.client import arguments as read
from snapshotd.client import power_commands, streams
from snapshotd.client.calls import ExitCode, Failed, Server
from snapshotd.client.options import Subcommands, add_request_id, output, request_id
from snapshotd.client.render import columns, facts, last, shown, size, table, when, word
from snapshotd.client.resolve import all_vms, host_name, is_id, vm_name

_NO_SUCH_VM: Final = "VIRTUAL_MACHINE_NOT_FOUND"


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("vm", "virtual machines")
    register = group.command("register", "register a VM that its host reports", _register)
    register.add_argument("host", type=read.named, metavar="HOST")
    register.add_argument("vm", type=read.named, nargs="?", metavar="VM", help="its name on the host, or Hyper-V's id")
    register.add_argument("--all", action="store_true", help="all VMs of the host that are not registered yet")
    register.add_argument(
        "--match",
        type=read.named,
        action="append",
        default=[],
        metavar="PATTERN",
        help="those whose names match (* and ?)",
    )
    register.add_argument("--dry-run", action="store_true", help="with --all or --match: show which, and do nothing")
    register.add_argument("--owner", type=read.named, metavar="NAME", help="its owner (default: the caller)")
    group.command("list", "show the registered VMs", _list).add_argument(
        "--host", type=read.named, help="only those of a host"
    )
    unregister = group.command("unregister", "unregister a VM; nothing on its host is touched", _unregister)
    show = group.command("show", "show a VM", _show)
    for parser in (unregister, show):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    for parser in (register, unregister):
        add_request_id(parser)
    power_commands.add_to(group)


def _register(server: Server, arguments: argparse.Namespace) -> ExitCode:
    many = arguments.all or bool(arguments.match)
    if [bool(arguments.vm), arguments.all, bool(arguments.match)].count(True) != 1 or (arguments.dry_run and not many):
        raise Failed("Give one VM, or --all, or --match PATTERN. --dry-run goes with the last two.", ExitCode.USAGE)
    return _register_many(server, arguments) if many else _register_one(server, arguments)


def _register_many(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.RegisterHostVirtualMachinesRequest(
        host=host_name(arguments.host),
        name_patterns=[] if arguments.all else arguments.match,
        owner=arguments.owner,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
    )
    found = server.call(server.vms.RegisterHostVirtualMachines, request)
    code = output(arguments, found, lambda said: _registered_text(said, dry_run=arguments.dry_run))
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
        host=host_name(arguments.host), owner=arguments.owner, request_id=request_id(arguments)
    )
    registered = _registered(server, request, arguments.vm)
    for condition in registered.conditions:
        streams.complain(
            f"VM {shown(registered.display_name)} is registered, and needs attention: {shown(condition.message)} "
            f"[{condition.reason}]"
        )
    return output(arguments, registered, _facts)


def _registered(server: Server, request: pb.RegisterVirtualMachineRequest, text: str) -> pb.VirtualMachine:
    """Register the VM that the user's text stands for: an id, or a name, which may look like an id."""
    if is_id(text):
        request.vm_id = text
        try:
            return server.call(server.vms.RegisterVirtualMachine, request)
        except Failed as failed:
            if failed.reason != _NO_SUCH_VM:
                raise
    request.vm_name = text
    return server.call(server.vms.RegisterVirtualMachine, request)


def _unregister(server: Server, arguments: argparse.Namespace) -> ExitCode:
    name = vm_name(server, arguments.vm, unregistered_by=arguments.request_id or "")
    request = pb.UnregisterVirtualMachineRequest(name=name, request_id=request_id(arguments))
    server.call(server.vms.UnregisterVirtualMachine, request)
    return output(arguments, request, lambda _: f"{name} is no longer registered. Nothing on its host was touched.")


def _list(server: Server, arguments: argparse.Namespace) -> ExitCode:
    condition = f'host = "{host_name(arguments.host)}"' if arguments.host else ""
    found = pb.ListVirtualMachinesResponse(virtual_machines=all_vms(server, condition))
    if arguments.host and not found.virtual_machines:
        server.call(server.hosts.GetHost, GetHostRequest(name=host_name(arguments.host)))  # refused if there is none
    return output(arguments, found, _table)


def _table(found: pb.ListVirtualMachinesResponse) -> str:
    heads = ["VM", "HOST", "STATE", "ATTENTION", "SNAPSHOTS", "OWNER", "OPERATION", "ID"]
    rows = [
        [
            vm.display_name,
            last(vm.host),
            pb.VirtualMachine.State.Name(vm.state),
            ", ".join(condition.reason for condition in vm.conditions),
            f"{vm.snapshot_count}/{vm.snapshot_limit}",
            vm.owner,
            ", ".join(vm.active_operations),
            vm.uid,
        ]
        for vm in found.virtual_machines
    ]
    if not any(vm.conditions for vm in found.virtual_machines):
        at = heads.index("ATTENTION")
        for line in (heads, *rows):
            del line[at]
    return table(heads, rows, yields=("OWNER", "VM"), width=columns())


def _show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.GetVirtualMachineRequest(name=vm_name(server, arguments.vm))
    return output(arguments, server.call(server.vms.GetVirtualMachine, request), _facts)


def _facts(vm: pb.VirtualMachine) -> str:
    text = facts(
        [
            ("VM", vm.display_name),
            ("Name", vm.name),
            ("Host", vm.host),
            ("Owner", vm.owner),
            ("State", word(pb.VirtualMachine.State.Name(vm.state))),
            ("Power", Power.Name(vm.power)),
            ("Current", vm.current_snapshot),
            ("Operations", ", ".join(vm.active_operations)),
            ("Snapshots", f"{vm.snapshot_count} of {vm.snapshot_limit}"),
            ("Not ours", str(vm.foreign_checkpoint_count)),
            ("Blocked by", ", ".join(vm.snapshot_blockers)),
            ("CPUs", str(vm.service_offering.cpu_count)),
            ("Memory", size(vm.service_offering.memory_bytes)),
            ("Registered", when(vm.create_time)),
            ("Last looked at", when(vm.observe_time)),
        ]
    )
    text += "".join(f"\n{condition.reason}: {condition.message}\n" for condition in vm.conditions)
    return text + "\n" + table(["DISK", "FILE"], [[d.location, d.path] for d in vm.disks])
