"""`snapshotctl audit ...` and `snapshotctl status`: what the commands take."""

from __future__ import annotations

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_columns


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    listing = commands.group("audit", "the event log, to read").command(
        "list", "show events, the oldest first", "audit_commands.list_all"
    )
    for flag, text in (
        ("--vm", "of a VM, by name or id"),
        ("--snapshot", "about a snapshot, by name or id; needs --vm, unless it is a full resource name"),
        ("--operation", "of an operation"),
        ("--host", "of a host"),
        ("--caller", "caused by this actor"),
        ("--type", "of this type, e.g. SnapshotCreated"),
        ("--since", "recorded at this time or later, RFC 3339"),
        ("--until", "recorded before this time, RFC 3339"),
    ):
        listing.add_argument(flag, type=read.named, help=text)
    listing.add_argument("--reverse", action="store_true", help="the newest first")
    listing.add_argument("--limit", type=read.positive, metavar="N", help="at most N (default: all)")
    add_columns(listing)
    commands.command("status", "show the state of the service", "audit_commands.status")
