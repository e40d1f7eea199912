"""Turns frozen dataclasses into readable JSON values, and back, strictly.

Enums go by name, times as RFC 3339 in UTC with microseconds, tuples as lists. What a class looks like is read
once, from its type hints. Strict: a missing or an unknown field, or a value of another type, is an error; nothing is
ever read by halves.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

_Convert = Callable[[Any], Any]


def encode_time(time: datetime) -> str:
    """Write a time: RFC 3339, UTC, microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def decode_time(text: str) -> datetime:
    """Read what `encode_time` wrote. Raises ValueError."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} names no offset")
    return time


@cache
def encoder(hint: Any) -> _Convert:  # noqa: ANN401  (a type hint is any object)
    """Return what turns values of a type into plain JSON values."""
    hint = _plain(hint)
    if is_dataclass(hint):
        parts = [(f.name, encoder(h)) for f, h in _fields(hint)]
        return lambda value: {name: convert(getattr(value, name)) for name, convert in parts}
    if get_origin(hint) is tuple:
        item = encoder(get_args(hint)[0])
        return lambda values: [item(v) for v in values]
    if get_origin(hint) in (Union, types.UnionType):
        inner = encoder(_optional(hint))
        return lambda value: None if value is None else inner(value)
    if hint is datetime:
        return encode_time
    if issubclass(hint, Enum):
        return lambda value: value.name
    return lambda value: value


@cache
def decoder(hint: Any) -> _Convert:  # noqa: ANN401
    """Return what turns plain JSON values into values of a type; it raises KeyError, TypeError or ValueError."""
    hint = _plain(hint)
    if is_dataclass(hint):
        return _dataclass_decoder(hint)
    if get_origin(hint) is tuple:
        item = decoder(get_args(hint)[0])
        return lambda values: tuple(item(v) for v in _of(list, values))
    if get_origin(hint) in (Union, types.UnionType):
        inner = decoder(_optional(hint))
        return lambda value: None if value is None else inner(value)
    if hint is datetime:
        return lambda value: decode_time(_of(str, value))
    if issubclass(hint, Enum):
        return lambda value: hint[_of(str, value)]
    return lambda value: _of(hint, value)


def _dataclass_decoder(cls: Any) -> _Convert:  # noqa: ANN401
    parts = {f.name: decoder(h) for f, h in _fields(cls)}

    def convert(data: Any) -> Any:  # noqa: ANN401
        if _of(dict, data).keys() != parts.keys():
            raise ValueError(f"{cls.__name__} has {sorted(parts)}, the data {sorted(data)}")
        return cls(**{name: part(data[name]) for name, part in parts.items()})

    return convert


def _fields(cls: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    hints = get_type_hints(cls)
    return [(f, hints[f.name]) for f in fields(cls)]


def _plain(hint: Any) -> Any:  # noqa: ANN401
    while isinstance(hint, NewType):
        hint = hint.__supertype__
    return hint


def _optional(hint: Any) -> Any:  # noqa: ANN401
    inner = [h for h in get_args(hint) if h is not types.NoneType]
    assert len(inner) == 1, hint
    return inner[0]


def _of(cls: type, value: Any) -> Any:  # noqa: ANN401
    if type(value) is not cls:
        raise TypeError(f"{value!r} is no {cls.__name__}")
    return value
