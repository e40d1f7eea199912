"""`snapshotctl host take-over` and `snapshotctl vm take-over`: what the commands take."""

from __future__ import annotations

import argparse

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_request_id


def add_to_hosts(group: Subcommands) -> None:
    """Declare the command of hosts."""
    text = "take a host over, from another installation or with a restored log"
    parser = group.command("take-over", text, "take_over_commands.host")
    parser.add_argument("host", type=read.named, metavar="HOST")
    _add_options(parser)


def add_to_vms(group: Subcommands) -> None:
    """Declare the command of VMs."""
    text = "take over a VM whose journal is newer than the log (LOG_ROLLED_BACK)"
    parser = group.command("take-over", text, "take_over_commands.vm")
    parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; kept in the audit trail")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and do nothing")
    add_request_id(parser)
