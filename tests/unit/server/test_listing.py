"""Filters, orders and page tokens mean what the conventions say, and nonsense is refused with its value."""

from datetime import UTC, datetime

import pytest

from snapshotd.domain.errors import InvalidArgument
from snapshotd.server.listing import Fields, matcher, ordered, page_of
from snapshotd.server.request_errors import FilterInvalid, OrderByInvalid

Entry = tuple[str, int, datetime]

ENTRIES: list[Entry] = [
    ("web", 3, datetime(2026, 1, 3, tzinfo=UTC)),
    ('a "b" c', 1, datetime(2026, 1, 1, tzinfo=UTC)),
    ("db", 2, datetime(2026, 1, 2, tzinfo=UTC)),
    ("db", 9, datetime(2026, 1, 9, tzinfo=UTC)),
]
FIELDS: Fields[Entry] = {"name": lambda e: e[0], "size": lambda e: e[1], "create_time": lambda e: e[2]}


def kept(text: str) -> list[int]:
    """Return the sizes of the entries that a filter keeps."""
    return [e[1] for e in ENTRIES if matcher(text, FIELDS)(e)]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", [3, 1, 2, 9]),
        ('name = "db"', [2, 9]),
        ("name=db", [2, 9]),
        ('name != "db"', [3, 1]),
        ('name = "a \\"b\\" c"', [1]),
        ('name = "db" AND size > 2', [9]),
        ('size >= 2 AND size<=3 and name="web"', [3]),
        ('create_time < "2026-01-02T00:00:00Z"', [1]),
    ],
)
def test_a_filter_keeps_what_it_says(text: str, sizes: list[int]) -> None:
    assert kept(text) == sizes


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        'colour = "red"',
        'name = "a" OR name = "b"',
        'name = "a" AND',
        'name = "a" size = 1',
        'name = "a',
        "=",
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(FilterInvalid) as refused:
        matcher(text, FIELDS)
    assert refused.value.filter == text


@pytest.mark.parametrize("text", ["size > many", 'create_time > "yesterday"', 'create_time > "2026-01-02"'])
def test_a_value_of_the_wrong_kind_is_refused(text: str) -> None:
    with pytest.raises(FilterInvalid):
        kept(text)


@pytest.mark.parametrize(
    ("text", "sizes"), [("", [1, 2, 9, 3]), ("size desc", [9, 3, 2, 1]), ("name, size desc", [1, 9, 2, 3])]
)
def test_an_order_sorts_by_its_fields_in_turn(text: str, sizes: list[int]) -> None:
    assert [e[1] for e in ordered(ENTRIES, text, FIELDS, "name")] == sizes


@pytest.mark.parametrize("text", ["colour", "name upwards", "name,", ","])
def test_an_order_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(OrderByInvalid):
        ordered(ENTRIES, text, FIELDS, "name")


def test_pages_put_together_are_the_whole_list() -> None:
    entries, token = list(range(7)), ""
    seen: list[int] = []
    for _ in range(4):
        page = page_of(entries, 2, token, "things", "")
        seen += page.entries
        token = page.next_token
    assert seen == entries
    assert token == ""


@pytest.mark.parametrize("token", ["x", "W10=", "bm90IGpzb24="])
def test_a_token_that_was_never_given_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument):
        page_of([1, 2, 3], 1, token, "things")


def test_a_token_of_another_filter_is_refused() -> None:
    token = page_of([1, 2, 3], 1, "", "things", "name = a").next_token
    with pytest.raises(InvalidArgument):
        page_of([1, 2, 3], 1, token, "things", "name = b")
