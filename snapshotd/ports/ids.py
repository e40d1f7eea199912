"""Fresh ids, and the time: what the core must not make by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Ids(Protocol):
    """Makes ids."""

    def fresh(self) -> str:
        """Return a random UUID in lower case."""
        ...


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        ...
