"""`snapshotctl vm attach`, `detach` and `resize`."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import request_id
from snapshotd.client.plan import about_vm
from snapshotd.client.render import shown, size
from snapshotd.client.resolve import vm_name


def attach(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Attach a disk: a file that is there, or a new one."""
    request = pb.AttachVolumeRequest(
        name=vm_name(server, arguments.vm),
        path=arguments.path,
        location=arguments.free_place,
        size_bytes=arguments.new,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    vm = shown(arguments.vm)
    new = f", a new disk of {size(arguments.new)}," if arguments.new else ""
    operation = server.call(server.vms.AttachVolume, request)
    return about_vm(server, arguments, operation, what=f"attach {shown(arguments.path)}{new} to {vm}")


def detach(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Detach a disk; its file stays."""
    request = pb.DetachVolumeRequest(
        name=vm_name(server, arguments.vm),
        location=arguments.place,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.vms.DetachVolume, request)
    what = f"detach the disk at {arguments.place} from {shown(arguments.vm)}"
    return about_vm(server, arguments, operation, what=what)


def resize(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Make a disk larger, or smaller."""
    request = pb.ResizeVolumeRequest(
        name=vm_name(server, arguments.vm),
        location=arguments.place,
        size_bytes=arguments.size,
        allow_shrink=arguments.allow_shrink,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.vms.ResizeVolume, request)
    what = f"resize the disk at {arguments.place} of {shown(arguments.vm)} to {size(arguments.size)}"
    return about_vm(server, arguments, operation, what=what)
