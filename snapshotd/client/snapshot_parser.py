"""`snapshotctl snapshot ...`: what the commands take."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client import decision_parser, deletion_parser, revert_parser
from snapshotd.client.label_parser import add_expiry, add_label_filter, add_labels
from snapshotd.client.parser import Subcommands, add_at, add_columns, add_plan, add_request_id, add_wait


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("snapshot", "snapshots of VMs")
    create = group.command("create", "take a snapshot", "snapshot_commands.create")
    listing = group.command("list", "show a VM's snapshots", "snapshot_commands.list_all")
    tree = group.command("tree", "draw a VM's snapshots as a tree", "snapshot_commands.draw_tree")
    show = group.command("show", "show a snapshot", "snapshot_commands.show")
    for parser in (create, listing, tree, show):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    show.add_argument("snapshot", type=read.named, metavar="SNAPSHOT", help="name or id")
    create.add_argument("--name", type=read.named, metavar="NAME", help="its name (default: <vm>_VS_<time>)")
    create.add_argument("--description", metavar="TEXT")
    kinds = create.add_mutually_exclusive_group()
    kinds.add_argument("--memory", action="store_true", help="take the memory too; the VM must be running")
    kinds.add_argument("--allow-fallback", action="store_true", help="keep one with memory if disks cannot be frozen")
    add_labels(create)
    add_expiry(create)
    listing.add_argument("--deleted", action="store_true", help="show deleted ones too")
    add_label_filter(listing)
    add_columns(listing)
    decision_parser.add_to(group)
    moments = tree.add_mutually_exclusive_group()
    moments.add_argument("--watch", action="store_true", help="show it anew after each change, until Ctrl-C")
    add_at(moments)
    tree.add_argument("--ascii", action="store_true", help="draw without box characters")
    revert_parser.add_to(group)
    deletion_parser.add_to(group)
    add_plan(create)
    add_request_id(create)
    add_wait(create)
