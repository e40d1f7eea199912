"""Statements that write many rows with one step.

SQLite gives the interpreter away at each step of a statement, and getting it back in a busy process takes long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

Statement: TypeAlias = tuple[str, Sequence[object]]
"""An SQL statement, and its values."""

_MOST: Final = 64
"""How many rows one statement writes at most."""


class Insert:
    """Writes rows of values into a table, many with one step.

    Args:
        table: its name; in parentheses behind it, the columns that are given, unless it is all.
        width: how many values a row has.
        conflict: what becomes of a row that is there.
    """

    def __init__(self, table: str, width: int, conflict: str = "") -> None:
        marks = f"({', '.join('?' * width)})"
        self._texts = [
            f"INSERT INTO {table} VALUES {', '.join([marks] * size)} {conflict}"  # noqa: S608  (constants)
            for size in range(_MOST + 1)
        ]

    def statements(self, rows: Sequence[Sequence[object]]) -> Iterator[Statement]:
        """Yield what writes rows."""
        for first in range(0, len(rows), _MOST):
            some = rows[first : first + _MOST]
            yield self._texts[len(some)], [value for row in some for value in row]

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> None:
        """Write rows."""
        for text, values in self.statements(rows):
            connection.execute(text, values)
