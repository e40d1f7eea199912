"""Trees and lists of operations that are shown again after each change, until they are interrupted."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NoReturn

from google.longrunning.operations_pb2 import Operation
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1.operation_pb2 import WatchOperationsRequest
from snapshotd.api.v1.operation_pb2_grpc import OperationServiceStub
from snapshotd.api.v1.snapshot_pb2 import SnapshotTree, WatchSnapshotTreeRequest
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.following import follow
from snapshotd.client.pages import Stream
from snapshotd.client.progress import metadata_of
from snapshotd.client.screen import Screen


def watch_tree(
    server: Server, arguments: argparse.Namespace, vm: str, text: Callable[[SnapshotTree, datetime | None], str]
) -> NoReturn:
    """Show a VM's tree, and again after each change.

    Args:
        server: the server to ask.
        arguments: those of the command.
        vm: resource name of the VM.
        text: draws the tree for people, with ages as of a time; None for the present.
    """
    if arguments.output == "csv":
        raise Failed("Cannot print a tree as CSV: it is no list. Use -o json.", ExitCode.USAGE)
    screen, stream = Screen(), Stream(arguments, [], lambda _: ())
    told, drawn, begun = SnapshotTree(), "", datetime.now(UTC)
    request = WatchSnapshotTreeRequest(name=vm)
    for tree in follow(server, lambda channel: SnapshotServiceStub(channel).WatchSnapshotTree, lambda: request):
        shown = SnapshotTree()
        shown.CopyFrom(tree)
        for field in ("version", "observe_time", "update_time"):
            shown.ClearField(field)
        if shown != told:  # a server that is back begins with the tree as it is
            told = shown
            if arguments.output != "table":
                stream.print(tree)
                continue
            # What changed may be nothing that is drawn. Its age alone makes no other tree of it.
            before, drawn = drawn, text(tree, begun)
            if screen.redraws or drawn != before:
                screen.show(text(tree, None))
    raise AssertionError("a watch has no end")


def watch_operations(
    server: Server,
    arguments: argparse.Namespace,
    condition: str,
    stream: Stream,
    text: Callable[[Sequence[Operation]], str],
) -> NoReturn:
    """Show operations, and each again when it has changed.

    Args:
        server: the server to ask.
        arguments: those of the command, with `limit`.
        condition: a filter.
        stream: prints one of them, where a terminal does not redraw them all.
        text: draws all that are shown, for people.
    """
    screen = Screen()
    redraws = screen.redraws and arguments.output == "table"
    known: dict[str, Operation] = {}
    request = WatchOperationsRequest(filter=condition)
    for answer in follow(server, lambda channel: OperationServiceStub(channel).WatchOperations, lambda: request):
        operation = answer.operation
        news = bool(operation.name) and known.get(operation.name) != operation
        if news:
            known[operation.name] = operation
            for forgotten in sorted(known, key=lambda name: _asked(known[name]), reverse=True)[arguments.limit :]:
                del known[forgotten]
        if redraws:
            if answer.complete:
                screen.show(text(sorted(known.values(), key=_asked, reverse=True)))
        elif news and operation.name in known:
            stream.print(operation)
    raise AssertionError("a watch has no end")


def since(operations: Sequence[Operation]) -> str:
    """Return the filter that leaves out what is older than these operations; empty if there are none."""
    times = [metadata_of(operation).create_time for operation in operations]
    oldest = min(times, key=Timestamp.ToNanoseconds, default=None)
    return f'create_time >= "{oldest.ToJsonString()}"' if oldest else ""


def _asked(operation: Operation) -> tuple[int, str]:
    """Return the place of an operation in the order of requests."""
    return metadata_of(operation).create_time.ToNanoseconds(), operation.name
