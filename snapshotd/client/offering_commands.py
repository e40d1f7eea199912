"""`snapshotctl vm offering`."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.offerings import offering_text
from snapshotd.client.options import request_id
from snapshotd.client.plan import about_vm
from snapshotd.client.render import shown
from snapshotd.client.resolve import vm_name


def change(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Change CPUs and memory of a stopped VM."""
    wanted = pb.ServiceOffering(
        cpu_count=arguments.cpus,
        memory_bytes=arguments.memory,
        dynamic_memory=None if arguments.dynamic_memory is None else arguments.dynamic_memory == "on",
        minimum_bytes=arguments.minimum,
        maximum_bytes=arguments.maximum,
    )
    if not wanted.ListFields():
        text = "Say what to change: --cpus, --memory, --dynamic-memory, --minimum or --maximum."
        raise Failed(text, ExitCode.USAGE)
    request = pb.ChangeServiceOfferingRequest(
        name=vm_name(server, arguments.vm),
        service_offering=wanted,
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    operation = server.call(server.vms.ChangeServiceOffering, request)
    what = f"change the offering of {shown(arguments.vm)} to {offering_text(wanted)}"
    return about_vm(server, arguments, operation, what=what)
