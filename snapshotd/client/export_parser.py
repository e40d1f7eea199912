"""`snapshotctl vm export`: what the command takes."""

from __future__ import annotations

from typing import Final

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands, add_plan, add_request_id, add_wait

POLICIES: Final = ("default", "never", "on-stop", "on-snapshot")
"""Those of the API; a test compares them. default: as the server's settings say."""


def add_to(group: Subcommands) -> None:
    """Declare the command."""
    parser = group.command(
        "export", "export a VM with its snapshots into a folder of its own", "export_commands.export"
    )
    parser.add_argument("vm", type=read.named, metavar="VM", help="name or id")
    parser.add_argument(
        "--to",
        type=read.named,
        dest="directory",
        metavar="FOLDER",
        help="the folder that gets it, as the host sees it (default: export.directory of the server's settings)",
    )
    add_plan(parser)
    add_request_id(parser)
    add_wait(parser)
