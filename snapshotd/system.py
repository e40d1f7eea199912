"""The machine: its clock, its randomness, and how many files it lets this process open."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from datetime import UTC, datetime

_FILES = 65_536
"""Open files, as the units allow."""
_DRAWN = 256
"""Ids whose random bytes are drawn at a time."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)


class RandomIds:
    """Random UUIDs, of random bytes that are drawn many at a time.

    Each call of the system lets go of the interpreter, and in a busy process it takes long to get that back.
    """

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def fresh(self) -> str:
        """Return a random UUID in lower case. Any thread may call it: a list gives away each element once."""
        try:
            digits = self._drawn.pop()
        except IndexError:
            drawn = os.urandom(_DRAWN * 16).hex()
            digits, *others = (drawn[at : at + 32] for at in range(0, len(drawn), 32))
            self._drawn += others
        # Version 4 (random), variant 1: the two bits above the seventeenth digit's lower two (RFC 9562).
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def raise_file_limit() -> None:
    """Let this process open as many files as it may. Each connection is one, and a shell often allows only 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # it is served all the same, to fewer callers
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
