"""`snapshotctl completion`: what the command takes."""

from __future__ import annotations

from snapshotd.client.completion import SHELLS
from snapshotd.client.parser import Subcommands


def add_to(commands: Subcommands) -> None:
    """Declare the command."""
    completion = commands.command(
        "completion", "print the tab completion for a shell", "completion.script", calls=False
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell; the script's first line tells where to put it")
