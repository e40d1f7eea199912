"""`snapshotctl snapshot revert` and `undo-revert`: what the commands take."""

from __future__ import annotations

from typing import Final

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait

POWERS: Final = ("as-before", "as-snapshot", "running")
"""Those of the API; a test compares them."""


def add_to(group: Subcommands) -> None:
    """Declare the commands."""
    revert = group.command("revert", "bring a VM back to a snapshot", "revert_commands.revert")
    undo = group.command("undo-revert", "bring a VM back to what it was before its last revert", "revert_commands.undo")
    for parser in (revert, undo):
        parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    revert.add_argument("snapshot", type=read.named, metavar="SNAPSHOT", help="name or id")
    for parser in (revert, undo):
        parser.add_argument(
            "--power-after",
            choices=POWERS,
            default="as-snapshot",
            help="the VM's power afterwards (default: running for one with memory, else stopped)",
        )
        parser.add_argument("--refuse-power-change", action="store_true", help="refuse if the power state would change")
        parser.add_argument(
            "--safety-snapshot", action="store_true", help="take a snapshot first; undo-revert goes back to it"
        )
        parser.add_argument(
            "--safety-snapshot-name",
            type=read.named,
            metavar="NAME",
            help="take one of this name (default: before-revert-<snapshot>)",
        )
        parser.add_argument(
            "--require-memory", action="store_true", help="fail rather than start it without the snapshot's memory"
        )
        add_plan(parser)
        add_request_id(parser)
        add_wait(parser)
