"""A page is read in batches and built in slices, so that the event loop never waits long for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from snapshotd.server.paging import Rows, in_slices, read_page, that_fit

MANY = 10_000


@dataclass
class Counted:
    """A list of numbers that counts what is read, filtered and built in each turn of the event loop."""

    rows: range = range(MANY)
    fetched: list[int] = field(default_factory=list)
    """Rows of each query."""
    worked: dict[int, int] = field(default_factory=dict)
    """Rows that were filtered or built, by the turn."""
    turn: int = 0

    async def fetch(self, after: int | None, limit: int) -> Sequence[int]:
        """Return numbers above one."""
        first = 0 if after is None else after + 1
        found = self.rows[first : first + limit]
        self.fetched.append(len(found))
        return found

    def work(self, rows: int) -> None:
        """Count work."""
        self.worked[self.turn] = self.worked.get(self.turn, 0) + rows

    def even(self, row: int) -> bool:
        """Filter."""
        self.work(1)
        return row % 2 == 0

    async def build(self, rows: Sequence[int]) -> Sequence[StringValue]:
        """Build messages."""
        self.work(len(rows))
        return [StringValue(value=str(row)) for row in rows]

    async def count_turns(self) -> None:
        """Count the turns of the loop, until cancelled."""
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def read(source: Counted, after: int | None, size: int) -> tuple[list[str], int | None]:
    """Read a page of the even numbers."""
    turns = asyncio.create_task(source.count_turns())
    page = await read_page(Rows(source.fetch, lambda row: row, source.even), after, size, source.build)
    turns.cancel()
    return [entry.value for entry in page.entries], page.end


async def test_a_page_of_a_thousand_is_built_in_small_slices_each_in_a_turn_of_its_own() -> None:
    source = Counted()
    entries, end = await read(source, None, 1000)
    assert (len(entries), end) == (1000, 1998)
    assert max(source.fetched) <= 100
    assert sum(source.fetched) <= 2100
    assert max(source.worked.values()) <= 40, "20 rows filtered, 20 messages built"


async def test_a_filter_that_nothing_meets_is_applied_in_slices_too() -> None:
    source = Counted()

    def none(row: int) -> bool:
        return source.even(row) and row > MANY

    turns = asyncio.create_task(source.count_turns())
    page = await read_page(Rows(source.fetch, lambda row: row, none), None, 10, source.build)
    turns.cancel()
    assert (list(page.entries), page.end) == ([], None)
    assert sum(source.fetched) == MANY
    assert max(source.worked.values()) <= 20


@pytest.mark.parametrize("size", [1, 7, 20, 99, 100, 333, 5000])
async def test_pages_put_together_are_the_whole_list(size: int) -> None:
    source, seen, after = Counted(rows=range(1000)), [], None
    while True:
        entries, after = await read(source, after, size)
        seen += entries
        if after is None:
            break
        assert len(entries) == size
    assert seen == [str(n) for n in range(0, 1000, 2)]


async def test_slices_put_together_are_all_entries() -> None:
    slices = [some async for some in in_slices(range(50))]
    assert [len(some) for some in slices] == [20, 20, 10]
    assert [n for some in slices for n in some] == list(range(50))


MIB = 1024 * 1024


async def test_a_page_has_no_more_bytes_than_a_caller_takes_but_always_an_entry() -> None:
    sizes = [MIB // 2, MIB // 2, MIB // 2, MIB, 5 * MIB, 10, 20, 3 * MIB, 30]

    async def fetch(after: int | None, limit: int) -> Sequence[int]:
        return range(0 if after is None else after + 1, len(sizes))[:limit]

    async def build(rows: Sequence[int]) -> Sequence[StringValue]:
        return [StringValue(value="x" * sizes[row]) for row in rows]

    pages: list[list[int]] = []
    after: int | None = None
    while after is not None or not pages:
        page = await read_page(Rows(fetch, lambda row: row), after, 1000, build)
        pages.append([len(entry.value) for entry in page.entries])
        after = page.end
    assert [size for page in pages for size in page] == sizes
    assert pages == [sizes[:3], sizes[3:4], sizes[4:5], sizes[5:7], sizes[7:8], sizes[8:]]


def test_an_answer_without_pages_holds_what_fits() -> None:
    entries = [StringValue(value="x" * MIB) for _ in range(3)]
    assert that_fit(entries) == entries[:1]
    assert that_fit(entries[:1]) == entries[:1]
    assert that_fit([]) == []
