"""Reads one page of a list: rows by the batch, messages by the slice, with a turn of the event loop after each slice.

    fetch (a query of _BATCH rows) ──► keep (the filter) ──► build (_SLICE rows at most) ──► page, or the next slice

So a page takes the loop no longer at a time than a slice does, whatever is asked for and however many rows there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

R = TypeVar("R")
P = TypeVar("P")
M = TypeVar("M", bound=Message)
T = TypeVar("T")

_BATCH: Final = 100
"""Rows of one query."""
_SLICE: Final = 20
"""Rows that are filtered and built into messages at a time."""
_PAGE_BYTES: Final = 2 * 1024 * 1024
"""The most bytes of a page with several entries: half of what gRPC's clients take in one message."""


@dataclass(frozen=True, slots=True)
class Rows(Generic[R, P]):
    """The rows of a list, in its order."""

    fetch: Callable[[P | None, int], Awaitable[Sequence[R]]]
    """Returns rows after a place (None: from the start), as many as are asked for if there are so many."""
    place: Callable[[R], P]
    """Returns the place of a row."""
    keep: Callable[[R], bool] = lambda _: True
    """Returns whether a row belongs to the list."""


@dataclass(frozen=True, slots=True)
class Page(Generic[M, P]):
    """One page of a list."""

    entries: Sequence[M]
    end: P | None
    """The place of its last row; None: the list ends here."""


async def read_page(
    rows: Rows[R, P], after: P | None, size: int, build: Callable[[Sequence[R]], Awaitable[Sequence[M]]]
) -> Page[M, P]:
    """Return a page.

    Args:
        rows: of the list.
        after: the place where the last page ended; None: from the start.
        size: the most entries of the page.
        build: returns the messages of a few rows.
    """
    entries: list[M] = []
    end: P | None = None
    room = _PAGE_BYTES
    async for kept in slices_of(rows, after):
        built = await build(kept[: size - len(entries)]) if len(entries) < size else ()
        for row, message in zip(kept, built, strict=False):
            room -= message.ByteSize()
            if entries and room < 0:
                return Page(entries, end)
            entries.append(message)
            end = rows.place(row)
        if len(built) < len(kept):
            return Page(entries, end)
    return Page(entries, None)


def that_fit(entries: Sequence[M]) -> Sequence[M]:
    """Return the first entries, as many as a page may have bytes: for an answer that has no pages."""
    room = _PAGE_BYTES
    for n, entry in enumerate(entries):
        room -= entry.ByteSize()
        if room < 0:
            return entries[:n]
    return entries


async def slices_of(rows: Rows[R, P], after: P | None = None) -> AsyncIterator[Sequence[R]]:
    """Yield the rows that belong to the list, a slice at a time, from a place on."""
    while True:
        batch = await rows.fetch(after, _BATCH)
        async for some in in_slices(batch):
            if kept := [row for row in some if rows.keep(row)]:
                yield kept
        if len(batch) < _BATCH:
            return
        after = rows.place(batch[-1])


async def in_slices(entries: Iterable[T]) -> AsyncIterator[Sequence[T]]:
    """Yield entries, a slice at a time, and give the event loop a turn after each."""
    whole = tuple(entries)
    for start in range(0, len(whole), _SLICE):
        yield whole[start : start + _SLICE]
        await asyncio.sleep(0)
