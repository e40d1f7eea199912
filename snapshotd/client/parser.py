"""What the declarations of the commands share.

What a command takes is declared in `*_parser.py`. What it does is in `*_commands.py`, imported when it runs. So help,
completion and errors of usage come at once: the declarations import neither gRPC nor protobuf.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from snapshotd.client import arguments as read
from snapshotd.client.failure import ExitCode, Failed

OUTPUTS: Final = ("table", "json", "jsonl", "yaml", "csv", "name")
"""The output formats."""
CONNECTION: Final = ("context", "server", "ca", "token_file", "certificate", "key", "server_name")
"""The options that say which server is called, and how. The rest is in connection.py."""
_PACKAGE: Final = "snapshotd.client"


class Misused(Failed):
    """The command line is wrong. Text output shows the usage of the command above the error."""

    def __init__(self, usage: str, program: str, message: str) -> None:
        super().__init__(message, ExitCode.USAGE)
        self._whole = f"{usage}{program}: error: {message}"

    @property
    def whole(self) -> str:
        """As argparse has it."""
        return self._whole


class ShortUsage(argparse.HelpFormatter):
    """argparse's, with a usage that names only what is the command's own."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """Add the usage without the options that every command takes: they are told last, in a group of their own."""
        own = [action for action in actions if not _SHARED.intersection(action.option_strings)]
        super().add_usage(usage, own, groups, prefix)


class Parser(argparse.ArgumentParser):
    """argparse's, with errors as exceptions."""

    def entitle_commands(self) -> None:
        """Have the help call the commands below this parser so, and not positional arguments."""
        self._positionals.title = "commands"

    def error(self, message: str) -> NoReturn:
        """Raise Misused."""
        raise Misused(self.format_usage(), self.prog, message)


class Subcommands:
    """The commands below a parser. The parsed arguments hold the name of the command's function as `run`."""

    def __init__(self, parser: Parser, common: Parser, metavar: str) -> None:
        """Add to a parser; each command takes the common options too."""
        self._common = common
        parser.entitle_commands()
        # The type of argparse for this is private.
        self._subparsers: Any = parser.add_subparsers(required=True, metavar=metavar)

    def group(self, name: str, text: str) -> Subcommands:
        """Add a group of commands."""
        return Subcommands(self._parser(name, text), self._common, "COMMAND")

    def command(self, name: str, text: str, run: str, *, calls: bool = True) -> Parser:
        """Add a command.

        Args:
            name: its name.
            text: what it does.
            run: its function, as "module.function" of this package.
            calls: it calls the server. Otherwise its function gets None for that.
        """
        parser = self._parser(name, text)
        parser.set_defaults(run=run, parser=parser, calls=calls)
        return parser

    def _parser(self, name: str, text: str) -> Parser:
        described = text[0].upper() + text[1:] + "."
        parser: Parser = self._subparsers.add_parser(
            name, help=text, description=described, parents=[self._common], formatter_class=ShortUsage
        )
        return parser


def function_of(run: str) -> Callable[[Any, argparse.Namespace], int]:
    """Import and return the function of a command, which takes the server and the parsed arguments."""
    module, _, function = run.partition(".")
    found: Callable[[Any, argparse.Namespace], int] = getattr(import_module(f"{_PACKAGE}.{module}"), function)
    return found


def common_options() -> Parser:
    """Declare the options that may stand before or after a command. One that is not given leaves the value as it is."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every command, before it or after it")
    group.add_argument(
        "--server",
        type=read.server,
        metavar="HOST:PORT|unix:PATH",
        help="address of the service, e.g. unix:/run/snapshotd.sock (default: $SNAPSHOTD_SERVER, the current "
        "context's, or 127.0.0.1:7443)",
    )
    group.add_argument(
        "--context",
        type=read.named,
        metavar="NAME",
        help="server and sign-in by a name of `context set` (default: $SNAPSHOTD_CONTEXT, or the current one)",
    )
    group.add_argument(
        "--ca", type=read.file, metavar="FILE", help="connect by TLS; certificate of who issued the server's (PEM)"
    )
    group.add_argument(
        "--token-file",
        type=read.file,
        metavar="FILE",
        help="sign in by the token in a file (default: $SNAPSHOTD_TOKEN)",
    )
    group.add_argument("--certificate", type=read.file, metavar="FILE", help="sign in by a certificate (PEM)")
    group.add_argument("--key", type=read.file, metavar="FILE", help="private key of the certificate (PEM)")
    group.add_argument(
        "--server-name", type=read.named, metavar="NAME", help="name in the server's certificate, if it is another one"
    )
    group.add_argument(
        "--as",
        dest="acting_as",
        type=read.actor,
        metavar="NAME",
        help="who you are, for the audit trail (default: $SNAPSHOTD_ACTOR, or your account)",
    )
    group.add_argument(
        "--on-behalf-of",
        type=read.actor,
        metavar="NAME",
        help="for whom you act, for the audit trail; with sign-in, it takes the role delegate",
    )
    group.add_argument(
        "--timeout", type=read.seconds_above_zero, metavar="S", help="time limit of each call, in seconds (default: 90)"
    )
    group.add_argument(
        "-o",
        "--output",
        choices=OUTPUTS,
        help="output format; jsonl: a list, one entry a line; csv: a list with all its columns; name: resource names, "
        "one a line (default: table)",
    )
    group.add_argument("--utc", action="store_true", help="show times in UTC (default: in the local zone)")
    group.add_argument("--full-ids", action="store_true", help="show ids whole in tables, too")
    return common


_SHARED: Final = frozenset(string for action in common_options()._actions for string in action.option_strings)  # noqa: SLF001
"""The options that every command takes."""


def output_of(arguments: Sequence[str]) -> str:
    """Return the output format that a command line asks for, be it right otherwise or not."""
    parser = Parser(add_help=False)
    parser.add_argument("-o", "--output", default="table")
    try:
        return str(parser.parse_known_args(arguments)[0].output)
    except Misused:
        return "table"


def add_request_id(parser: argparse.ArgumentParser) -> None:
    """Declare --request-id, for a command that changes something. It is None if it was not given."""
    parser.add_argument(
        "--request-id",
        type=read.uuid,
        metavar="UUID",
        help="repeat a request safely: the same id gets the first answer again (default: a new one)",
    )


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Declare --dry-run and --expect, for a command that has a plan."""
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and do nothing")
    parser.add_argument(
        "--expect",
        type=read.etag,
        metavar="ETAG",
        help="do just what the plan of this etag says (--dry-run prints it), or nothing",
    )


def add_at(parser: argparse._ActionsContainer) -> None:
    """Declare --at, for what can be shown as it was. It is None if it was not given."""
    parser.add_argument(
        "--at",
        type=read.named,
        metavar="T",
        help="as it was at a time (RFC 3339, or 2h for two hours ago) or at a version of the VM, by the event log",
    )


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Declare --columns, for a list. It is None if it was not given."""
    parser.add_argument(
        "--columns", type=read.names, metavar="A,B", help="show these columns, in this order (default: the usual ones)"
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Declare --wait."""
    parser.add_argument("--wait", action="store_true", help="wait until it has ended, and show the progress")
