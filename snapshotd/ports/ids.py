"""Fresh ids: what the core must not make by itself."""

from __future__ import annotations

from typing import Protocol


class Ids(Protocol):
    """Makes ids."""

    def fresh(self) -> str:
        """Return a random UUID in lower case."""
        ...
