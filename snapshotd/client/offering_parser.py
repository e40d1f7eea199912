"""`snapshotctl vm offering`: what the command takes."""

from __future__ import annotations

from typing import Final

from snapshotd.client import arguments as read
from snapshotd.client import sizes
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait

SWITCH: Final = ("on", "off")


def add_to(group: Subcommands) -> None:
    """Declare the command."""
    parser = group.command(
        "offering",
        "change CPUs and memory of a stopped VM; its snapshots with memory are deleted first",
        "offering_commands.change",
    )
    parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    parser.add_argument("--cpus", type=read.positive, metavar="N", help="virtual processors")
    parser.add_argument("--memory", type=sizes.size, metavar="SIZE", help="memory at its start, e.g. 8GB")
    parser.add_argument("--dynamic-memory", choices=SWITCH, help="give and take memory while it runs")
    parser.add_argument("--minimum", type=sizes.size, metavar="SIZE", help="the least of dynamic memory")
    parser.add_argument("--maximum", type=sizes.size, metavar="SIZE", help="the most of dynamic memory")
    add_plan(parser)
    add_request_id(parser)
    add_wait(parser)
