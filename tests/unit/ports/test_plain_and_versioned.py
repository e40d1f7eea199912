"""What is written is of its own class, and what is read is read whole."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from snapshotd.domain.recorded import Recorded
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.ports import plain
from snapshotd.ports.versioned import Nothing, Versioned


@dataclass(frozen=True, slots=True)
class Item:
    """Something in a list."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Finer(Item):
    """Something more."""


@dataclass(frozen=True, slots=True)
class Several:
    """Something with lists."""

    items: tuple[Item, ...]
    names: frozenset[str] = frozenset()


@pytest.mark.parametrize("value", [Nothing(), Finer("x"), {"name": "x"}])
def test_a_value_of_another_class_is_not_written(value: object) -> None:
    with pytest.raises(AssertionError):
        Versioned(Item).write(value)
    assert Versioned(Item).write(Item("x")) == Recorded(1, {"name": "x"})


@pytest.mark.parametrize(
    ("items", "names", "said"),
    [
        ([{"name": "a"}, {"name": "b", "more": 1}], [], r"^Unknown field `more` - at `\$\.items\[1\]`$"),
        ([{"name": "a"}, {"name": "b"}, {}], [], r"^Missing field `name` - at `\$\.items\[2\]`$"),
        ([], ["a", "a"], ""),
        ([{"name": "a"}], ["a", "b", "b"], ""),
    ],
    ids=["unknown in a list", "missing in a list", "read shorter", "read shorter, another list fits"],
)
def test_a_list_that_would_be_written_otherwise_is_not_read(items: list[object], names: list[str], said: str) -> None:
    data = {"items": items, "names": names}
    with pytest.raises(ValueError, match=said or None):
        plain.decode(Several, data)
    with pytest.raises(RecordNotReadable):
        Versioned(Several).read(Recorded(1, data))


def test_a_list_that_would_be_written_so_is_read() -> None:
    data = {"items": [{"name": "a"}, {"name": "b"}], "names": ["a"]}
    assert plain.decode(Several, data) == Several((Item("a"), Item("b")), frozenset({"a"}))


def test_the_same_object_is_read_once_and_an_equal_one_by_itself() -> None:
    versioned = Versioned(Item)
    recorded = [Recorded(1, {"name": f"{n}"}) for n in range(1000)]
    assert [versioned.read(r).name for r in recorded] == [f"{n}" for n in range(1000)]
    assert versioned.read(recorded[-1]) is versioned.read(recorded[-1])
    assert versioned.read(Recorded(1, {"name": "999"})) == versioned.read(recorded[-1])
    assert [versioned.read(r).name for r in recorded] == [f"{n}" for n in range(1000)]


@pytest.mark.parametrize("text", ['{"name":"x"}', '{ "name": "x" }', '{"name":"\\u0078"}'])
def test_json_that_says_the_same_is_read_however_it_is_written(text: str) -> None:
    assert plain.decode_text(Item, text) == Item("x")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "Missing field `name`"), ('{"name":"x","more":1}', "Unknown field `more`"), ('{"name":', "^not JSON")],
)
def test_json_that_says_less_or_more_is_not_read(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plain.decode_text(Item, text)
