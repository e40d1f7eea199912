"""Standard output and standard error: escapes what they cannot encode, and reports what cannot be written."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TextIO

from snapshotd.client.calls import ExitCode, Failed


def prepare() -> None:
    """Make both streams take any text. Raises Failed if there is no standard output."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (until the process ends)
    if sys.stdout is None:
        raise Failed("Cannot write the output: standard output is closed.", ExitCode.OUTPUT_FAILED)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(text: str) -> None:
    """Write an error to standard error. If that fails too, only the exit code is left."""
    try:
        sys.stderr.write(f"snapshotctl: {text}\n")
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Drop what a stream has not written yet. Otherwise the interpreter would try again when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
