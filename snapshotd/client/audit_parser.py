"""`snapshotctl audit ...` and `snapshotctl status`: what the commands take."""

from __future__ import annotations

import argparse

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_columns


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("audit", "the event log, to read")
    listing = group.command("list", "show events, the oldest first", "audit_commands.list_all")
    tail = group.command("tail", "show the last events, and each new one as it comes", "audit_commands.tail")
    for parser in (listing, tail):
        parser.add_argument("--vm", type=read.named, help="of a VM, also one that was unregistered, by name or id")
        _add_repeated(parser, "--actor", "NAME", "caused by this actor; repeat it for several")
        _add_repeated(parser, "--type", "TYPE", "of this type, e.g. SnapshotCreated; repeat it for several")
        add_columns(parser)
    for flag, text in (
        ("--snapshot", "about a snapshot, also a deleted one, by name or id; needs --vm, unless it is a full name"),
        ("--operation", "of an operation"),
        ("--host", "of a host"),
        ("--since", "recorded at this time or later: RFC 3339, or 2h for two hours ago"),
        ("--until", "recorded before this time"),
    ):
        listing.add_argument(flag, type=read.named, help=text)
    listing.add_argument("--reverse", action="store_true", help="the newest first")
    listing.add_argument("--limit", type=read.positive, metavar="N", help="at most N (default: all)")
    begin = tail.add_mutually_exclusive_group()
    begin.add_argument(
        "--last", type=read.count, default=10, metavar="N", help="begin with the last N (default: %(default)s)"
    )
    begin.add_argument("--after", type=read.count, metavar="POSITION", help="begin after a position of the log; 0: all")
    diff = group.command("diff", "show how a VM differs between two times or versions", "audit_diff.diff")
    diff.add_argument("vm", type=read.named, metavar="VM", help="name or id, also of one that was unregistered")
    moment = "a time (RFC 3339, or 2h for two hours ago), or a version of the VM"
    diff.add_argument("--from", dest="begin", type=read.named, required=True, metavar="T", help=moment)
    diff.add_argument("--to", dest="end", type=read.named, default="now", metavar="T", help=f"{moment} (default: now)")
    status = commands.command("status", "show the state of the service", "status_commands.status")
    status.add_argument("--watch", action="store_true", help="show it anew as it changes, until Ctrl-C")


def _add_repeated(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str) -> None:
    parser.add_argument(flag, type=read.named, action="append", default=[], metavar=metavar, help=text)
