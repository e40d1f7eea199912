"""Which events are about what: for each thing, and each block of the log's positions, which of its positions are.

    (thing, block) ──► 4,096 bits, one for each position of the block; or, if that is shorter, their offsets

All conditions on events are answered by these, in the order of the log: a block's events that meet several conditions
are the bits that are set in all. So one condition costs what two of them cost, whatever each of them is about; an index
for each would be read, and written, for every pair. A million events are 245 blocks, and a block in which one of the
conditions has no bit is not even read for the others. A block is written once, when it is complete.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from snapshotd.store.insert import Insert

BLOCK: Final = 4096
"""Positions of a block."""
_BYTES: Final = BLOCK // 8
TABLE: Final = "CREATE TABLE postings (thing, block, bits NOT NULL, PRIMARY KEY (thing, block)) WITHOUT ROWID"
_INSERT: Final = Insert("postings", 3)


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the events of any of some things."""

    things: tuple[str, ...]
    unless: str = ""
    """But not those that are about this, too."""


Condition = Sequence[Term]
"""What any of the terms finds."""
_MOST_BLOCKS: Final = 64
"""Blocks that are looked at together."""


def write_block(connection: sqlite3.Connection, block: int, about: Iterable[tuple[int, Iterable[str]]]) -> None:
    """Write a block.

    Args:
        connection: to write.
        block: its number.
        about: the positions of its events in their order, each with the things that it is about.
    """
    offsets: dict[str, array[int]] = {}
    for position, things in about:
        offset = position % BLOCK
        for thing in things:
            if thing in offsets:
                offsets[thing].append(offset)
            else:
                offsets[thing] = array("H", (offset,))
    # In the order of the table, so that it is changed from its beginning to its end.
    _INSERT(connection, [(thing, block, _packed(offsets[thing])) for thing in sorted(offsets)])


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


def _packed(offsets: array[int]) -> bytes:
    if 2 * len(offsets) < _BYTES:
        return offsets.tobytes()
    bits = bytearray(_BYTES)
    for offset in offsets:
        bits[offset >> 3] |= 1 << (offset & 7)
    return bytes(bits)


def _unpacked(packed: bytes) -> int:
    if len(packed) == _BYTES:
        return int.from_bytes(packed, "little")
    bits = 0
    for offset in array("H", packed):
        bits |= 1 << offset
    return bits
