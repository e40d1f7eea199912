"""`snapshotctl vm destroy`: what the command takes."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait


def add_to(group: Subcommands) -> None:
    """Declare the command."""
    text = "remove a VM from its host, with all its snapshots; its disks stay, unless they are to go too"
    parser = group.command("destroy", text, "destroy_commands.destroy")
    parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    parser.add_argument("--delete-disks", action="store_true", help="delete its disks too")
    parser.add_argument(
        "--lose-checkpoint",
        action="append",
        default=[],
        type=read.named,
        dest="foreign_checkpoints",
        metavar="CHECKPOINT",
        help="a checkpoint that is not ours and may be lost, by its name or id; may be repeated",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_plan(parser)
    add_request_id(parser)
    add_wait(parser)
