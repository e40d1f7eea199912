"""The rows of one life, stamped out as those of many: large logs are written straight into their tables.

    one life, recorded by the product ──► rows of its tables ──► the same rows with other ids, names, times, positions

Knows no schema but this: a column `position` holds a position in the log. What differs from one VM to the next is found
in the rows by its form: every id, the VM's and the host's name, the caller, every time. New ids sort as the first ones
did, so that whatever the product has sorted by ids stays sorted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

Cell: TypeAlias = str | bytes | int | float | None
Row: TypeAlias = tuple[Cell, ...]

HOST: Final = "hv000"
"""The host in a recorded life."""
ACTOR: Final = "anonymous"
"""The caller in a recorded life: nobody says who calls."""
ACTORS: Final = 50
"""How many callers the many lives have."""
TOGETHER: Final = 100
"""How many lives go on at the same time: their events alternate in the log."""
_GUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
_VARYING: Final = rf"{_GUID}|[0-9a-f]{{8,}}|\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
_BETWEEN: Final = "\0"
FIRST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first lives of a log begin."""
APART: Final = timedelta(minutes=5)
"""After how long the next ones do."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table's columns, and some of its rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def position(self) -> int | None:
        """The column that holds a position in the log."""
        return self.columns.index("position") if "position" in self.columns else None


@dataclass(frozen=True, slots=True)
class Stamp:
    """One of the many lives of a log."""

    number: int
    """Among those of its kind, from 0."""
    host: str
    group: int
    """Of those that go on at the same time."""
    in_group: int
    group_size: int
    first_position: int
    """Of the group."""

    @property
    def actor(self) -> str:
        """Who calls."""
        return actor(self.number)

    def position(self, rank: int) -> int:
        """Return the position of this life's event of a rank, from 0."""
        return self.first_position + rank * self.group_size + self.in_group

    def time(self, after: timedelta) -> str:
        """Return the time that long after the life began."""
        at = FIRST + self.group * APART + timedelta(microseconds=self.in_group) + after
        at = at if at.microsecond else at + timedelta(microseconds=1)  # JSON leaves a fraction of 0 out
        return at.isoformat(timespec="microseconds")[:26] + "Z"


@dataclass(frozen=True, slots=True)
class _Planned:
    """A row whose cells are filled in: which of them from which text, and which with the position of which event."""

    cells: list[Cell]
    texts: tuple[tuple[int, int], ...]
    blobs: tuple[tuple[int, int], ...]
    positions: tuple[tuple[int, int], ...]


class Life:
    """The rows of one life, ready to be stamped.

    Args:
        name: makes its ids others than those of other kinds of life.
        tables: all rows that are about it, by the table's name.
        vm_id: the VM in them; empty: they are about the host alone.
    """

    def __init__(self, name: str, tables: Mapping[str, Table], vm_id: str) -> None:
        self._name = name
        self._vm_id = vm_id
        places = {row[table.position] for table in tables.values() if table.position is not None for row in table.rows}
        ranks = {position: rank for rank, position in enumerate(sorted(p for p in places if isinstance(p, int)))}
        self.events = len(ranks)
        texts: list[str] = []
        names = [name_of(vm_id)] if vm_id else []
        forms = "|".join([_GUID, _TIME, HOST, ACTOR, *names])
        self._rows = {
            name: [_plan(row, table.position, ranks, texts, forms) for row in table.rows]
            for name, table in tables.items()
        }
        whole = _BETWEEN.join(texts)
        self.guids = sorted(set(re.findall(_GUID, whole)))
        """The ids in it, sorted."""
        times = sorted(set(re.findall(_TIME, whole)))
        began = datetime.fromisoformat(times[0])
        self._after = [datetime.fromisoformat(time) - began for time in times]
        tokens = {token: n for n, token in enumerate([*self.guids, *names, HOST, ACTOR, *times])}
        self._pieces = re.split(f"({forms})", whole)
        self._order = [tokens[piece] for piece in self._pieces[1::2]]

    def ids(self, number: int) -> list[str]:
        """Return the ids of one of the many, in the place of `guids`."""
        digits = hashlib.shake_128(f"{self._name}/{number}".encode()).hexdigest(16 * len(self.guids))
        found = (digits[n : n + 32] for n in range(0, len(digits), 32))
        return sorted(f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}" for d in found)

    def vm_id(self, number: int) -> str:
        """Return the VM of one of the many."""
        return self.ids(number)[self.guids.index(self._vm_id)]

    def stamped(self, text: bytes, number: int) -> bytes:
        """Return a text about the recorded VM as it would be about one of the many: ids are all as long as others."""
        guids = self.ids(number)
        for old, new in zip(self.guids, guids, strict=True):
            text = text.replace(old.encode(), new.encode())
        return text.replace(name_of(self._vm_id).encode(), name_of(guids[self.guids.index(self._vm_id)]).encode())

    def stamp(self, stamp: Stamp) -> Iterator[tuple[str, Row]]:
        """Yield the rows of one of the many, each with its table."""
        guids = self.ids(stamp.number)
        names = [name_of(guids[self.guids.index(self._vm_id)])] if self._vm_id else []
        values = [*guids, *names, stamp.host, stamp.actor, *map(stamp.time, self._after)]
        pieces = self._pieces.copy()
        pieces[1::2] = [values[n] for n in self._order]
        texts = "".join(pieces).split(_BETWEEN)
        for table, rows in self._rows.items():
            for planned in rows:
                row = planned.cells.copy()
                for column, text in planned.texts:
                    row[column] = texts[text]
                for column, text in planned.blobs:
                    row[column] = texts[text].encode("latin-1")
                for column, rank in planned.positions:
                    row[column] = stamp.position(rank)
                yield table, tuple(row)


def name_of(vm_id: str) -> str:
    """Return the name that the instant host gives a VM."""
    return f"vm-{vm_id[:8]}"


def host_of(number: int) -> str:
    """Return the id of one of the many hosts. All are as long as the recorded one's."""
    assert number < 1000
    return f"hv{number:03}"


def actor(number: int) -> str:
    """Return the caller of one of the many lives: as long as the recorded one."""
    return f"caller-{number % ACTORS:02}"


def unvarying(cell: Cell) -> str:
    """Return the text of a cell without ids, digests and times: what is the same in two records of one life."""
    text = cell.decode("latin-1") if isinstance(cell, bytes) else str(cell)
    return re.sub(_VARYING, "", text)


def _plan(row: Row, position: int | None, ranks: Mapping[int, int], texts: list[str], tokens: str) -> _Planned:
    """Return how a row is filled in. The texts that have tokens in them are added to `texts`."""
    written: list[tuple[int, int]] = []
    blobs: list[tuple[int, int]] = []
    placed: list[tuple[int, int]] = []
    for column, cell in enumerate(row):
        if column == position:
            assert isinstance(cell, int)
            placed.append((column, ranks[cell]))
        elif isinstance(cell, str | bytes):
            text = cell if isinstance(cell, str) else cell.decode("latin-1")
            if re.search(tokens, text):
                (written if isinstance(cell, str) else blobs).append((column, len(texts)))
                texts.append(text)
    return _Planned(list(row), tuple(written), tuple(blobs), tuple(placed))
