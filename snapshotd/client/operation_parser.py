"""`snapshotctl operation ...`: what the commands take."""

from __future__ import annotations

from typing import Final

from snapshotd.client import arguments as read
from snapshotd.client.parser import Parser, Subcommands, add_columns, add_request_id

OUTCOMES: Final = ("took-effect", "no-effect", "given-up")
"""Those of the API; a test compares them."""


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("operation", "long work: show it, wait for it, cancel it, settle it")
    _add_list(group)
    show = group.command("show", "show an operation with its steps", "operation_commands.show")
    wait = group.command("wait", "wait until an operation has ended", "operation_commands.wait")
    wait.add_argument("--for", dest="seconds", type=read.seconds, metavar="S", help="wait at most S seconds")
    cancel = group.command("cancel", "end an operation as soon as that is safe", "operation_commands.cancel")
    settle = group.command(
        "settle", "say what became of an operation whose host will never tell", "operation_commands.settle"
    )
    for parser in (show, wait, cancel, settle):
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "operation", type=read.named, nargs="?", metavar="OPERATION", help="its name, or the tag at the name's end"
        )
        which.add_argument("--last", action="store_true", help="the last operation that you have requested")
        which.add_argument("--vm", type=read.named, help="what is active on a VM, by name or id")
    _add_outcome(settle)


def _add_list(group: Subcommands) -> None:
    listing = group.command("list", "show operations, the newest first", "operation_commands.list_all")
    listing.add_argument("--vm", type=read.named, help="only those of a VM, by name or id")
    state = listing.add_mutually_exclusive_group()
    state.add_argument("--active", action="store_true", help="only those that have not ended")
    state.add_argument("--failed", action="store_true", help="only those that failed, with when and why")
    listing.add_argument(
        "--since",
        type=read.named,
        metavar="1h|TIME",
        help="only those requested since; with --failed: that failed since",
    )
    listing.add_argument(
        "--limit", type=read.positive, default=50, metavar="N", help="at most N (default: %(default)s)"
    )
    listing.add_argument(
        "--watch", action="store_true", help="show them, and again what changes, as it comes, until Ctrl-C"
    )
    add_columns(listing)


def _add_outcome(settle: Parser) -> None:
    settle.add_argument(
        "outcome",
        choices=OUTCOMES,
        help="took-effect: the operation goes on; no-effect: its step failed; given-up: nobody knows, and it ends",
    )
    settle.add_argument("--reason", type=read.named, required=True, metavar="TEXT", help="why, for the audit trail")
    add_request_id(settle)
