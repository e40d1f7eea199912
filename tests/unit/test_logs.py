"""Whoever logs never waits for whoever reads the log, and what was left out is told."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from snapshotd.logs import Unblocking


class Reader:
    """Standard error with a reader who may be asleep."""

    def __init__(self) -> None:
        self.awake = threading.Event()
        self.read: list[str] = []
        self.failing = False

    def write(self, data: bytes) -> None:
        """Take a line, when the reader is awake."""
        assert self.awake.wait(60)
        if self.failing:
            raise BrokenPipeError
        self.read.append(data.decode())


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.awake.set()


def logger(reader: Reader, lines: int) -> tuple[logging.Logger, Unblocking]:
    """Return a logger that writes to the reader."""
    handler = Unblocking(reader.write, lines)
    made = logging.Logger("test")  # noqa: LOG001  (one for each test)
    made.addHandler(handler)
    return made, handler


def test_lines_come_in_order(reader: Reader) -> None:
    log, handler = logger(reader, 100)
    reader.awake.set()
    for n in range(50):
        log.info("line %d", n)
    handler.flush()
    assert reader.read == [f"line {n}\n" for n in range(50)]


def test_while_nobody_reads_lines_are_dropped_and_counted_and_nobody_waits(reader: Reader) -> None:
    log, handler = logger(reader, 10)
    for n in range(500):
        log.info("line %d", n)
    reader.awake.set()
    handler.flush()
    log.info("the last")
    handler.flush()
    kept = [line for text in reader.read for line in text.splitlines() if line.startswith("line ")]
    told = [int(text.split()[0]) for text in reader.read if "left out" in text]
    assert kept == sorted(kept, key=lambda line: int(line.split()[1]))
    assert told
    assert sum(told) + len(kept) == 500
    assert reader.read[-1].endswith("the last\n")


def test_a_line_that_cannot_be_written_or_formatted_fails_nobody(reader: Reader) -> None:
    log, handler = logger(reader, 10)
    reader.failing = True
    reader.awake.set()
    log.info("nobody is there")
    handler.flush()
    reader.failing = False
    log.info("%d", "not a number")
    handler.flush()
    (text,) = reader.read
    assert text.startswith("1 lines were left out")
    assert "'%d' cannot be formatted" in text


ENDLESS = """
import logging
from snapshotd.__main__ import _start_logging
_start_logging(verbose=False)
for n in range(20_000):
    logging.getLogger("snapshotd").warning("line %d of many that nobody reads", n)
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_program_whose_standard_error_nobody_reads_goes_on_and_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "done\n"
        assert program.wait(60) == 0
        assert program.stderr is not None
        assert program.stderr.readline().endswith("line 0 of many that nobody reads\n")
