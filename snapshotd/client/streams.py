"""Standard output and error: what they cannot encode is escaped, and what cannot be written is told."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TextIO

from snapshotd.client.calls import ExitCode, Failed


def prepare() -> None:
    """Make both take any text. Raises Failed if there is no standard output."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (until the process ends)
    if sys.stdout is None:
        raise Failed("standard output is closed.", ExitCode.OUTPUT_FAILED)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(text: str) -> None:
    """Say on standard error what was wrong; if that cannot be written either, the exit code has to do."""
    try:
        sys.stderr.write(f"snapshotctl: {text}\n")
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Forget what is still to be written to a stream: the interpreter would try it once more at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
