"""Builds google.protobuf.Struct from JSON values, through its wire format.

The library's own ways make several Python objects of each value, and a large event has ten thousands: they take long,
and the garbage collector, which stops every thread, longer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from google.protobuf.struct_pb2 import Struct

_NULL: Final = b"\x08\x00"
_FALSE: Final = b"\x20\x00"
_TRUE: Final = b"\x20\x01"
_NUMBER: Final = b"\x11"
_STRING: Final = b"\x1a"
_STRUCT: Final = b"\x2a"
_LIST: Final = b"\x32"
"""Tags of the fields of a Value (google/protobuf/struct.proto), with the value where there are few."""
_ENTRY: Final = b"\x0a"
"""Tag of an entry of a Struct, of an entry's key, and of a value of a ListValue."""
_ENTRY_VALUE: Final = b"\x12"


def struct_of(data: Mapping[str, object]) -> Struct:
    """Return JSON values as a Struct. Numbers become doubles, as they are in JSON."""
    return Struct.FromString(_struct(data))


def _struct(data: Mapping[str, object]) -> bytes:
    return b"".join(
        _sized(_ENTRY, _sized(_ENTRY, key.encode()) + _sized(_ENTRY_VALUE, _value(value)))
        for key, value in data.items()
    )


def _value(value: object) -> bytes:
    match value:
        case None:
            return _NULL
        case bool():
            return _TRUE if value else _FALSE
        case int() | float():
            return _NUMBER + struct.pack("<d", value)
        case str():
            return _sized(_STRING, value.encode())
        case Mapping():
            return _sized(_STRUCT, _struct(value))
        case list():
            return _sized(_LIST, b"".join(_sized(_ENTRY, _value(one)) for one in value))
        case _:
            raise TypeError(f"{type(value).__name__} is no JSON value")


def _sized(tag: bytes, content: bytes) -> bytes:
    """Return a field with its length before it, as a varint."""
    size, left = bytearray(), len(content)
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    size.append(left)
    return b"".join((tag, size, content))
