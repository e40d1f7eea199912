"""What the commands share: their declaration, their output, and waiting for long work."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Callable
from typing import Any, Final, TypeVar

from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message

from snapshotd.api.v1.operation_pb2 import Plan
from snapshotd.client import arguments as read
from snapshotd.client.calls import ExitCode, Failed, Server, reason_of
from snapshotd.client.outcome import names_from, not_succeeded, succeeded
from snapshotd.client.progress import wait_for
from snapshotd.client.render import as_json, shown

M = TypeVar("M", bound=Message)
_FALLBACK_HINT: Final = (
    "`snapshot create --allow-fallback` keeps a snapshot with memory if the guest cannot be frozen; "
    "`--memory` asks for one."
)

Run = Callable[[Server, argparse.Namespace], ExitCode]


class Subcommands:
    """The commands below a parser. The parsed arguments hold the command's function as `run`, and its `parser`."""

    def __init__(self, parser: argparse.ArgumentParser, common: argparse.ArgumentParser, metavar: str) -> None:
        """Add to a parser; each command takes the common options too."""
        self._common = common
        # The type of argparse for this is private.
        self._subparsers: Any = parser.add_subparsers(required=True, metavar=metavar)

    def group(self, name: str, text: str) -> Subcommands:
        """Add a group of commands."""
        parser = self._subparsers.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[self._common]
        )
        return Subcommands(parser, self._common, "COMMAND")

    def command(self, name: str, text: str, run: Run) -> argparse.ArgumentParser:
        """Add a command."""
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[self._common]
        )
        parser.set_defaults(run=run, parser=parser)
        return parser


def add_request_id(parser: argparse.ArgumentParser) -> None:
    """Declare --request-id, for a command that changes something. It is None if it was not given."""
    parser.add_argument(
        "--request-id",
        type=read.uuid,
        metavar="UUID",
        help="repeat a request safely: the same id gets the first answer again (default: a new one)",
    )


def request_id(arguments: argparse.Namespace) -> str:
    """Return the request id that was given, or a new one."""
    return arguments.request_id or str(uuid.uuid4())


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Declare --wait."""
    parser.add_argument("--wait", action="store_true", help="wait until it has ended, and show the progress")


def output(arguments: argparse.Namespace, message: M, text: Callable[[M], str]) -> ExitCode:
    """Print a message: as JSON, or as text for people."""
    sys.stdout.write((as_json(message) if arguments.output == "json" else text(message)) + "\n")
    return ExitCode.OK


def started(server: Server, arguments: argparse.Namespace, operation: Operation, made: str = "") -> ExitCode:
    """Print an accepted operation; with --wait, only after it has ended.

    Args:
        server: the server that runs it.
        arguments: those of the command.
        operation: the server's answer.
        made: the name of what it makes, for people; empty if the user named it.
    """
    if arguments.output == "table" and made:
        sys.stdout.write(f"{made}\n")
        sys.stdout.flush()
    if not arguments.wait:
        return output(
            arguments, operation, lambda o: f"{o.name} accepted. To wait: snapshotctl operation wait {o.name}"
        )
    return ended(server, arguments, wait_for(server, operation.name, None))


def answered(
    server: Server, arguments: argparse.Namespace, operation: Operation, text: Callable[[Plan], str], made: str = ""
) -> ExitCode:
    """Print the plan if the call was a dry run; else go on with the operation, as `started` does."""
    if not arguments.dry_run:
        return started(server, arguments, operation, made)
    plan = Plan()
    operation.response.Unpack(plan)
    return output(arguments, plan, text)


def ended(server: Server, arguments: argparse.Namespace, operation: Operation) -> ExitCode:
    """Print what came of an operation. Raises Failed if it did not succeed, unless the output is JSON."""
    if not operation.HasField("error"):
        return output(arguments, operation, lambda o: succeeded(o, names_from(server)))
    if arguments.output == "json":
        output(arguments, operation, str)
        return ExitCode.OPERATION_FAILED
    reason, text = reason_of(operation.error), shown(operation.error.message)
    not_frozen = reason == "FALLBACK_REFUSED" or "production checkpoint" in text.lower()
    raise Failed(
        not_succeeded(operation, names_from(server)),
        ExitCode.OPERATION_FAILED,
        reason,
        hint=_FALLBACK_HINT if not_frozen else "",
    )
