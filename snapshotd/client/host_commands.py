"""`snapshotctl host ...`."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import host_pb2 as pb
from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.client import arguments as read
from snapshotd.client.calls import ExitCode, Failed, Server
from snapshotd.client.options import Subcommands, add_request_id, output, request_id
from snapshotd.client.pages import pages
from snapshotd.client.render import columns, counted, facts, last, table, when
from snapshotd.client.resolve import host_name


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("host", "Hyper-V hosts")
    add = group.command("add", "register a host; it is not contacted", _add)
    add.add_argument("host", type=read.named, metavar="ID", help="the name it gets: a-z, 0-9 and -")
    add.add_argument(
        "address", type=read.named, metavar="ADDRESS", help="DNS name or IP address, as executors reach it"
    )
    add.add_argument("--port", type=read.port, metavar="N", help="TCP port of WinRM (default: 5985)")
    add.add_argument(
        "--credential", type=read.named, required=True, metavar="NAME", help="name of a credential of the executor"
    )
    add.add_argument(
        "--journal-directory",
        type=read.named,
        metavar="DIR",
        help="directory on the host (default: %%ProgramData%%\\snapshotd)",
    )
    add_request_id(add)
    group.command("list", "show all hosts", _list)
    for name, text, run in (
        ("show", "show a host", _show),
        ("remove", "unregister a host; nothing on it is touched", _remove),
        ("discover", "ask a host which VMs it has", _discover),
        ("sync", "ask a host what is there, and record what differs", _sync),
    ):
        parser = group.command(name, text, run)
        parser.add_argument("host", type=read.named, metavar="HOST")
        if run in (_remove, _sync):
            add_request_id(parser)


def _add(server: Server, arguments: argparse.Namespace) -> ExitCode:
    host = pb.Host(
        address=arguments.address,
        port=arguments.port,
        credential=arguments.credential,
        journal_directory=arguments.journal_directory,
    )
    request = pb.RegisterHostRequest(host_id=arguments.host, host=host, request_id=request_id(arguments))
    return output(arguments, server.call(server.hosts.RegisterHost, request), _facts)


def _list(server: Server, arguments: argparse.Namespace) -> ExitCode:
    found = pb.ListHostsResponse()
    for page in pages(server, server.hosts.ListHosts, pb.ListHostsRequest()):
        found.hosts.extend(page.hosts)
    return output(arguments, found, _table)


def _table(found: pb.ListHostsResponse) -> str:
    heads = ["HOST", "ADDRESS", "STATE", "VMS", "LAST SYNC", "WHY"]
    rows = [
        [
            last(h.name),
            f"{h.address}:{h.port}",
            pb.Host.State.Name(h.state),
            str(h.virtual_machine_count),
            when(h.last_sync_time),
            h.wait.reason,
        ]
        for h in found.hosts
    ]
    return table(heads, rows)


def _show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.GetHostRequest(name=host_name(arguments.host))
    return output(arguments, server.call(server.hosts.GetHost, request), _facts)


def _facts(host: pb.Host) -> str:
    return facts(
        [
            ("Host", host.name),
            ("Address", f"{host.address}:{host.port} ({pb.Host.Transport.Name(host.transport)})"),
            ("Credential", host.credential),
            ("State", pb.Host.State.Name(host.state)),
            ("Why", f"{host.wait.reason}: {host.wait.message}" if host.HasField("wait") else ""),
            ("Executor", host.executor),
            ("VMs", str(host.virtual_machine_count)),
            ("Computer", host.computer_name),
            ("System", host.os_version),
            ("PowerShell", host.powershell),
            ("Last sync", when(host.last_sync_time)),
            ("Registered", when(host.create_time)),
        ]
    )


def _remove(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.RemoveHostRequest(name=host_name(arguments.host), request_id=request_id(arguments))
    server.call(server.hosts.RemoveHost, request)
    return output(arguments, request, lambda _: f"{request.name} is no longer registered. Nothing on it was touched.")


def _discover(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.DiscoverVirtualMachinesRequest(name=host_name(arguments.host))
    return output(arguments, server.call(server.hosts.DiscoverVirtualMachines, request), _found)


def _found(found: pb.DiscoverVirtualMachinesResponse) -> str:
    heads = ["VM", "POWER", "DISKS", "CHECKPOINTS", "REGISTERED", "BLOCKED BY", "ID"]
    rows = [
        [
            vm.display_name,
            Power.Name(vm.power),
            str(vm.disk_count),
            str(vm.checkpoint_count),
            "yes" if vm.virtual_machine else "no",
            ", ".join(vm.snapshot_blockers),
            vm.vm_id,
        ]
        for vm in found.virtual_machines
    ]
    why = [f"{found.wait.reason}: {found.wait.message}"] if found.HasField("wait") else []
    if found.virtual_machines_omitted:
        why.append(f"{counted(found.virtual_machines_omitted, 'more VM')} are left out here. Register one by its id.")
    return "\n\n".join([table(heads, rows, yields=("VM",), width=columns()), *why])


def _sync(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.SyncHostRequest(name=host_name(arguments.host), request_id=request_id(arguments))
    synced = server.call(server.hosts.SyncHost, request)
    code = output(arguments, synced, _synced)
    left_out = len(synced.virtual_machines_skipped)
    if synced.virtual_machines_compared or not left_out:
        return code
    changing = all(vm.reason == "VM_CHANGING" for vm in synced.skip_reasons)
    raise Failed(
        f"Cannot compare anything with the record: {counted(left_out, 'VM')} of {request.name} left out, and there is "
        "no other. The output says why.",
        ExitCode.BUSY if changing and synced.skip_reasons else ExitCode.UNAVAILABLE,
    )


def _synced(synced: pb.SyncHostResponse) -> str:
    compared, drifts = (
        counted(synced.virtual_machines_compared, "VM"),
        counted(len(synced.drifts) + synced.drifts_omitted, "difference"),
    )
    lines = [f"{compared} compared, {drifts}."]
    if synced.drifts_omitted:
        lines.append(
            f"{synced.drifts_omitted} of them are left out here. See `snapshotctl audit list --type DriftDetected`."
        )
    if synced.drifts:
        lines.append(table(["WHAT", "OF", "DETAIL"], [[d.kind, d.subject, d.message] for d in synced.drifts]))
    if synced.skip_reasons:
        rows = [[vm.display_name, vm.reason, vm.message, last(vm.name)] for vm in synced.skip_reasons]
        lines.append(table(["LEFT OUT", "REASON", "WHY", "ID"], rows))
    if more := len(synced.virtual_machines_skipped) - len(synced.skip_reasons):
        lines.append(f"{counted(more, 'more VM')} left out; `-o json` has the names.")
    return "\n".join(lines)
