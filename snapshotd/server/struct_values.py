"""Builds google.protobuf.Struct from JSON values, through its wire format.

The library's own ways make several Python objects of each value, and a large event has ten thousands: they take long,
and the garbage collector, which stops every thread, longer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
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


_KEYS: Final = 1024
"""Keys whose encoding is kept: the fields of events are a few hundred, and the labels of VMs any number."""
_SHORT: Final = tuple(bytes((size,)) for size in range(0x80))
"""The lengths of one byte."""


def struct_of(data: Mapping[str, object]) -> Struct:
    """Return JSON values as a Struct. Numbers become doubles, as they are in JSON."""
    return Struct.FromString(_struct(data))


def _struct(data: Mapping[str, object]) -> bytes:
    return b"".join([_sized(_ENTRY, _key(key) + _sized(_ENTRY_VALUE, _value(value))) for key, value in data.items()])


@lru_cache(_KEYS)
def _key(name: str) -> bytes:
    return _sized(_ENTRY, name.encode())


def _value(value: object) -> bytes:
    # By exact types, in the order of their frequency: a pattern asks of each class whether it is one.
    cls = type(value)
    if cls is str:
        return _sized(_STRING, value.encode())  # type: ignore[attr-defined]  # it is a str
    if cls is int or cls is float:
        return _NUMBER + struct.pack("<d", value)
    if cls is bool:
        return _TRUE if value else _FALSE
    if value is None:
        return _NULL
    if isinstance(value, Mapping):
        return _sized(_STRUCT, _struct(value))
    if isinstance(value, list):
        return _sized(_LIST, b"".join([_sized(_ENTRY, _value(one)) for one in value]))
    raise TypeError(f"{cls.__name__} is no JSON value")


def _sized(tag: bytes, content: bytes) -> bytes:
    """Return a field with its length before it, as a varint."""
    left = len(content)
    if left < len(_SHORT):
        return tag + _SHORT[left] + content
    size = bytearray()
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    size.append(left)
    return b"".join((tag, size, content))
