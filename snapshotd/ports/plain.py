"""Values as readable JSON, and back, strictly: nothing is ever read by halves.

Records and dataclasses are objects, enums go by value, times as RFC 3339, tuples as lists. msgspec does the work; it
takes unknown and missing fields in silence, so what was read is compared with what would be written of it: first byte
by byte, which is all for what this release wrote, and value by value if that differs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

T = TypeVar("T")


def encode_time(time: datetime) -> str:
    """Return a time as text: RFC 3339, UTC, microseconds. The texts sort as the times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def decode_time(text: str) -> datetime:
    """Return the time of a text that `encode_time` wrote. Raises ValueError."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} names no offset")
    return time


def encode(value: object) -> dict[str, object]:
    """Return a dataclass as plain JSON values."""
    data: dict[str, object] = msgspec.json.decode(msgspec.json.encode(value))
    return data


def encode_text(value: object) -> str:
    """Return a dataclass as one line of JSON."""
    return msgspec.json.encode(value).decode()


def decode(cls: type[T], data: object) -> T:
    """Return the dataclass that plain JSON values stand for.

    Raises ValueError for a value of another type, an unknown field and a missing one, even if it has a default.
    """
    try:
        value = msgspec.convert(data, cls)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    return _as_written(value, msgspec.json.encode(data))


def decode_text(cls: type[T], text: str) -> T:
    """Return the record that a line of JSON stands for. Raises ValueError as `decode` does, and for what is no JSON."""
    data = text.encode()
    try:
        value = msgspec.json.decode(data, type=cls)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    return _as_written(value, data)


def decode_own(cls: type[T], text: str) -> T:
    """Return the dataclass in a line of JSON that this very release wrote, so that its fields are known to fit."""
    return msgspec.json.decode(text, type=cls)


def read_own(cls: type[T], text: str) -> T | None:
    """Return the record in a line of JSON that `encode_text` wrote; None for what it has not written so."""
    try:
        return decode_own(cls, text)
    except msgspec.MsgspecError:
        return None


def shape(types: tuple[type, ...]) -> str:
    """Return a text that changes whenever the JSON of one of these types does."""
    _, components = msgspec.json.schema_components(types, schema_hook=lambda _: {"title": "any"})
    return msgspec.json.encode(_without_words(components), order="sorted").decode()


def _without_words(schema: object) -> object:
    """Return a schema without docstrings, which change nothing. A field named description is an object here."""
    if isinstance(schema, dict):
        return {k: _without_words(part) for k, part in schema.items() if k != "description" or isinstance(part, dict)}
    return schema


def _as_written(value: T, data: bytes) -> T:
    """Return what was read from JSON. Raises ValueError if the JSON is not as it would be written."""
    written = msgspec.json.encode(value)
    if written != data:
        difference = _difference(msgspec.json.decode(data), msgspec.json.decode(written), "$")
        if difference is not None:
            raise ValueError(difference)
    return value


def _difference(data: object, written: object, path: str) -> str | None:
    """Return where data differ from what would be written; None if they do not."""
    if data == written:
        return None
    if isinstance(data, dict) and isinstance(written, dict):
        for key in sorted(data.keys() | written.keys()):
            if key not in written or key not in data:
                return f"{'Unknown' if key in data else 'Missing'} field `{key}` - at `{path}`"
            if (found := _difference(data[key], written[key], f"{path}.{key}")) is not None:
                return found
    if isinstance(data, list) and isinstance(written, list):
        pairs = zip(data, written, strict=True)
        return next(f for n, (d, w) in enumerate(pairs) if (f := _difference(d, w, f"{path}[{n}]")))
    return f"Not as it would be written: {data!r} - at `{path}`"
