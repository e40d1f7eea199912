"""What the commands share: their output, and waiting for long work."""

from __future__ import annotations

import argparse
import shlex
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import TypeVar

from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code

from snapshotd.api.v1.operation_pb2 import Plan
from snapshotd.client.calls import Server, info_of
from snapshotd.client.documents import DOCUMENTS, document
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.messages import as_dict, names_of, no_names
from snapshotd.client.outcome import names_from, not_frozen_hint, not_succeeded, succeeded
from snapshotd.client.parser import CONNECTION
from snapshotd.client.progress import wait_for
from snapshotd.client.render import shown
from snapshotd.client.streams import notes

M = TypeVar("M", bound=Message)


def request_id(arguments: argparse.Namespace) -> str:
    """Return the request id that was given, or a new one."""
    return arguments.request_id or str(uuid.uuid4())


def again(arguments: argparse.Namespace, *words: str) -> str:
    """Return a command of this program to type next. It goes to the server that this one was told to call."""
    typed = vars(arguments)
    told = [(f"--{name.replace('_', '-')}", str(typed[name])) for name in CONNECTION if typed.get(name)]
    return shlex.join(["snapshotctl", *words, *(text for option in told for text in option)])


def output(
    arguments: argparse.Namespace,
    message: M,
    text: Callable[[M], str],
    names: Callable[[M], Iterable[str]] = names_of,
) -> ExitCode:
    """Print a message.

    Args:
        arguments: those of the command, with `output`.
        message: the server's answer.
        text: makes the text for people.
        names: tells the resource names in it.
    """
    if arguments.output in DOCUMENTS:
        sys.stdout.write(document(as_dict(message), arguments.output) + "\n")
    elif arguments.output == "name":
        sys.stdout.writelines(f"{name}\n" for name in names(message))
    elif arguments.output == "csv":
        raise Failed("Cannot print this as CSV: it is no list. Use -o json.", ExitCode.USAGE)
    else:
        sys.stdout.write(text(message) + "\n")
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
    if operation.done:
        return ended(server, arguments, operation)
    if not arguments.wait:
        return output(
            arguments,
            operation,
            lambda o: f"{o.name} accepted. To wait: {again(arguments, 'operation', 'wait', o.name)}",
        )
    return waited(server, arguments, operation.name)


def waited(server: Server, arguments: argparse.Namespace, name: str, timeout_s: float | None = None) -> ExitCode:
    """Wait until an operation has ended, and print its result. Raises Failed as `wait_for` and `ended`."""
    command = again(arguments, "operation", "wait", name)
    return ended(server, arguments, wait_for(server, name, timeout_s, notes(arguments.output), again=command))


def answered(
    server: Server, arguments: argparse.Namespace, operation: Operation, text: Callable[[Plan], str], made: str = ""
) -> ExitCode:
    """Print the plan if the call was a dry run; else go on with the operation, as `started` does."""
    if not arguments.dry_run:
        return started(server, arguments, operation, made)
    plan = Plan()
    operation.response.Unpack(plan)
    return output(arguments, plan, text, no_names)


def ended(server: Server, arguments: argparse.Namespace, operation: Operation) -> ExitCode:
    """Print what came of an operation. Raises Failed if it did not succeed, unless the output is a document."""
    if not operation.HasField("error"):
        return output(arguments, operation, lambda o: succeeded(o, names_from(server)))
    if arguments.output in DOCUMENTS:
        output(arguments, operation, str)
        return ExitCode.OPERATION_FAILED
    info, text = info_of(operation.error), shown(operation.error.message)
    not_frozen = info.reason == "FALLBACK_REFUSED" or "production checkpoint" in text.lower()
    raise Failed(
        not_succeeded(operation, names_from(server)),
        ExitCode.OPERATION_FAILED,
        info.reason,
        hint=not_frozen_hint(operation) if not_frozen else "",
        code=Code.Name(operation.error.code) if operation.error.code in Code.values() else "",
        metadata=info.metadata,
    )
