"""`snapshotctl snapshot delete` and `delete-all`: what the commands take."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait


def add_to(group: Subcommands) -> None:
    """Declare the commands."""
    delete = group.command(
        "delete", "delete a snapshot; its children stay, unless told otherwise", "deletion_commands.delete"
    )
    delete_all = group.command(
        "delete-all", "delete all snapshots of a VM, or those with memory", "deletion_commands.delete_all"
    )
    for parser in (delete, delete_all):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    delete.add_argument("snapshot", type=read.named, metavar="SNAPSHOT", help="name or id")
    scopes = delete.add_mutually_exclusive_group()
    scopes.add_argument("--with-descendants", action="store_true", help="and all snapshots below it, leaves first")
    scopes.add_argument("--only-descendants", action="store_true", help="only the snapshots below it; it stays")
    delete_all.add_argument("--with-memory", action="store_true", help="only those that hold memory")
    for parser in (delete, delete_all):
        add_plan(parser)
        add_request_id(parser)
        add_wait(parser)
