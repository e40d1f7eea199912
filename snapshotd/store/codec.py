"""Turns the domain's frozen dataclasses into readable JSON values, and back, strictly.

Enums go by name, times as RFC 3339 in UTC with microseconds, tuples as lists. What a class looks like is read
once, from its type hints. Strict: a missing or an unknown field, or a value of another type, is an error; an event is
never read by halves.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

from snapshotd.domain.events import Event
from snapshotd.store.errors import UnreadableEvent
from snapshotd.store.topics import CLASSES, TOPICS, UPCASTS

_Convert = Callable[[Any], Any]


def encode(event: Event) -> tuple[str, str]:
    """Return an event's topic, and its data as one line of JSON."""
    cls: Any = type(event)
    data = _encoder(cls)(event)
    return TOPICS[cls], json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def event_data(event: Event) -> dict[str, object]:
    """Return an event's data as plain JSON values, as the log has them."""
    data: dict[str, object] = _encoder(type(event))(event)
    return data


def decode(topic: str, text: str) -> Event:
    """Return the event that was written under a topic, older versions upcast.

    Raises UnreadableEvent for an unknown topic, and for data that does not fit it.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UnreadableEvent(topic, f"not JSON: {error}") from error
    while topic in UPCASTS:
        topic, upcast = UPCASTS[topic]
        data = upcast(data)
    cls: Any = CLASSES.get(topic)
    if cls is None:
        raise UnreadableEvent(topic, "no event of this name is known; the log may be of a newer release")
    try:
        event: Event = _decoder(cls)(data)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableEvent(topic, f"{type(error).__name__}: {error}") from error
    return event


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
def _encoder(hint: Any) -> _Convert:  # noqa: ANN401  (a type hint is any object)
    hint = _plain(hint)
    if is_dataclass(hint):
        parts = [(f.name, _encoder(h)) for f, h in _fields(hint)]
        return lambda value: {name: convert(getattr(value, name)) for name, convert in parts}
    if get_origin(hint) is tuple:
        item = _encoder(get_args(hint)[0])
        return lambda values: [item(v) for v in values]
    if get_origin(hint) in (Union, types.UnionType):
        inner = _encoder(_optional(hint))
        return lambda value: None if value is None else inner(value)
    if hint is datetime:
        return encode_time
    if issubclass(hint, Enum):
        return lambda value: value.name
    return lambda value: value


@cache
def _decoder(hint: Any) -> _Convert:  # noqa: ANN401
    hint = _plain(hint)
    if is_dataclass(hint):
        return _dataclass_decoder(hint)
    if get_origin(hint) is tuple:
        item = _decoder(get_args(hint)[0])
        return lambda values: tuple(item(v) for v in _of(list, values))
    if get_origin(hint) in (Union, types.UnionType):
        inner = _decoder(_optional(hint))
        return lambda value: None if value is None else inner(value)
    if hint is datetime:
        return lambda value: decode_time(_of(str, value))
    if issubclass(hint, Enum):
        return lambda value: hint[_of(str, value)]
    return lambda value: _of(hint, value)


def _dataclass_decoder(cls: Any) -> _Convert:  # noqa: ANN401
    parts = {f.name: _decoder(h) for f, h in _fields(cls)}

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
