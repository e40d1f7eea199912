"""`snapshotctl volume-snapshot ...`: what the commands take."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_columns, add_plan, add_request_id, add_wait


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("volume-snapshot", "copies of single disks of VMs")
    take = group.command("take", "copy one disk of a VM, as it is now, to a file", "volume_snapshot_commands.take")
    listing = group.command("list", "show the copies of disks of a VM, or of all", "volume_snapshot_commands.list_all")
    show = group.command("show", "show the copy of a disk", "volume_snapshot_commands.show")
    delete = group.command("delete", "delete the copy of a disk, with its file", "volume_snapshot_commands.delete")
    for parser in (take, show, delete):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    listing.add_argument("vm", type=read.named, nargs="?", metavar="VM", help="name or id (default: all VMs)")
    take.add_argument("place", type=read.place, metavar="PLACE", help="where the disk is attached, e.g. SCSI:0:1")
    take.add_argument("--name", type=read.named, metavar="NAME", help="its name")
    take.add_argument(
        "--allow-fallback",
        action="store_true",
        help="if the guest of a running VM cannot be frozen, copy what a power cut would leave",
    )
    for parser in (show, delete):
        parser.add_argument("volume_snapshot", type=read.named, metavar="VOLUME_SNAPSHOT", help="name or id")
    listing.add_argument("--deleted", action="store_true", help="show deleted ones too")
    listing.add_argument("--filter", metavar="TEXT", default="", help="""only those, e.g. 'state = "READY"'""")
    add_columns(listing)
    for parser in (take, delete):
        add_plan(parser)
        add_request_id(parser)
        add_wait(parser)
