"""Waiting for an operation: a bar on a terminal, plain lines elsewhere, and why it waits when it does."""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

from google.longrunning.operations_pb2 import Operation, WaitOperationRequest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.client.calls import ExitCode, Failed, Server
from snapshotd.client.render import shown

_LOOK_S: Final = 1.0


def metadata_of(operation: Operation) -> OperationMetadata:
    """Return what an operation tells of itself."""
    metadata = OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def wait_for(server: Server, name: str, timeout_s: float | None, out: TextIO | None = None) -> Operation:
    """Wait until an operation has ended, showing how far it is on `out` (stderr). Raises Failed when the time is up."""
    out = out or sys.stderr
    console = Console(file=out)
    until = None if timeout_s is None else time.monotonic() + timeout_s
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            bar = progress.add_task("waiting", total=100)
            said = ""
            while True:
                left_s = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
                request = WaitOperationRequest(name=name)
                request.timeout.FromNanoseconds(int(max(0.0, left_s) * 1e9))
                operation = server.call(server.operations.WaitOperation, request, timeout_s=server.timeout_s + _LOOK_S)
                metadata = metadata_of(operation)
                text = _where(metadata)
                progress.update(bar, completed=metadata.percent, description=text)
                if not console.is_terminal and text != said:
                    out.write(f"{name}: {text}\n")
                    out.flush()
                    said = text
                if operation.done:
                    return operation
                if until is not None and time.monotonic() >= until:
                    raise Failed(
                        f"{name} has not ended yet ({text}). It goes on; wait again:\n{_again(name)}",
                        ExitCode.TIMED_OUT,
                    )
    except KeyboardInterrupt:
        raise Failed(f"{name} goes on without you. To wait again:\n{_again(name)}", ExitCode.INTERRUPTED) from None


def outcome(operation: Operation) -> ExitCode:
    """Return what a waited-for operation's end means for the exit code."""
    return ExitCode.OPERATION_FAILED if operation.HasField("error") else ExitCode.OK


def _again(name: str) -> str:
    return f"  snapshotctl operation wait {name}"


def _where(metadata: OperationMetadata) -> str:
    """Say in a line how far an operation is."""
    state = OperationMetadata.State.Name(metadata.state)
    text = state
    if metadata.current_step:
        text = f"{state} step {metadata.current_step_number}/{metadata.step_count} {metadata.current_step}"
    if metadata.HasField("wait"):
        text += f" (waits: {metadata.wait.reason}: {shown(metadata.wait.message)})"
    return text
