"""`snapshotctl context ...`: what the commands take. What a context holds is given by the common options."""

from __future__ import annotations

from argparse import SUPPRESS

from snapshotd.client import arguments as read
from snapshotd.client.parser import Subcommands


def add_to(commands: Subcommands) -> None:
    """Declare the commands."""
    group = commands.group("context", "servers by name, each with what it takes to sign in")
    group.command("list", "list the contexts; * marks the current one", "context_commands.list_all", calls=False)
    use = group.command("use", "make a context the current one", "context_commands.use", calls=False)
    show = group.command("show", "show a context (default: the current one)", "context_commands.show", calls=False)
    change = group.command(
        "set",
        "make or change a context: --server, --ca, --token-file, --certificate, --key, --server-name",
        "context_commands.change",
        calls=False,
    )
    remove = group.command(
        "remove", "remove a context; the files that it names stay", "context_commands.remove", calls=False
    )
    for command in (use, change, remove):
        command.add_argument("context", type=read.named, metavar="NAME", help="name of the context")
    text = "name of the context (default: the current one)"
    show.add_argument("context", type=read.named, metavar="NAME", nargs="?", default=SUPPRESS, help=text)
