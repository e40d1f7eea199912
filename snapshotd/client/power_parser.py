"""`snapshotctl vm start`, `stop` and `restart`: what the commands take."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait


def add_to(group: Subcommands) -> None:
    """Declare the commands."""
    start = group.command("start", "start or resume a VM", "power_commands.start")
    stop = group.command("stop", "stop a VM: its guest is asked to shut down", "power_commands.stop")
    restart = group.command("restart", "restart a VM: its guest is asked to shut down", "power_commands.restart")
    start.add_argument(
        "--host",
        type=read.named,
        metavar="HOST",
        help="where to start one that was released from its host by an export",
    )
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
    for parser in (start, stop, restart):
        add_plan(parser)
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
        add_request_id(parser)
        add_wait(parser)
