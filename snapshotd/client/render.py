"""Text for people: tables, ages, sizes, and names that cannot play with the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def as_json(message: Message) -> str:
    """Return a message in protobuf's JSON mapping."""
    return json_format.MessageToJson(message)


def shown(text: str) -> str:
    """Return a text whose control characters are escaped."""
    return "".join(c if unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns under their heads; a line for an empty table."""
    return Table(heads).text(rows) if rows else "(none)"


class Table:
    """Aligned columns that come in several parts: a column never gets narrower than it was."""

    def __init__(self, heads: Sequence[str]) -> None:
        """Begin with the heads, which stand above the first part."""
        self._waiting = [list(heads)]
        self._widths = [0] * len(heads)

    def text(self, rows: Sequence[Sequence[str]]) -> str:
        """Return the next part."""
        cells = [[shown(cell) for cell in row] for row in (*self._waiting, *rows)]
        self._waiting = []
        self._widths = [max(width, *(_width(row[n]) for row in cells)) for n, width in enumerate(self._widths)]
        return "\n".join(
            "  ".join(
                cell + " " * (width - _width(cell)) for cell, width in zip(row, self._widths, strict=True)
            ).rstrip()
            for row in cells
        )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return names and values, one a line; empty values are left out."""
    kept = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name + ':':{width + 1}} {shown(value)}" for name, value in kept)


def age(time: Timestamp, now: datetime | None = None) -> str:
    """Return how long ago something was: "5 s", "3 min", "2 h", "4 d"."""
    if not time.seconds:
        return ""
    seconds = max(0.0, ((now or datetime.now(UTC)) - time.ToDatetime(UTC)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def when(time: Timestamp) -> str:
    """Return a time to the second, in UTC."""
    return time.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if time.seconds else ""


def size(count: int) -> str:
    """Return a number of bytes in its unit: "512 B", "4.0 GiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{int(amount)} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def last(name: str) -> str:
    """Return the last part of a resource name."""
    return name.rpartition("/")[2]


def word(text: str) -> str:
    """Return an enum's name as people write it."""
    return text.lower().replace("_", " ")


def _width(text: str) -> int:
    """Return how many columns a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
