"""`snapshotctl vm start`, `stop` and `restart`."""

from __future__ import annotations

import argparse

from google.longrunning.operations_pb2 import Operation
from google.protobuf.duration_pb2 import Duration

from snapshotd.api.v1 import virtual_machine_pb2 as pb
from snapshotd.client import arguments as read
from snapshotd.client.calls import ExitCode, Server
from snapshotd.client.options import Subcommands, add_request_id, add_wait, answered, request_id, started
from snapshotd.client.plan import describe
from snapshotd.client.resolve import vm_name


def add_to(group: Subcommands) -> None:
    """Declare the commands."""
    start = group.command("start", "start or resume a VM", _start)
    stop = group.command("stop", "stop a VM: its guest is asked to shut down", _stop)
    restart = group.command("restart", "restart a VM: its guest is asked to shut down", _restart)
    for parser in (stop, restart):
        ways = parser.add_mutually_exclusive_group()
        ways.add_argument("--turn-off", action="store_true", help="turn it off at once; guest memory is lost")
        if parser is stop:
            ways.add_argument("--save", action="store_true", help="keep its memory on disk")
            ways.add_argument("--pause", action="store_true", help="let it stand still, in memory")
        ways.add_argument(
            "--shutdown-timeout",
            type=read.seconds_above_zero,
            metavar="S",
            help="turn it off if it is not off after S seconds (default: never)",
        )
        parser.add_argument("--dry-run", action="store_true", help="print the plan, and do nothing")
    for parser in (start, stop, restart):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
        add_request_id(parser)
        add_wait(parser)


def _start(server: Server, arguments: argparse.Namespace) -> ExitCode:
    request = pb.StartVirtualMachineRequest(name=vm_name(server, arguments.vm), request_id=request_id(arguments))
    return started(server, arguments, server.call(server.vms.StartVirtualMachine, request))


def _stop(server: Server, arguments: argparse.Namespace) -> ExitCode:
    modes = pb.StopVirtualMachineRequest
    asked = {modes.TURN_OFF: arguments.turn_off, modes.SAVE: arguments.save, modes.PAUSE: arguments.pause}
    request = pb.StopVirtualMachineRequest(
        name=vm_name(server, arguments.vm),
        mode=next((mode for mode, wanted in asked.items() if wanted), modes.SHUTDOWN),
        shutdown_timeout=_timeout(arguments),
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
    )
    return _answered(server, arguments, server.call(server.vms.StopVirtualMachine, request))


def _restart(server: Server, arguments: argparse.Namespace) -> ExitCode:
    modes = pb.StopVirtualMachineRequest
    request = pb.RestartVirtualMachineRequest(
        name=vm_name(server, arguments.vm),
        mode=modes.TURN_OFF if arguments.turn_off else modes.SHUTDOWN,
        shutdown_timeout=_timeout(arguments),
        request_id=request_id(arguments),
        validate_only=arguments.dry_run,
    )
    return _answered(server, arguments, server.call(server.vms.RestartVirtualMachine, request))


def _timeout(arguments: argparse.Namespace) -> Duration | None:
    """Return the time after which the VM is turned off; None: never."""
    if arguments.shutdown_timeout is None:
        return None
    timeout = Duration()
    timeout.FromNanoseconds(int(arguments.shutdown_timeout * 1e9))
    return timeout


def _answered(server: Server, arguments: argparse.Namespace, operation: Operation) -> ExitCode:
    return answered(server, arguments, operation, lambda plan: describe(plan, arguments.vm, ""))
