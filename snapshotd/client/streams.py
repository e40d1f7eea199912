"""Standard output and standard error: escapes what they cannot encode, and reports what cannot be written."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TextIO

from snapshotd.client.documents import DOCUMENTS, document
from snapshotd.client.failure import ExitCode, Failed


def prepare() -> None:
    """Make both streams take any text. Raises Failed if there is no standard output."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (until the process ends)
    if sys.stdout is None:
        raise Failed("Cannot write the output: standard output is closed.", ExitCode.OUTPUT_FAILED)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(failed: Failed, output: str) -> None:
    """Write an error to standard error, in an output format."""
    _write(document(failed.document, output) if output in DOCUMENTS else failed.whole)


def warn(text: str) -> None:
    """Write to standard error what the user must know of a command that was carried out."""
    _write(f"snapshotctl: {text}")


def notes(output: str) -> TextIO:
    """Return where goes what people read beside the output. With one that programs read, only a terminal shows it."""
    return sys.stderr if output not in DOCUMENTS or sys.stderr.isatty() else io.StringIO()


def _write(text: str) -> None:
    """Write to standard error. If that fails too, only the exit code is left."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Drop what a stream has not written yet. Otherwise the interpreter would try again when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
