"""`snapshotctl vm destroy`: shows what is lost, asks, and does it."""

from __future__ import annotations

import argparse

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.api.v1.operation_pb2 import Plan
from snapshotd.client.calls import Server
from snapshotd.client.confirmation import confirm
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import request_id
from snapshotd.client.plan import about_vm, plan_text
from snapshotd.client.resolve import vm_name


def destroy(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Destroy a VM. What a person has agreed to is what is done, or the server refuses it."""
    request = pb.DestroyVirtualMachineRequest(
        name=vm_name(server, arguments.vm),
        delete_disks=arguments.delete_disks,
        foreign_checkpoints=arguments.foreign_checkpoints,
        validate_only=True,
        expected_plan=arguments.expect,
    )
    if not (arguments.dry_run or arguments.yes or arguments.expect):
        plan = Plan()
        server.call(server.vms.DestroyVirtualMachine, request).response.Unpack(plan)
        confirm(arguments, plan_text(server, arguments, plan), arguments.vm, verb="destroy {}", done="destroyed")
        request.expected_plan = plan.etag
    request.validate_only, request.request_id = arguments.dry_run, request_id(arguments)
    return about_vm(server, arguments, server.call(server.vms.DestroyVirtualMachine, request))
