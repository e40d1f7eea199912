"""The log on standard error, written by a thread, so that whoever logs never waits for whoever reads it.

a record ──► formatted (text or JSON) ──► queue of _LINES ──► thread ──► standard error
                                 └─ full: dropped, and counted in the next line that gets through

Each record is one line, and below it the lines of its traceback. Where the journal of systemd reads them, each begins
with its priority.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

_LINES: Final = 1000
"""Records that wait at most."""
_LONGEST: Final = 16_000
"""The most characters of one."""
_SHORT: Final = 200
"""The most characters of a text in a line that would be too long otherwise."""
_FLUSH_S: Final = 1.0
"""How long an ending process waits for its last lines to be read."""
_STDERR: Final = 2
_FACTS: Final = "facts"
_PLAIN: Final = re.compile(r'[^\s"=]+')
_PRIORITIES: Final = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))
"""What begins a line for the journal, from which level on: sd-daemon(3)."""
_DETAILS: Final = "<7>"
"""What begins a line below all of these."""


def write_to_stderr(data: bytes) -> None:
    """Write to the file itself: the interpreter locks `sys.stderr`, and would wait for that when it ends."""
    while data:
        data = data[os.write(_STDERR, data) :]


def is_journal(environ: Mapping[str, str], descriptor: int = _STDERR) -> bool:
    """Return whether the journal of systemd reads a file: JOURNAL_STREAM names its device and inode."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False  # it is closed
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def with_priority(level: int, text: str) -> str:
    """Return a text for the journal: each of its lines begins with the priority of a level."""
    mark = next((mark for least, mark in _PRIORITIES if level >= least), _DETAILS)
    return "\n".join(f"{mark}{line}" for line in text.split("\n"))


def about(**facts: str) -> dict[str, dict[str, str]]:
    """Return the `extra` of a line that names what it is about, for programs to find it by.

    There are: operation, vm, vm_name, host, kind, reason, actor; request (the caller's id of it), method, executor and
    view. Those that are empty are left out. Never a secret.
    """
    return {_FACTS: {name: value for name, value in facts.items() if value}}


def _facts_of(record: logging.LogRecord) -> dict[str, str]:
    facts: dict[str, str] = getattr(record, _FACTS, {})
    return facts


def _time_of(record: logging.LogRecord) -> str:
    """Return when a line was logged: ISO 8601, with the machine's offset from UTC."""
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


class Text(logging.Formatter):
    """Lines for people: the time, the level, where it comes from, the message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the traceback, if there is one."""
        facts = " ".join(f"{name}={_word(value)}" for name, value in _facts_of(record).items())
        lines = [f"{_time_of(record)} {record.levelname} {record.name}: {record.getMessage()} {facts}".rstrip()]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        return "\n".join(map(_harmless, lines))


def _harmless(line: str) -> str:
    """Return a line with its control characters escaped: the words of others begin no line and steer no terminal."""
    return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _word(text: str) -> str:
    """Return a text as one word: in quotes, unless it is one already."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class Json(logging.Formatter):
    """Lines for programs: one JSON object each, of at most _LONGEST characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        error = self.formatException(record.exc_info) if record.exc_info else ""
        texts = (self._line(record, error, limit) for limit in (_LONGEST, _LONGEST // 4, _LONGEST // 16))
        return next((text for text in texts if len(text) <= _LONGEST), self._line(record, error, _SHORT))

    def _line(self, record: logging.LogRecord, error: str, limit: int) -> str:
        line = {name: value[:limit] for name, value in _facts_of(record).items()} | {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:limit],
        }
        return json.dumps(line | ({"exception": error[-limit:]} if error else {}), ensure_ascii=False)


FORMATS: Final[Mapping[str, type[logging.Formatter]]] = {"text": Text, "json": Json}
"""The formats of `log.format`."""


class Unblocking(logging.Handler):
    """A handler that never blocks and never raises.

    Args:
        write: writes a line; it may take for ever.
        lines: how many records may wait for it.
        journal: whether the journal reads the lines.
    """

    def __init__(
        self, write: Callable[[bytes], None] = write_to_stderr, lines: int = _LINES, *, journal: bool = False
    ) -> None:
        super().__init__()
        self._journal = journal
        self._write = write
        self._waiting: queue.Queue[str] = queue.Queue(lines)
        self._dropped = 0
        threading.Thread(target=self._write_out, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, or drop it if too many wait."""
        try:
            self._waiting.put_nowait(self._marked(record.levelno, self._text(record)))
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until what was taken is written, but not for long."""
        until_s = time.monotonic() + _FLUSH_S
        with self._waiting.all_tasks_done:
            while self._waiting.unfinished_tasks and (left_s := until_s - time.monotonic()) > 0:
                self._waiting.all_tasks_done.wait(left_s)

    def _text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)[:_LONGEST]
        except Exception as error:  # noqa: BLE001  (a line that cannot be formatted must not fail what it tells of)
            return f"{record.levelname} {record.name}: {record.msg!r} cannot be formatted: {error!r}"[:_LONGEST]

    def _marked(self, level: int, text: str) -> str:
        return with_priority(level, text) if self._journal else text

    def _write_out(self) -> None:
        while True:
            text = self._waiting.get()
            with self.lock or threading.RLock():
                dropped, self._dropped = self._dropped, 0
            if dropped:
                left_out = f"{dropped} lines were left out here: standard error was not read fast enough"
                text = f"{self._marked(logging.WARNING, left_out)}\n{text}"
            try:
                self._write(f"{text}\n".encode(errors="backslashreplace"))
            except OSError:
                self._dropped += 1  # nobody reads it just now, or ever again
            self._waiting.task_done()


class Seldom:
    """Decides when a line that may be due often is logged.

    Args:
        interval_s: the least time between two lines.
        now_s: returns seconds of a monotonic clock.
    """

    def __init__(self, interval_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._now_s = now_s
        self._next_s = -math.inf
        self._left_out = 0

    def due(self) -> int | None:
        """Return how many lines were left out since the last one; None: leave this one out."""
        now_s = self._now_s()
        if now_s < self._next_s:
            self._left_out += 1
            return None
        left_out, self._left_out, self._next_s = self._left_out, 0, now_s + self._interval_s
        return left_out


def and_more(left_out: int) -> str:
    """Return what a line adds about those that were left out; empty: there were none."""
    return f" ({left_out} more since the last such line)" if left_out else ""
