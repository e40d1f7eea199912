"""Whoever logs never waits for whoever reads the log, and what was left out is told."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from snapshotd.logs import FORMATS, Seldom, Unblocking, about, and_more, is_journal, with_priority
from snapshotd.settings import SettingsInvalid, load


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


def logger(reader: Reader, lines: int, *, journal: bool = False) -> tuple[logging.Logger, Unblocking]:
    """Return a logger that writes to the reader."""
    handler = Unblocking(reader.write, lines, journal=journal)
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


@pytest.mark.parametrize("form", ["text", "json"])
def test_for_the_journal_each_line_begins_with_its_priority(reader: Reader, form: str) -> None:
    log, handler = logger(reader, 10, journal=True)
    handler.setFormatter(FORMATS[form]())
    reader.awake.set()
    for level in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        log.log(level, "a line")
    log.error("a defect", exc_info=KeyError("a"))
    handler.flush()
    marks = ["<3>", "<3>", "<4>", "<6>", "<7>", "<3>", *(["<3>"] if form == "text" else [])]
    lines = "".join(reader.read).splitlines()
    assert [line[:3] for line in lines] == marks
    assert not [line for line in lines if line[3] == "<"]


def test_for_the_journal_lines_that_were_left_out_are_a_warning(reader: Reader) -> None:
    log, handler = logger(reader, 10, journal=True)
    reader.failing = True
    reader.awake.set()
    log.info("nobody is there")
    handler.flush()
    reader.failing = False
    log.info("the last")
    handler.flush()
    assert [line[:10] for line in "".join(reader.read).splitlines()] == ["<4>1 lines", "<6>the las"]


def test_the_journal_is_known_by_the_device_and_inode_of_what_is_written_to(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("wb") as file:
        found = os.fstat(file.fileno())
        named = f"{found.st_dev}:{found.st_ino}"
        assert is_journal({"JOURNAL_STREAM": named}, file.fileno())
        assert not is_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"}, file.fileno())
        assert not is_journal({"JOURNAL_STREAM": "nonsense"}, file.fileno())
        assert not is_journal({}, file.fileno())
        closed = file.fileno()
    assert not is_journal({"JOURNAL_STREAM": named}, closed)


def test_a_text_of_several_lines_has_its_priority_on_each() -> None:
    assert with_priority(logging.WARNING, "what\nwhy") == "<4>what\n<4>why"


ENDS = """
import logging, os, sys
from snapshotd import __main__ as program
found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
if sys.argv[1:] == ["defect"]:
    program._start_logging(verbose=False)
    logging.getLogger("snapshotd").error("a line before")
    logging.getLogger().handlers[0].flush()
    raise KeyError("a defect")
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "begins", "ends"),
    [
        (["config", "check", "--log-format", "xml"], "snapshotd config: Cannot use log.format", ""),
        (["defect"], "", "KeyError: 'a defect'"),
    ],
)
def test_for_the_journal_why_a_program_ends_is_an_error(arguments: list[str], begins: str, ends: str) -> None:
    program = [sys.executable, "-c", ENDS, *arguments]
    lines = subprocess.run(program, capture_output=True, text=True, check=False).stderr.splitlines()
    assert len(lines) >= (4 if arguments == ["defect"] else 1)
    assert not [line for line in lines if not line.startswith("<3>")]
    assert lines[0].startswith(f"<3>{begins}")
    assert lines[-1].endswith(ends)


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
        first = [program.stderr.readline() for _ in range(2)]  # the first may tell how many were left out
        assert [line for line in first if line.endswith("line 0 of many that nobody reads\n")]


def line(form: str, message: str, *arguments: object, error: Exception | None = None, **facts: str) -> str:
    """Return a line of the log in one of the formats."""
    raised = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("snapshotd.x", logging.WARNING, "f", 1, message, arguments, raised)
    record.__dict__.update(about(**facts))
    return FORMATS[form]().format(record)


FACTS: dict[str, str] = {
    "operation": "operations/1.1-a",
    "vm_name": 'web "01"',
    "reason": "HOST_ERROR",
    "actor": "",
    "kind": "a b",
}


def test_a_line_for_people_says_when_with_its_offset_and_what_it_is_about() -> None:
    told = line("text", "failed: %s", "no disk", error=None, **FACTS)
    found = re.fullmatch(
        r"(\S+) WARNING snapshotd\.x: failed: no disk operation=operations/1\.1-a "
        r'vm_name="web \\"01\\"" reason=HOST_ERROR kind="a b"',
        told,
    )
    assert found is not None, told
    time = datetime.fromisoformat(found[1])
    assert time.tzinfo is not None
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)


def test_a_line_for_programs_is_one_object_with_the_same() -> None:
    told = line("json", "failed:\n%s", "no disk", error=None, **FACTS)
    assert "\n" not in told
    read = json.loads(told)
    assert datetime.fromisoformat(read.pop("time")).tzinfo is not None
    assert read == {
        "operation": "operations/1.1-a",
        "vm_name": 'web "01"',
        "reason": "HOST_ERROR",
        "kind": "a b",
        "level": "WARNING",
        "logger": "snapshotd.x",
        "message": "failed:\nno disk",
    }


def test_an_error_is_told_whole() -> None:
    assert line("text", "oh", error=KeyError("a")).splitlines()[1:] == ["KeyError: 'a'"]
    assert json.loads(line("json", "oh", error=KeyError("a")))["exception"] == "KeyError: 'a'"


@pytest.mark.parametrize("text", ["x" * 99_000, "\x01" * 99_000])
def test_a_line_for_programs_that_is_too_long_is_cut_and_can_still_be_read(text: str) -> None:
    told = line("json", text, error=KeyError(text), vm_name=text)
    assert len(told) <= 16_000
    read = json.loads(told)
    assert text.startswith(read["message"])
    assert read["exception"].endswith("'")


def test_what_names_no_format_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match='must be "text" or "json"'):
        load(None, {"SNAPSHOTD_LOG_FORMAT": "xml"}, {})
    assert load(None, {}, {"log.format": "json"}).text("log.format") == "json"


def test_control_characters_in_a_line_for_people_are_escaped_and_other_letters_are_not() -> None:
    told = line("text", "no VM %s", "w\n<3>\x1b[2J\u2028\u0085ö", vm_name="a\x1bb")
    assert told.endswith(r"no VM w\n<3>\x1b[2J\u2028\x85ö vm_name=a\x1bb")


def test_an_error_of_several_lines_keeps_them_without_their_control_characters() -> None:
    assert line("text", "oh", error=OSError("a\nb\rc")).splitlines()[1:] == ["OSError: a", r"b\rc"]


def test_a_line_that_is_due_often_comes_seldom_and_counts_the_rest() -> None:
    times = iter([0.0, 1.0, 9.9, 10.0, 10.1, 25.0])
    seldom = Seldom(10.0, lambda: next(times))
    assert [seldom.due() for _ in range(6)] == [0, None, None, 2, None, 1]


def test_what_was_left_out_is_told_unless_it_is_nothing() -> None:
    assert [and_more(count) for count in (0, 2)] == ["", " (2 more since the last such line)"]
