"""Text for people: tables, ages, sizes, and names without control characters."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # help and errors of usage come without it
    from google.protobuf.timestamp_pb2 import Timestamp

_IN_UTC: Final = ContextVar("in_utc", default=False)
NARROWEST: Final = 12
"""The fewest columns that a name is cut to, as long as there is another way to fit."""
_FEWEST: Final = 6
"""The fewest columns of any cell that is cut."""
_NARROWEST_TEXT: Final = 24
"""The fewest columns of a text that is broken into lines."""


def shown(text: str) -> str:
    """Return a text with its control characters escaped."""
    return "".join(c if unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in text)


def cut(text: str, width: int) -> str:
    """Return a text cut to at most `width` columns, with a mark where it was cut."""
    if width_of(text) <= width:
        return text
    kept = text[: max(0, width - 1)]
    while kept and width_of(kept) > width - 1:
        kept = kept[:-1]
    return f"{kept}…"


def quoted(text: str, limit: int = 40) -> str:
    """Return a text for an error message: in quotes, with control characters escaped, and not too long."""
    return f"'{shown(text[:limit])}{'…' if len(text) > limit else ''}'"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 VM", "2 VMs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def columns() -> int | None:
    """Return the width of the terminal on standard output; None if it is no terminal, so that nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    yields: Sequence[str] = (),
    width: int | None = None,
    *,
    wraps: bool = False,
) -> str:
    """Return aligned columns under their heads; for an empty table, one line. Takes the arguments of Table."""
    return Table(heads, yields, width, wraps=wraps).text(rows) if rows else "(none)"


def prose(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose last column is a text to read: on a terminal it goes over several lines, and none is cut."""
    return table(heads, rows, width=columns(), wraps=True)


class Table:
    """A table that is printed in several parts. A column never gets narrower from one part to the next.

    Args:
        heads: the heads, printed above the first part.
        yields: heads of the columns to cut if the table is too wide: first in this order, each to NARROWEST; if that is
            not enough, the widest one again and again, but never to less than its head.
        width: the widest it may be; None for no limit.
        wraps: the last column is broken into lines at its blanks, and never cut.
    """

    def __init__(
        self, heads: Sequence[str], yields: Sequence[str] = (), width: int | None = None, *, wraps: bool = False
    ) -> None:
        self._waiting = [list(heads)]
        self._widths = [0] * len(heads)
        self._floors = [max(_FEWEST, width_of(head)) for head in heads]
        self._yields = [list(heads).index(head) for head in yields]
        self._width = width
        self._wraps = wraps

    def text(self, rows: Sequence[Sequence[str]]) -> str:
        """Return the next part."""
        cells = [[shown(cell) for cell in row] for row in (*self._waiting, *rows)]
        self._waiting = []
        self._widths = [max(width, *(width_of(row[n]) for row in cells)) for n, width in enumerate(self._widths)]
        if self._width is not None:
            self._fit(self._width)
        return "\n".join(line for row in cells for line in self._lines(row))

    def _fit(self, width: int) -> None:
        """Make the columns narrower, as far as that goes."""
        if self._wraps:
            self._narrow(len(self._widths) - 1, width, _NARROWEST_TEXT)
        for n in self._yields:
            self._narrow(n, width, NARROWEST)
        while self._too_wide(width) > 0:
            more = [n for n in self._yields if self._widths[n] > self._floors[n]]
            if not more:
                return
            self._widths[max(more, key=lambda n: self._widths[n])] -= 1

    def _narrow(self, n: int, width: int, least: int) -> None:
        self._widths[n] = min(self._widths[n], max(least, self._widths[n] - self._too_wide(width)))

    def _too_wide(self, width: int) -> int:
        return sum(self._widths) + 2 * (len(self._widths) - 1) - width

    def _lines(self, row: Sequence[str]) -> Iterator[str]:
        texts = _wrapped(row[-1], self._widths[-1]) if self._wraps else [cut(row[-1], self._widths[-1])]
        cells = [_padded(cell, width) for cell, width in zip(row[:-1], self._widths, strict=False)]
        yield "  ".join([*cells, texts[0]]).rstrip()
        indent = " " * (sum(self._widths[:-1]) + 2 * (len(self._widths) - 1))
        yield from (indent + text for text in texts[1:])


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text as lines of at most `width` columns, broken at its blanks; a longer word stays whole."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width_of(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return names and values, one pair per line, without those that have no value."""
    kept = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name + ':':{width + 1}} {shown(value)}" for name, value in kept)


def age(time: Timestamp, now: datetime | None = None) -> str:
    """Return how long ago something was: "5 s", "3 min", "2 h", "4 d"."""
    if not time.seconds:
        return ""
    return _lasting(((now or datetime.now(UTC)) - time.ToDatetime(UTC)).total_seconds())


def took(start: Timestamp, end: Timestamp) -> str:
    """Return how long something took; empty if it has not ended."""
    return _lasting((end.ToNanoseconds() - start.ToNanoseconds()) / 1e9) if start.seconds and end.seconds else ""


def _lasting(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(max(0.0, seconds))} s"


def show_in_utc(utc: bool) -> None:  # noqa: FBT001  (as the option has it)
    """Show times in UTC from now on; or in the local zone, with its offset."""
    _IN_UTC.set(utc)


def zone() -> tzinfo | None:
    """Return the zone that times are shown in; None: the local one."""
    return UTC if _IN_UTC.get() else None


def when(time: Timestamp) -> str:
    """Return a time to the second, with its offset: "2026-01-31 13:00:00+01:00"; empty for none."""
    return _written(time, " ", "seconds") if time.seconds else ""


def exact(time: Timestamp) -> str:
    """Return a time for programs: RFC 3339, to the microsecond; empty for none."""
    return _written(time, "T", "microseconds") if time.seconds else ""


def _written(time: Timestamp, between: str, precision: str) -> str:
    text = time.ToDatetime(UTC).astimezone(zone()).isoformat(between, precision)
    return f"{text.removesuffix('+00:00')}Z" if zone() else text


def size(count: int) -> str:
    """Return a number of bytes with a fitting unit: "512 B", "4.0 GiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{int(amount)} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def last(name: str) -> str:
    """Return the last part of a resource name."""
    return name.rpartition("/")[2]


def subject_text(subject: str) -> str:
    """Return the kind and the id of what a resource name names."""
    parts = subject.split("/")
    if len(parts) >= 4 and parts[2] == "snapshots":
        return f"snapshot {parts[3]}"
    if parts[0] == "operations":
        step = f" step {parts[3]}" if len(parts) > 3 else ""
        return f"operation {parts[1]}{step}"
    if len(parts) == 1:
        return subject
    return f"{'host' if parts[0] == 'hosts' else 'vm'} {last(subject)}"


def word(text: str) -> str:
    """Return the name of an enum value in the form people write."""
    return text.lower().replace("_", " ")


def _padded(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - width_of(text))


def width_of(text: str) -> int:
    """Return how many columns a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
