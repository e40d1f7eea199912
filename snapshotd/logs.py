"""The log on standard error, written by a thread, so that whoever logs never waits for whoever reads it.

a record ──► formatted ──► queue of _LINES ──► thread ──► standard error
                                 └─ full: dropped, and counted in the next line that gets through
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

_LINES: Final = 1000
"""Records that wait at most."""
_LONGEST: Final = 16_000
"""The most characters of one."""
_FLUSH_S: Final = 1.0
"""How long an ending process waits for its last lines to be read."""
_STDERR: Final = 2


def write_to_stderr(data: bytes) -> None:
    """Write to the file itself: the interpreter locks `sys.stderr`, and would wait for that when it ends."""
    while data:
        data = data[os.write(_STDERR, data) :]


class Unblocking(logging.Handler):
    """A handler that never blocks and never raises.

    Args:
        write: writes a line; it may take for ever.
        lines: how many records may wait for it.
    """

    def __init__(self, write: Callable[[bytes], None] = write_to_stderr, lines: int = _LINES) -> None:
        super().__init__()
        self._write = write
        self._waiting: queue.Queue[str] = queue.Queue(lines)
        self._dropped = 0
        threading.Thread(target=self._write_out, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, or drop it if too many wait."""
        try:
            self._waiting.put_nowait(self._text(record))
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

    def _write_out(self) -> None:
        while True:
            text = self._waiting.get()
            with self.lock or threading.RLock():
                dropped, self._dropped = self._dropped, 0
            if dropped:
                text = f"{dropped} lines were left out here: standard error was not read fast enough\n{text}"
            try:
                self._write(f"{text}\n".encode(errors="backslashreplace"))
            except OSError:
                self._dropped += 1  # nobody reads it just now, or ever again
            self._waiting.task_done()
