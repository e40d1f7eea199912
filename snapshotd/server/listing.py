"""Filter, order and pages, the same for all lists (AIP-132, AIP-158, AIP-160).

A filter is `field = "value"` (also != < <= > >=), joined by AND; on labels `labels.key = "value"` (also !=), and
`labels:key` for those that have one of that key. An order is field names joined by commas, each
followed by " desc" if it descends. A page token holds how far the list was read, and is bound to the other arguments.
Anybody can make one up, so its place is checked like any other input.
"""

from __future__ import annotations

import base64
import hashlib
import json
import operator
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, Generic, TypeAlias, TypeVar, cast

from google.protobuf.message import Message

from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.names import same_but_for_case
from snapshotd.ports.plain import decode_time
from snapshotd.ports.views import Compare, PageQuery, Where
from snapshotd.server.callers import Actor
from snapshotd.server.paging import Rows, read_page
from snapshotd.server.request_errors import FilterInvalid, OrderByInvalid

E = TypeVar("E")
P = TypeVar("P")
M = TypeVar("M", bound=Message)
Value: TypeAlias = str | int | datetime
Found: TypeAlias = Value | None
"""The value of an entry; None, of one that has none, meets no comparison."""
Place: TypeAlias = tuple[str, ...]
"""The place of an entry in an order: its values of the fields of that order."""

_TERM: Final = re.compile(r'\s*([a-z_]+)\s*(!=|<=|>=|=|<|>)\s*("(?:[^"\\]|\\.)*"|[^\s"]+)\s*')
_LABEL: Final = re.compile(
    r'\s*labels\s*(?:\.\s*({0})\s*(!=|=)\s*("(?:[^"\\]|\\.)*"|[^\s"]+)|:\s*({0}|\*))\s*'.format(
        r'"(?:[^"\\]|\\.)*"|[A-Za-z0-9_./-]+'
    )
)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
"""SQLite takes these as integers, too."""
_AND: Final = re.compile(r"AND\s+", re.IGNORECASE)
_LONGEST: Final = 4096
"""The most characters of a filter or an order. Each is read on the event loop, and nobody needs more."""
_COMPARE: Final[dict[str, Callable[[Value, Value], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": lambda a, b: a < b,  # type: ignore[operator]  # both have the type of the field
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}


class Id(str):
    """An id in an entry. In a filter, its beginning and a `*` stand for it too."""

    __slots__ = ()

    def like(self, value: str) -> str:
        """Return what a value of a filter stands for: this id, if it does for this one."""
        beginning = value.removesuffix("*").lower()
        return self if beginning and value.endswith("*") and self.startswith(beginning) else value.lower()


class AnyCase(str):
    """A name in an entry that a filter finds however its letters' case and the composition of its characters are."""

    __slots__ = ()

    def like(self, value: str) -> str:
        """Return what a value of a filter stands for: this name, if it is one with it."""
        return self if same_but_for_case(self, value) else value


Fields: TypeAlias = Mapping[str, Callable[[E], Found]]
"""The fields that entries can be filtered by."""


Columns: TypeAlias = Mapping[str, Callable[[Compare, str], Sequence[Where]]]
"""By field, what a comparison with a value means for the columns of a list's table; nothing, if they cannot tell."""


class Filter(Generic[E]):
    """A filter that was read: called with an entry, it returns whether that meets every term.

    Args:
        terms: what an entry must meet.
        compared: the terms on fields, as field, comparison and value.
    """

    def __init__(self, terms: Sequence[Callable[[E], bool]], compared: Sequence[tuple[str, Compare, str]]) -> None:
        self._terms = tuple(terms)
        self._compared = tuple(compared)

    def __call__(self, entry: E) -> bool:
        """Return whether an entry meets the filter."""
        return all(term(entry) for term in self._terms)

    def meeting(self, term: Callable[[E], bool]) -> Filter[E]:
        """Return the filter of what meets another term, and then this one.

        Only of what meets the other one does a term here tell that it cannot be compared: nobody finds out by such an
        error what an entry holds that is not theirs to see.
        """
        return Filter((term, *self._terms), self._compared)

    def where(self, columns: Columns) -> tuple[Where, ...]:
        """Return what the columns can tell of the filter: whatever meets it meets that, but not the other way round."""
        known = [term for term in self._compared if term[0] in columns]
        return tuple(where for field, compare, value in known for where in columns[field](compare, value))


def values_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of an enumeration, but for the one that tells nothing."""
    return tuple(word for word in names if not word.endswith("_UNSPECIFIED"))


def equal(column: str, of: Callable[[str], str] = str) -> Callable[[Compare, str], Sequence[Where]]:
    """Return what equality with a value means for a column that holds `of` the value."""
    return lambda compare, value: [Where(column, "=", of(value))] if compare == "=" else []


def beginning(column: str) -> Callable[[Compare, str], Sequence[Where]]:
    """Return what equality with an id, or its beginning and a `*`, means for a column that holds the id."""

    def where(compare: Compare, value: str) -> Sequence[Where]:
        begins = value.removesuffix("*").lower()
        if compare != "=" or begins == value.lower():
            return [Where(column, "=", begins)] if compare == "=" else []
        return [Where(column, ">=", begins), Where(column, "<", f"{begins}\U0010ffff")]

    return where


def matcher(
    text: str,
    fields: Fields[E],
    labels: Callable[[E], Mapping[str, str]] | None = None,
    words: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Filter[E]:
    """Return a filter. Raises FilterInvalid.

    Args:
        text: of the request.
        fields: what entries can be filtered by.
        labels: return the labels of an entry; None: it has none.
        words: all values that a field can have, for fields that have few: a misspelt one would find nothing.
    """
    terms: list[Callable[[E], bool]] = []
    compared: list[tuple[str, Compare, str]] = []
    if len(text) > _LONGEST:
        raise FilterInvalid(text[:200], f"has {len(text)} characters; {_LONGEST} is the limit.")
    at = 0 if text.strip() else len(text)
    while at < len(text):
        if labels is not None and (found := _LABEL.match(text, at)) is not None:
            terms.append(_label_term(found, labels))
        elif (found := _TERM.match(text, at)) is not None and found[1] in fields:
            name, value = found[1], _unquoted(found[3])
            if name in words and value not in words[name]:
                raise FilterInvalid(text[:200], f"{name} is never {value!r}. It is one of: {', '.join(words[name])}.")
            compared.append((name, cast("Compare", found[2]), value))
            terms.append(_term(fields[name], found[2], value, text))
        else:
            known = ", ".join([*sorted(fields), *(['labels."key"'] if labels is not None else [])]) or "nothing"
            what = f"there is no field {found[1]!r}" if found is not None else 'write field = "value", joined by AND'
            raise FilterInvalid(text[:200], f"{what}. The fields are: {known}.")
        at = found.end()
        if at < len(text):
            joined = _AND.match(text, at)
            if joined is None or joined.end() == len(text):
                raise FilterInvalid(text[:200], "join the terms by AND.")
            at = joined.end()

    return Filter(terms, compared)


def _term(of: Callable[[E], Found], compare: str, value: str, text: str) -> Callable[[E], bool]:
    def met(entry: E) -> bool:
        found = of(entry)
        return found is not None and _COMPARE[compare](found, _like(found, value, text))

    return met


def _label_term(found: re.Match[str], labels: Callable[[E], Mapping[str, str]]) -> Callable[[E], bool]:
    """Return the condition of a term on labels. Without a label of that key, every value differs from its value."""
    if (has := found[4]) is not None:
        return lambda entry: bool(labels(entry)) if has == "*" else _unquoted(has) in labels(entry)
    key, compare, value = _unquoted(found[1]), found[2], _unquoted(found[3])
    return lambda entry: (labels(entry).get(key) == value) is (compare == "=")


def order_of(text: str, fields: Sequence[str], default: str) -> tuple[tuple[str, bool], ...]:
    """Return an order_by as fields, each with whether it descends; `name`, which is unique, comes last at the latest.

    If it is not named, it goes the way of the field before it, so that one index has the whole order.

    Raises OrderByInvalid.
    """
    if len(text) > _LONGEST:
        raise OrderByInvalid(text[:200], f"has {len(text)} characters; {_LONGEST} is the limit.")
    order: dict[str, bool] = {}
    for part in (text or default).split(","):
        name, _, direction = part.strip().partition(" ")
        if name not in fields or direction.strip().lower() not in ("", "asc", "desc"):
            raise OrderByInvalid(text[:200], f'name fields, " desc" after one that descends, of: {", ".join(fields)}.')
        order.setdefault(name, direction.strip().lower() == "desc")  # a field that comes again orders nothing more
    order.setdefault("name", next(reversed(order.values())))
    return tuple(order.items())


def place_in(order: Sequence[tuple[str, bool]], fields: Mapping[str, Callable[[E], str]]) -> Callable[[E], Place]:
    """Return the function that tells the place of an entry in an order."""
    return lambda entry: tuple(fields[field](entry) for field, _ in order)


def write_place(place: Place) -> str:
    """Return the text of a place in an order, for a page token."""
    return json.dumps(place)


def place_of(order: Sequence[tuple[str, bool]]) -> Callable[[str], Place]:
    """Return the function that reads a place in an order. It raises ValueError for anything else."""

    def read(text: str) -> Place:
        place = json.loads(text)
        if not isinstance(place, list) or len(place) != len(order) or not all(isinstance(part, str) for part in place):
            raise ValueError(f"{text[:100]!r} is no place in this order")
        for part in place:
            part.encode()  # a lone surrogate is no text
        return tuple(place)

    return read


class SortedPage(Generic[E]):
    """The page that a request asks for, of a list that can be ordered by several fields.

    Args:
        order_by: of the request.
        token: of the request.
        fields: return the values that entries are ordered by; `name` is among them.
        names: the fields that callers can name.
        default: the order_by of a request without one.
        arguments: what the tokens are bound to.

    Raises OrderByInvalid, and InvalidArgument for a token of another list.
    """

    def __init__(
        self,
        order_by: str,
        token: str,
        fields: Mapping[str, Callable[[E], str]],
        names: Iterable[str],
        default: str,
        arguments: Sequence[str],
    ) -> None:
        self._order = order_of(order_by, tuple(names), default)
        self._fields = fields
        self._arguments = arguments
        self._after = read_token(token, place_of(self._order), *arguments)

    async def read(
        self,
        find: Callable[[PageQuery], Awaitable[Sequence[E]]],
        matches: Filter[E],
        size: int,
        build: Callable[[Sequence[E]], Awaitable[Sequence[M]]],
        columns: Columns | None = None,
    ) -> tuple[Sequence[M], str]:
        """Return the page's entries, and the token of the next one, as AIP-158 has it.

        Args:
            find: returns the rows of a query.
            matches: the filter.
            size: the most entries of the page.
            build: returns the messages of a few rows.
            columns: what the table can tell of the filter by itself.
        """
        where = matches.where(columns or {})

        async def fetch(after: Place | None, limit: int) -> Sequence[E]:
            return await find(PageQuery(order=self._order, after=after, limit=limit, where=where))

        page = await read_page(Rows(fetch, place_in(self._order, self._fields), matches), self._after, size, build)
        return page.entries, "" if page.end is None else write_token(write_place(page.end), *self._arguments)


def write_token(place: str, *arguments: str) -> str:
    """Return the token of the place where the next page begins."""
    content = json.dumps([place, _digest(arguments)]).encode()
    return base64.urlsafe_b64encode(content).decode()


def read_token(token: str, read: Callable[[str], P], *arguments: str) -> P | None:
    """Return the place in a token; None for an empty token.

    Args:
        token: the token of the request.
        read: reads the place; raises ValueError or OverflowError if it is invalid.
        arguments: the arguments that the token is bound to.

    Raises InvalidArgument.
    """
    if not token:
        return None
    try:
        place, digest = json.loads(base64.urlsafe_b64decode(token.encode()))
        if isinstance(place, str) and digest == _digest(arguments):
            return read(place)
    except (ValueError, TypeError, OverflowError, RecursionError):
        # An unreadable token is refused like one of another list.
        pass
    raise InvalidArgument(
        "page_token", token[:40], "it is not a token of this list with these arguments. Begin again without a token."
    )


def number(place: str) -> int:
    """Return a place that is a number, 1 or more. Raises ValueError."""
    if not _NUMBER.fullmatch(place):
        raise ValueError(f"{place[:40]!r} is not a place")
    return int(place)


def _digest(arguments: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(arguments).encode()).hexdigest()[:16]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _like(entry: Value, value: str, text: str) -> Value:
    """Return the value of a filter in the type of the entry's value. Raises FilterInvalid."""
    try:
        match entry:
            case int():
                return int(value)
            case datetime():
                return decode_time(value)
            case Id() | AnyCase() | Actor():
                return entry.like(value)
            case _:
                return value
    except ValueError:
        raise FilterInvalid(
            text[:200], f"{value!r} must be of type {type(entry).__name__} (times: RFC 3339)."
        ) from None
