"""Which events are about what: for each thing, and each block of the log's positions, which of its positions are.

    (thing, block) ──► 4,096 bits, one for each position of the block; or, if they are few, their offsets

All conditions on events are answered by these, in the order of the log: a block's events that meet several conditions
are the bits that are set in all. So one condition costs what two of them cost, whatever each of them is about; an index
for each would be read, and written, for every pair. A million events are 245 blocks, and a block in which one of the
conditions has no bit is not even read for the others.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 4096
"""Positions of a block."""
_BYTES: Final = BLOCK // 8
_FEW: Final = _BYTES // 2
"""From so many on, the bits of a block take less than the offsets, of two bytes each."""
_MOST_BLOCKS: Final = 64
"""Blocks that are looked at together."""
_STEP: Final = 128
"""Rows of one statement."""

TABLES: Final = (
    "CREATE TABLE postings (thing, block, bits NOT NULL, PRIMARY KEY (thing, block)) WITHOUT ROWID",
    # Between which times a block's events were. A clock can be set back, so blocks may overlap.
    "CREATE TABLE blocks (block INTEGER PRIMARY KEY, earliest NOT NULL, latest NOT NULL)",
)
_WIDEN: Final = """
INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT DO UPDATE
SET earliest = MIN(earliest, excluded.earliest), latest = MAX(latest, excluded.latest)
"""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the events of any of some things."""

    things: tuple[str, ...]
    unless: str = ""
    """But not those that are about this, too."""


Condition = Sequence[Term]
"""What any of the terms finds."""


class Postings:
    """Written by the runner: what was posted is merged into the file with each batch.

    Args:
        connection: views.db, to write.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._posted: dict[int, dict[str, list[int]]] = {}
        self._times: dict[int, tuple[int, int]] = {}
        self._block = -1
        self._bits: dict[str, int] = {}
        """Of the last block; of the others, the file has them."""
        self._complete = False
        """Whether nothing else of that block is in the file."""

    def post(self, thing: str, position: int) -> None:
        """Have an event found by something that it is about."""
        block, offset = divmod(position, BLOCK)
        things = self._posted.get(block)
        if things is None:
            things = self._posted[block] = {}
        offsets = things.get(thing)
        if offsets is None:
            things[thing] = [offset]
        else:
            offsets.append(offset)

    def date(self, position: int, time: int) -> None:
        """Have an event found by its time."""
        block = position // BLOCK
        earliest, latest = self._times.get(block, (time, time))
        self._times[block] = (min(earliest, time), max(latest, time))

    def flush(self) -> None:
        """Write what was posted."""
        rows: list[object] = []
        for block, things in self._posted.items():
            if block != self._block:
                # Events come in the order of their positions: what was before this block is complete.
                self._complete, self._block = 0 <= self._block < block, block
                self._bits.clear()
            for thing, offsets in things.items():
                bits = self._before(thing)
                for offset in offsets:
                    bits |= 1 << offset
                self._bits[thing] = bits
                rows += (thing, block, _packed(bits))
        for first in range(0, len(rows), 3 * _STEP):
            some = rows[first : first + 3 * _STEP]
            marks = ", ".join(["(?, ?, ?)"] * (len(some) // 3))
            self._connection.execute(f"INSERT OR REPLACE INTO postings VALUES {marks}", some)  # noqa: S608  (marks)
        for block, (earliest, latest) in self._times.items():
            self._connection.execute(_WIDEN, (block, earliest, latest))
        self._posted.clear()
        self._times.clear()

    def forget(self) -> None:
        """Forget what was posted, and what is known of the file."""
        self._posted.clear()
        self._times.clear()
        self._bits.clear()
        self._block, self._complete = -1, False

    def _before(self, thing: str) -> int:
        """Return the bits that the block has of a thing so far."""
        known = self._bits.get(thing)
        if known is None and not self._complete:
            found = self._connection.execute(
                "SELECT bits FROM postings WHERE thing = ? AND block = ?", (thing, self._block)
            )
            known = next((_unpacked(packed) for (packed,) in found), None)
        return known or 0


def blocks_of(
    connection: sqlite3.Connection, conditions: Sequence[Condition], first: int, *, descending: bool
) -> Iterator[tuple[int, int]]:
    """Yield the blocks, from the first one on, in which all conditions are met, and the bits of the events that do.

    Args:
        connection: to read.
        conditions: one at least.
        first: the number of a block.
        descending: from there to the log's beginning.
    """
    size = 1
    start = first
    while (at := _next(connection, conditions, start, descending=descending)) is not None:
        low, high = (max(0, at - size + 1), at) if descending else (at, at + size - 1)
        found = _both(connection, conditions, low, high)
        yield from sorted(found.items(), reverse=descending)
        start, size = (low - 1 if descending else high + 1), min(2 * size, _MOST_BLOCKS)


def _next(connection: sqlite3.Connection, conditions: Sequence[Condition], at: int, *, descending: bool) -> int | None:
    """Return the next block, at a block or beyond, in which each condition may be met; None if there is none."""
    compare, by, nearest = ("<=", "DESC", "MAX") if descending else (">=", "ASC", "MIN")
    statement = (
        f"SELECT {nearest}((SELECT block FROM postings WHERE thing = value AND block {compare} ?"  # noqa: S608
        f" ORDER BY block {by} LIMIT 1)) FROM json_each(?)"
    )
    while True:
        before = at
        for condition in conditions:
            things = [thing for term in condition for thing in term.things]
            (found,) = connection.execute(statement, (at, json.dumps(things))).fetchone()
            if found is None:
                return None
            at = found
        if at == before:
            return at


def _both(connection: sqlite3.Connection, conditions: Sequence[Condition], low: int, high: int) -> Mapping[int, int]:
    """Return the blocks of a range in which all conditions are met, and the bits of the events that do."""
    met = _any(connection, conditions[0], low, high)
    for condition in conditions[1:]:
        if not met:
            break
        others = _any(connection, condition, min(met), max(met))
        met = {block: both for block, bits in met.items() if (both := bits & others.get(block, 0))}
    return met


def _any(connection: sqlite3.Connection, condition: Condition, low: int, high: int) -> dict[int, int]:
    """Return the blocks of a range in which a condition is met, and the bits of the events that do."""
    met: dict[int, int] = {}
    for term in condition:
        found = _bits(connection, term.things, low, high)
        if term.unless and found:
            but = _bits(connection, (term.unless,), low, high)
            found = {block: bits & ~but.get(block, 0) for block, bits in found.items()}
        for block, bits in found.items():
            met[block] = met.get(block, 0) | bits
    return {block: bits for block, bits in met.items() if bits}


def _bits(connection: sqlite3.Connection, things: Sequence[str], low: int, high: int) -> dict[int, int]:
    statement = (
        "SELECT block, bits FROM postings WHERE thing IN (SELECT value FROM json_each(?)) AND block BETWEEN ? AND ?"
    )
    found: dict[int, int] = {}
    for block, packed in connection.execute(statement, (json.dumps(things), low, high)):
        found[block] = found.get(block, 0) | _unpacked(packed)
    return found


def positions_of(block: int, bits: int, *, descending: bool) -> Iterator[int]:
    """Yield the positions that bits of a block stand for."""
    base = block * BLOCK
    while bits:
        top = (bits if descending else bits & -bits).bit_length() - 1
        bits ^= 1 << top
        yield base + top


def _packed(bits: int) -> bytes:
    if bits.bit_count() >= _FEW:
        return bits.to_bytes(_BYTES, "little")
    return array("H", (offset for offset in positions_of(0, bits, descending=False))).tobytes()


def _unpacked(packed: bytes) -> int:
    if len(packed) == _BYTES:
        return int.from_bytes(packed, "little")
    bits = 0
    for offset in array("H", packed):
        bits |= 1 << offset
    return bits
