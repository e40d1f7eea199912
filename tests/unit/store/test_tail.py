"""The log's newest events in memory: what is answered from there is what the log holds, or it is not answered."""

from __future__ import annotations

from collections.abc import Sequence

from snapshotd.domain.events import Envelope
from snapshotd.domain.state import replace
from snapshotd.store.tail import Tail
from tests.unit.projections.histories import RecordedWorld

ANY = RecordedWorld().envelopes[0]


def at(*positions: int) -> Sequence[tuple[Envelope, int]]:
    """Return events at these positions, of 10 bytes each."""
    return [(replace(ANY, position=position), 10) for position in positions]


def positions(tail: Tail, after: int, limit: int = 100) -> list[int] | None:
    """Return the positions that a tail answers with."""
    found = tail.after(after, limit)
    return None if found is None else [e.position for e in found]


def test_an_empty_tail_answers_nothing() -> None:
    assert positions(Tail(), 0) is None
    assert positions(Tail(), 7) is None


def test_what_is_kept_is_answered_and_what_may_begin_before_it_is_not() -> None:
    tail = Tail()
    tail.append(at(5, 6, 7))
    assert positions(tail, 3) is None
    assert positions(tail, 4) == [5, 6, 7]
    assert positions(tail, 5, limit=1) == [6]
    assert positions(tail, 7) == []
    tail.append(at(8))
    assert positions(tail, 7) == [8]


def test_an_append_that_was_answered_before_adds_nothing() -> None:
    tail = Tail()
    tail.append(at(5, 6))
    tail.append(at(6, 5, 7, 7))
    assert positions(tail, 4) == [5, 6, 7]


def test_across_a_gap_nothing_is_answered() -> None:
    tail = Tail()
    tail.append(at(5, 6, 9, 10))
    assert positions(tail, 4) is None
    assert positions(tail, 6) is None
    assert positions(tail, 8) == [9, 10]


def test_the_oldest_go_when_there_are_too_many_or_they_are_too_large() -> None:
    few, small = Tail(events=3), Tail(size=40)
    for tail in (few, small):
        for position in range(1, 9):
            tail.append(at(position))
    assert positions(few, 4) is None
    assert positions(few, 5) == [6, 7, 8]
    assert positions(small, 4) == [5, 6, 7, 8]
    small.append([(envelope, 1000) for envelope, _ in at(9)])
    assert positions(small, 8) is None
    small.append(at(10))
    assert positions(small, 9) == [10]
