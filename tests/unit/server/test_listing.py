"""Filters, orders and page tokens mean what the conventions say, and nonsense is refused with its value."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import pytest

from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, VmActivity, VolumeSnapshotState
from snapshotd.ports.views import NO_ACTIVITY
from snapshotd.server.listing import (
    AnyCase,
    Fields,
    Id,
    matcher,
    number,
    order_of,
    place_of,
    read_token,
    write_place,
    write_token,
)
from snapshotd.server.operations_service import WORDS, _place, _written
from snapshotd.server.request_errors import FilterInvalid, OrderByInvalid
from snapshotd.server.snapshot_service import _WORDS as SNAPSHOT_WORDS
from snapshotd.server.virtual_machine_service import _WORDS as VM_WORDS
from snapshotd.server.volume_snapshot_service import _WORDS as VOLUME_WORDS

Entry = tuple[str, int, datetime]

ENTRIES: list[Entry] = [
    ("web", 3, datetime(2026, 1, 3, tzinfo=UTC)),
    ('a "b" c', 1, datetime(2026, 1, 1, tzinfo=UTC)),
    ("db", 2, datetime(2026, 1, 2, tzinfo=UTC)),
    ("db", 9, datetime(2026, 1, 9, tzinfo=UTC)),
]
FIELDS: Fields[Entry] = {
    "name": lambda e: e[0],
    "size": lambda e: e[1],
    "create_time": lambda e: e[2],
    "end_time": lambda e: e[2] if e[1] > 2 else None,
    "uid": lambda e: Id(f"{e[1]}a-b"),
    "any_case_name": lambda e: AnyCase(e[0]),
}


def kept(text: str) -> list[int]:
    """Return the sizes of the entries that a filter keeps."""
    return [e[1] for e in ENTRIES if matcher(text, FIELDS)(e)]


def test_what_a_caller_may_not_see_is_not_even_compared() -> None:
    wanted = matcher("create_time > x", FIELDS)
    with pytest.raises(FilterInvalid):
        wanted(ENTRIES[0])
    assert not wanted.meeting(lambda _: False)(ENTRIES[0])


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", [3, 1, 2, 9]),
        (" \t", [3, 1, 2, 9]),
        ('name = "db"', [2, 9]),
        ("name=db", [2, 9]),
        ('name != "db"', [3, 1]),
        ('name = "a \\"b\\" c"', [1]),
        ('name = "db" AND size > 2', [9]),
        ('size >= 2 AND size<=3 and name="web"', [3]),
        ('create_time < "2026-01-02T00:00:00Z"', [1]),
        ('end_time < "2026-01-09T00:00:00Z"', [3]),
        ('end_time != "2026-01-09T00:00:00Z"', [3]),
        ('uid = "9a-b"', [9]),
        ('uid = "9A*"', [9]),
        ("uid = 9a-*", [9]),
        ('uid != "9*"', [3, 1, 2]),
        ('uid = "9a"', []),
        ('uid = "*"', []),
        ('name = "d*"', []),
        ('any_case_name = "DB"', [2, 9]),
        ('any_case_name = "d"', []),
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
        'name = "a" AND ',
        'name = "a" ANDsize = 1',
        'name = "a" size = 1',
        'name = "a',
        "=",
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(FilterInvalid) as refused:
        matcher(text, FIELDS)
    assert refused.value.filter == text


def test_a_filter_by_a_field_that_is_not_there_names_it() -> None:
    with pytest.raises(FilterInvalid, match=r"'name = \"a\" AND colour = \"red\"': there is no field 'colour'\. The"):
        matcher('name = "a" AND colour = "red"', FIELDS)


def test_a_filter_and_an_order_have_a_greatest_length() -> None:
    term, field = 'name = "db"', "name"
    fits = " AND ".join([term] * 256)
    assert len(fits) <= 4096
    assert kept(fits) == [2, 9]
    with pytest.raises(FilterInvalid, match="4096"):
        matcher(" AND ".join([term] * 257), FIELDS)
    with pytest.raises(OrderByInvalid, match="4096"):
        order_of(",".join([field] * 820), ("name",), "name")


@pytest.mark.parametrize("text", ["size > many", 'create_time > "yesterday"', 'create_time > "2026-01-02"'])
def test_a_value_of_the_wrong_kind_is_refused(text: str) -> None:
    with pytest.raises(FilterInvalid):
        kept(text)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", (("size", False), ("name", False))),
        ("size desc", (("size", True), ("name", True))),
        ("name, size DESC", (("name", False), ("size", True))),
        ("name desc,name,size asc", (("name", True), ("size", False))),
    ],
)
def test_an_order_is_its_fields_in_turn_and_always_tells_every_two_entries_apart(
    text: str, order: tuple[tuple[str, bool], ...]
) -> None:
    assert order_of(text, ("name", "size"), "size") == order


@pytest.mark.parametrize("text", ["colour", "name upwards", "name,", ","])
def test_an_order_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(OrderByInvalid):
        order_of(text, ("name", "size"), "name")


@pytest.mark.parametrize("token", ["x", "W10=", "bm90IGpzb24="])
def test_a_token_that_was_never_given_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument):
        read_token(token, number, "things")


@pytest.mark.parametrize("place", ["x", "-1", "0", "+1", "1.0", "1_0", " 1", "٣", "9" * 19, ""])
def test_a_token_for_no_position_is_refused_though_it_is_of_this_list(place: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_token(write_token(place, "things"), number, "things")
    assert refused.value.field == "page_token"


BY_NAME = (("name", False), ("size", True))


@pytest.mark.parametrize(
    "place",
    ["", "x", "1", '"a"', '["a"]', '["a", "b", "c"]', '["a", 1]', '["a", null]', '["a", "\\ud800"]', "[" * 9999],
)
def test_a_token_for_no_place_in_an_order_is_refused(place: str) -> None:
    with pytest.raises(InvalidArgument):
        read_token(write_token(place, "things"), place_of(BY_NAME), "things")


def test_a_token_for_a_place_in_an_order_is_read_as_it_was_written() -> None:
    token = write_token(write_place(("ä", "9")), "things")
    assert read_token(token, place_of(BY_NAME), "things") == ("ä", "9")


@pytest.mark.parametrize("content", [b'["1"]', b"[1, 2]", b'{"a": 1, "b": 2}', b"1", b"[" * 100_000, b"\xff"])
def test_a_token_of_another_shape_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_token(urlsafe_b64encode(content).decode(), number, "things")


NAME = "operations/11111111-2222-3333-4444-555555555555.3-0a0b0c0d"


@pytest.mark.parametrize(
    "place",
    [
        "",
        NAME,
        f"yesterday {NAME}",
        f"2026-01-03T00:00:00.000000 {NAME}",
        f"2026-01-03 {NAME}",
        f"0001-01-01T00:00:00.000000+23:59 {NAME}",
        "2026-01-03T00:00:00.000000Z ",
        "2026-01-03T00:00:00.000000Z operations/x",
    ],
)
def test_a_token_for_no_place_among_operations_is_refused(place: str) -> None:
    with pytest.raises(InvalidArgument):
        read_token(write_token(place, "operations"), _place, "operations")


def test_a_token_for_a_place_among_operations_is_read_as_it_was_written() -> None:
    time = datetime(2026, 1, 3, tzinfo=UTC)
    token = write_token(_written((time, NAME)), "operations")
    assert read_token(token, _place, "operations") == (time, NAME)
    assert read_token("", _place, "operations") is None


def test_a_token_of_another_filter_is_refused() -> None:
    token = write_token("1", "things", "name = a")
    assert read_token(token, number, "things", "name = a") == 1
    with pytest.raises(InvalidArgument):
        read_token(token, number, "things", "name = b")


def test_a_misspelt_word_is_refused_instead_of_finding_nothing() -> None:
    words = {"name": ("db", "web")}
    with pytest.raises(FilterInvalid, match=r"name is never 'dbb'\. It is one of: db, web\."):
        matcher('size > 1 AND name != "dbb"', FIELDS, words=words)
    assert [e[1] for e in ENTRIES if matcher("name = db", FIELDS, words=words)(e)] == [2, 9]


def test_the_words_of_a_filter_are_all_that_there_are() -> None:
    assert {state.name for state in OperationState} - {"NEW"} == set(WORDS["state"])
    assert {state.name for state in SnapshotState} - {"NEW"} == set(SNAPSHOT_WORDS["state"])
    assert {state.name for state in VolumeSnapshotState} - {"NEW"} == set(VOLUME_WORDS["state"])
    assert {power.name for power in Power} == set(VM_WORDS["power"])
    shown = {activity.name for activity in VmActivity if activity not in NO_ACTIVITY}
    assert shown | set(VM_WORDS["power"]) == set(VM_WORDS["state"])
