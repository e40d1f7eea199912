"""`snapshotctl vm start`, `stop` and `restart`."""

from __future__ import annotations

import argparse

from google.protobuf.duration_pb2 import Duration

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import request_id
from snapshotd.client.plan import about_vm
from snapshotd.client.resolve import host_name, vm_name


def start(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Start or resume a VM."""
    request = pb.StartVirtualMachineRequest(
        name=vm_name(server, arguments.vm),
        host=host_name(arguments.host) if arguments.host else "",
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    return about_vm(server, arguments, server.call(server.vms.StartVirtualMachine, request))


def stop(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Stop a VM: its guest is asked to shut down."""
    modes = pb.StopVirtualMachineRequest
    asked = {modes.TURN_OFF: arguments.turn_off, modes.SAVE: arguments.save, modes.PAUSE: arguments.pause}
    request = pb.StopVirtualMachineRequest(
        name=vm_name(server, arguments.vm),
        mode=next((mode for mode, wanted in asked.items() if wanted), modes.SHUTDOWN),
        shutdown_timeout=_timeout(arguments),
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    return about_vm(server, arguments, server.call(server.vms.StopVirtualMachine, request))


def restart(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Restart a VM: its guest is asked to shut down."""
    modes = pb.StopVirtualMachineRequest
    request = pb.RestartVirtualMachineRequest(
        name=vm_name(server, arguments.vm),
        mode=modes.TURN_OFF if arguments.turn_off else modes.SHUTDOWN,
        shutdown_timeout=_timeout(arguments),
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
        expected_plan=arguments.expect,
    )
    return about_vm(server, arguments, server.call(server.vms.RestartVirtualMachine, request))


def _timeout(arguments: argparse.Namespace) -> Duration | None:
    """Return the time after which the VM is turned off; None: never."""
    if arguments.shutdown_timeout is None:
        return None
    timeout = Duration()
    timeout.FromNanoseconds(int(arguments.shutdown_timeout * 1e9))
    return timeout
