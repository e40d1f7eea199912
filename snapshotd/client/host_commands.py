"""`snapshotctl host ...`."""

from __future__ import annotations

import argparse
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from snapshotd.api.v1 import host_pb2 as pb
from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.client.calls import Server
from snapshotd.client.columns import chosen
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.options import output, request_id
from snapshotd.client.pages import Listing, output_pages, overview, pages
from snapshotd.client.render import counted, facts, last, subject_text, when
from snapshotd.client.resolve import host_name

_HEADS: Final = ["HOST", "ADDRESS", "STATE", "VMS", "LAST SYNC", "WHY"]
_MORE: Final = ["CREDENTIAL", "TRANSPORT", "EXECUTOR", "COMPUTER", "REGISTERED"]
"""The heads of columns that are shown only when they are asked for."""
_VM_HEADS: Final = ["VM", "POWER", "DISKS", "CHECKPOINTS", "REGISTERED", "BLOCKED BY", "ID"]


def add(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Register a host; it is not contacted."""
    host = pb.Host(
        address=arguments.address,
        port=arguments.port,
        credential=arguments.credential,
        transport=pb.Host.Transport.Value(arguments.transport or "TRANSPORT_UNSPECIFIED"),
        ca_file=arguments.ca_file,
        journal_directory=arguments.journal_directory,
    )
    request = pb.RegisterHostRequest(host_id=arguments.host, host=host, request_id=request_id(arguments))
    return output(arguments, server.call(server.hosts.RegisterHost, request), _facts)


def list_all(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show all hosts."""
    found = pages(server, server.hosts.ListHosts, pb.ListHostsRequest())
    return output_pages(arguments, found, "hosts", _HEADS, _row, yields=("WHY", "ADDRESS", "HOST"), more=_MORE)


def _row(host: pb.Host) -> list[str]:
    return [
        last(host.name),
        f"{host.address}:{host.port}",
        pb.Host.State.Name(host.state),
        str(host.virtual_machine_count),
        when(host.last_sync_time),
        host.wait.reason,
        host.credential,
        pb.Host.Transport.Name(host.transport),
        host.executor,
        host.computer_name,
        when(host.create_time),
    ]


def show(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Show a host."""
    request = pb.GetHostRequest(name=host_name(arguments.host))
    return output(arguments, server.call(server.hosts.GetHost, request), _facts)


def _facts(host: pb.Host) -> str:
    return facts(
        [
            ("Host", host.name),
            ("Address", f"{host.address}:{host.port} ({pb.Host.Transport.Name(host.transport)})"),
            ("Trusted by", host.ca_file),
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


def update(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Change how a host is reached."""
    fields = {name: getattr(arguments, name) for name in ("address", "port", "transport", "credential", "ca_file")}
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        raise Failed("Give what to change: --address, --port, --transport, --credential or --ca-file.", ExitCode.USAGE)
    if arguments.transport is not None:
        given["transport"] = pb.Host.Transport.Value(arguments.transport)
    host = pb.Host(name=host_name(arguments.host))
    for name, value in given.items():
        setattr(host, name, value)
    mask = FieldMask(paths=list(given))
    request = pb.UpdateHostRequest(host=host, update_mask=mask, request_id=request_id(arguments))
    return output(arguments, server.call(server.hosts.UpdateHost, request), _facts)


def remove(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Unregister a host; nothing on it is touched."""
    request = pb.RemoveHostRequest(
        name=host_name(arguments.host), unregister=arguments.unregister, request_id=request_id(arguments)
    )
    server.call(server.hosts.RemoveHost, request)
    vms = ", nor are its VMs" if request.unregister else ""
    return output(
        arguments,
        request,
        lambda _: f"Host {last(request.name)} is no longer registered{vms}. Nothing on it was touched.",
    )


def discover(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Ask a host which VMs it has."""
    request = pb.DiscoverVirtualMachinesRequest(name=host_name(arguments.host))
    show = Listing(arguments, _VM_HEADS, chosen(arguments, _VM_HEADS), ("BLOCKED BY", "VM"), ("ID",))
    return output(
        arguments,
        server.call(server.hosts.DiscoverVirtualMachines, request),
        lambda found: _found(found, show),
        lambda found: [vm.vm_id for vm in found.virtual_machines],
    )


def _found(found: pb.DiscoverVirtualMachinesResponse, show: Listing) -> str:
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
    return "\n\n".join([show.text(rows) if rows else "(none)", *why])


def sync(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Ask a host what is there, and record what differs."""
    request = pb.SyncHostRequest(name=host_name(arguments.host), request_id=request_id(arguments))
    synced = server.call(server.hosts.SyncHost, request)
    code = output(arguments, synced, lambda s: _synced(s, arguments))
    left_out = len(synced.virtual_machines_skipped)
    if synced.virtual_machines_compared or not left_out:
        return code
    changing = all(vm.reason == "VM_CHANGING" for vm in synced.skip_reasons)
    raise Failed(
        f"Cannot compare anything with the record: {counted(left_out, 'VM')} of {request.name} left out, and there is "
        "no other. The output says why.",
        ExitCode.BUSY if changing and synced.skip_reasons else ExitCode.UNAVAILABLE,
    )


def _synced(synced: pb.SyncHostResponse, arguments: argparse.Namespace) -> str:
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
        found = [[d.kind, subject_text(d.subject), d.message] for d in synced.drifts]
        lines.append(overview(arguments, ["WHAT", "OF", "DETAIL"], found, ["WHAT", "OF"], ["OF"]))
    if synced.skip_reasons:
        rows = [[vm.display_name, vm.reason, last(vm.name), vm.message] for vm in synced.skip_reasons]
        lines.append(overview(arguments, ["LEFT OUT", "REASON", "ID", "WHY"], rows, ["LEFT OUT", "REASON"], ["ID"]))
    if more := len(synced.virtual_machines_skipped) - len(synced.skip_reasons):
        lines.append(f"{counted(more, 'more VM')} left out; `-o json` has the names.")
    return "\n".join(lines)
