"""`snapshotctl vm export`."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import request_id
from snapshotd.client.plan import about_vm
from snapshotd.client.resolve import vm_name


def export(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Export a VM with its snapshots."""
    request = pb.ExportVirtualMachineRequest(
        name=vm_name(server, arguments.vm),
        directory=arguments.directory,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    return about_vm(server, arguments, server.call(server.vms.ExportVirtualMachine, request))
