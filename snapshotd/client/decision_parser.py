"""`snapshotctl snapshot ...`: what the commands take by which a person decides about a snapshot."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_request_id


def add_to(group: Subcommands) -> None:
    """Declare the commands below `snapshot`."""
    hold = group.command("hold", "keep a snapshot from being deleted by anyone", "snapshot_decisions.hold")
    release = group.command("release", "allow again that a snapshot is deleted", "snapshot_decisions.release")
    for parser in (hold, release):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
        parser.add_argument("snapshot", type=read.named, metavar="SNAPSHOT", help="name or id")
        add_request_id(parser)
    hold.add_argument("--reason", metavar="TEXT", help="why, for those who would delete it")
