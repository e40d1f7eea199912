"""Stand-ins for the ports that every part of the core takes: the time, and new ids."""

from __future__ import annotations

import itertools
from datetime import datetime

from tests.fakes import START

_NUMBERS = itertools.count(1)


class Clock:
    """A clock that stands, until it is set."""

    def __init__(self, time: datetime = START) -> None:
        self.time = time

    def now(self) -> datetime:
        """Return the time."""
        return self.time


class Ids:
    """Ids that are counted: no two of them are the same, whoever made them."""

    def fresh(self) -> str:
        """Return the next id."""
        return f"{next(_NUMBERS):08x}-0000-4000-8000-000000000000"
