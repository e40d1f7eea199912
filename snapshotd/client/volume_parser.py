"""`snapshotctl vm attach`, `detach` and `resize`: what the commands take."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client import sizes
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait


def add_to(group: Subcommands) -> None:
    """Declare the commands."""
    attach = group.command("attach", "attach a disk: a file that is there, or a new one", "volume_commands.attach")
    detach = group.command("detach", "detach a disk; its file stays", "volume_commands.detach")
    resize = group.command("resize", "make a disk larger, or smaller", "volume_commands.resize")
    for parser in (attach, detach, resize):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    attach.add_argument("path", type=read.named, metavar="PATH", help="the file, as the VM's host sees it")
    attach.add_argument("--new", type=sizes.size, metavar="SIZE", help="make the file: an empty disk of that size")
    attach.add_argument(
        "--at", type=read.place, metavar="PLACE", dest="free_place", help="where (default: the first free SCSI place)"
    )
    for parser in (detach, resize):
        parser.add_argument("place", type=read.place, metavar="PLACE", help="where it is attached, e.g. SCSI:0:1")
    resize.add_argument("size", type=sizes.size, metavar="SIZE", help="what the guest sees, e.g. 20GB")
    resize.add_argument("--allow-shrink", action="store_true", help="allow that it becomes smaller")
    for parser in (attach, detach, resize):
        add_plan(parser)
        add_request_id(parser)
        add_wait(parser)
