"""Which names a pattern matches, and how bad ones are refused."""

import pytest

from snapshotd.domain.errors import InvalidArgument
from snapshotd.server.registering import matching


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("web*", ("web", "web01", "WEB-x"), ("aweb", "we")),
        ("*01", ("01", "web01", "db0101"), ("01a",)),
        ("w?b01", ("web01", "wäb01"), ("wb01", "weeb01")),
        ("*a*b*c", ("abc", "xaybzc", "abcbc"), ("acb", "abcx")),
        ("a.c", ("a.c", "A.C"), ("abc",)),
        ("[x]*", ("[x]1",), ("x1",)),
        ("**", ("", "any\nthing"), ()),
        ("a**b", ("ab", "axb"), ("a", "b")),
        ("ab*ba", ("abba", "abxba"), ("aba",)),
    ],
)
def test_a_pattern_matches_whole_names_in_any_case(
    pattern: str, matched: tuple[str, ...], others: tuple[str, ...]
) -> None:
    matches = matching([pattern])
    assert all(map(matches, matched))
    assert not any(map(matches, others))


def test_one_of_several_patterns_is_enough_and_without_any_every_name_matches() -> None:
    matches = matching(["web*", "db?"])
    assert [name for name in ("web1", "db1", "db10", "x") if matches(name)] == ["web1", "db1"]
    assert matching([])("anything")


def test_no_pattern_makes_a_comparison_endless() -> None:
    assert not matching(["*a" * 100 + "b"])("a" * 255)


@pytest.mark.parametrize("patterns", [[""], ["a" * 256], ["a"] * 101])
def test_a_bad_pattern_is_refused(patterns: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="name_patterns"):
        matching(patterns)
