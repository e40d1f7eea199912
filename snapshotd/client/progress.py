"""Waiting for an operation. Progress is a bar on a terminal and lines elsewhere, with what the operation waits for.

Waiting outlasts a restart of the server: the operation is in its log, and goes on when it is back.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self, TextIO

from google.longrunning.operations_pb2 import Operation, WaitOperationRequest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import cut, shown

_LOOK_S: Final = 1.0
_BAR: Final = 20
"""Columns of the bar; half as many on a terminal narrower than _NARROW."""
_NARROW: Final = 60
_PERCENT_AND_TIME: Final = len(" 100% 10:00:00 ")
AWAY_S: Final = 120.0
"""How long a server may be away before the wait ends: enough for a restart that replays a long log."""
_NOTHING_YET: Final = "its state is not known yet"
_AWAY: Final = (ExitCode.UNAVAILABLE, ExitCode.TIMED_OUT)
"""Errors that tell nothing about the operation. After any other one, it may not even exist."""
_PASSES: Final = frozenset({"", "VIEW_BEHIND"})
"""Reasons of an UNAVAILABLE that pass: there is no server, or its views have not caught up."""


def metadata_of(operation: Operation) -> OperationMetadata:
    """Return the metadata of an operation."""
    metadata = OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def wait_for(
    server: Server,
    name: str,
    timeout_s: float | None,
    out: TextIO | None = None,
    away_s: float = AWAY_S,
    *,
    again: str = "",
) -> Operation:
    """Wait until an operation has ended, and show its progress. Raises Failed if the time is up or the server is gone.

    Args:
        server: the server that runs it.
        name: the name of the operation; it is shown first.
        timeout_s: how long to wait; None for as long as it takes.
        out: where the progress is shown; None for stderr.
        away_s: how long the server may be away meanwhile.
        again: the command that waits again; empty: the one without options.
    """
    goes_on = f"{name} goes on. To wait again:\n  {again or f'snapshotctl operation wait {name}'}"
    out = out or sys.stderr
    out.write(f"Waiting for {name}\n")
    out.flush()
    until = None if timeout_s is None else server.clock() + timeout_s
    away_since: float | None = None
    text = _NOTHING_YET
    try:
        with Shown(out) as shown_on:
            while True:
                now = server.clock()
                left_s = _LOOK_S if until is None else max(0.0, min(_LOOK_S, until - now))
                try:
                    operation = _look(server, name, left_s)
                except Failed as failed:
                    away_since = now if away_since is None else away_since
                    if not _passes(failed) or now - away_since >= away_s:
                        if text != _NOTHING_YET or failed.exit_code in _AWAY:
                            failed.hint = goes_on
                        raise
                    shown_on.say(f"no answer from {server.address}; retrying for up to {away_s:.0f} s")
                    server.pause(left_s)
                else:
                    away_since = None
                    metadata = metadata_of(operation)
                    text = _where(metadata)
                    shown_on.say(text, metadata.percent)
                    if operation.done:
                        return operation
                if until is not None and server.clock() >= until:
                    raise Failed(f"Cannot wait longer for {name} ({text}).", ExitCode.TIMED_OUT, hint=goes_on)
    except KeyboardInterrupt:
        raise Failed(goes_on, ExitCode.INTERRUPTED) from None


class Shown(AbstractContextManager["Shown"]):
    """The display of an operation's progress."""

    def __init__(self, out: TextIO) -> None:
        console = Console(file=out)
        live = console.is_terminal and not console.is_dumb_terminal
        bar = _BAR if console.width >= _NARROW else _BAR // 2
        columns = (
            BarColumn(bar_width=bar),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        # A longer text would push the bar out of the line, or wrap.
        self._room = console.width - bar - _PERCENT_AND_TIME
        self._out = None if live else out
        self._progress = Progress(*columns, console=console, disable=not live, transient=True)
        self._bar = self._progress.add_task("waiting", total=100)
        self._said = ""

    def say(self, text: str, percent: int | None = None) -> None:
        """Show a text, and the progress if it is known."""
        self._progress.update(self._bar, completed=percent, description=cut(text, self._room))
        if self._out is not None and text != self._said:
            self._out.write(f"{text}\n")
            self._out.flush()
            self._said = text

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()


def _look(server: Server, name: str, wait_s: float) -> Operation:
    request = WaitOperationRequest(name=name)
    request.timeout.FromNanoseconds(int(wait_s * 1e9))
    return server.call(server.operations.WaitOperation, request, timeout_s=server.timeout_s + _LOOK_S)


def _passes(failed: Failed) -> bool:
    """Return whether an error may go away when the server is back."""
    if failed.exit_code is ExitCode.TIMED_OUT:
        return True
    return failed.exit_code is ExitCode.UNAVAILABLE and failed.reason in _PASSES


def state_of(metadata: OperationMetadata) -> str:
    """Return an operation's state for people: CANCELLING for one that is to end, and has not yet."""
    active = metadata.state in (OperationMetadata.PENDING, OperationMetadata.RUNNING)
    return "CANCELLING" if active and metadata.cancel_requested else OperationMetadata.State.Name(metadata.state)


def _where(metadata: OperationMetadata) -> str:
    """Return the progress of an operation in one line."""
    state = state_of(metadata)
    text = state
    if metadata.current_step:
        text = f"{state} step {metadata.current_step_number}/{metadata.step_count} {metadata.current_step}"
    if metadata.HasField("wait"):
        text += f" (waits for {metadata.wait.reason}: {shown(metadata.wait.message)})"
    return text
