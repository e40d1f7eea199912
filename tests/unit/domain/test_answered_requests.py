"""A repeated request gets its first answer: the last 1,000 of each caller, or those of seven days, are remembered."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from snapshotd.domain.answered_requests import (
    REMEMBERED_FOR,
    REMEMBERED_REQUESTS,
    AnsweredRequests,
    answered_before,
    remember,
)
from snapshotd.domain.errors import RequestIdReused
from snapshotd.domain.events import Occasion
from snapshotd.domain.ids import OperationName
from tests.fakes import START

OPERATION = OperationName("operations/v.1-a")


def answered(requests: AnsweredRequests, actor: str, number: int, after: timedelta) -> AnsweredRequests:
    """Return the requests with one more."""
    at = Occasion(version=1, time=START + after, actor=actor, request_id=f"r{number}")
    return remember(requests, f"d{number}", OPERATION, at)


def known(requests: AnsweredRequests, actor: str, numbers: range) -> list[int]:
    """Return which of a caller's requests are remembered."""
    return [n for n in numbers if answered_before(requests, actor, f"r{n}", f"d{n}") is not None]


def test_a_request_is_known_by_its_caller_and_its_id_and_its_payload_is_compared() -> None:
    requests = answered(AnsweredRequests(), "ann", 1, timedelta())
    first = answered_before(requests, "ann", "r1", "d1")
    assert first is not None
    assert (first.operation, first.at) == (OPERATION, START)
    assert answered_before(requests, "bob", "r1", "d1") is None
    assert answered_before(requests, "ann", "", "d1") is None
    with pytest.raises(RequestIdReused):
        answered_before(requests, "ann", "r1", "d2")


def test_a_request_without_an_id_is_not_remembered() -> None:
    at = Occasion(version=1, time=START, actor="ann", request_id="")
    assert remember(AnsweredRequests(), "d", None, at) == AnsweredRequests()


def test_at_least_the_last_thousand_are_remembered_and_not_many_more() -> None:
    requests, last = AnsweredRequests(), 3 * REMEMBERED_REQUESTS
    for n in range(1, last + 1):
        requests = answered(requests, "ann", n, timedelta(seconds=n))
        assert known(requests, "ann", range(max(1, n - 20), n + 1)) == list(range(max(1, n - 20), n + 1))
    there = known(requests, "ann", range(1, last + 1))
    assert there[-REMEMBERED_REQUESTS:] == list(range(last - REMEMBERED_REQUESTS + 1, last + 1))
    assert len(there) < REMEMBERED_REQUESTS * 1.05


def test_those_of_one_caller_do_not_push_out_those_of_another() -> None:
    requests = answered(AnsweredRequests(), "ann", 0, timedelta())
    for n in range(1, 2 * REMEMBERED_REQUESTS):
        requests = answered(requests, "bob", n, timedelta(seconds=n))
    assert known(requests, "ann", range(1)) == [0]


def test_what_is_older_than_seven_days_goes_with_those_that_come_later() -> None:
    requests = AnsweredRequests()
    for n in range(100):
        requests = answered(requests, "ann", n, timedelta())
    for n in range(100, 120):
        requests = answered(requests, "ann", n, REMEMBERED_FOR)
    assert known(requests, "ann", range(120)) == list(range(100, 120))


def test_a_state_of_a_resource_is_not_changed_by_the_next_one() -> None:
    before = AnsweredRequests()
    for n in range(40):
        before = answered(before, "ann", n, timedelta())
        kept = msgspec.json.encode(before)
        answered(before, "ann", 99, timedelta())
        assert msgspec.json.encode(before) == kept
    assert msgspec.json.decode(msgspec.json.encode(before), type=AnsweredRequests) == before
