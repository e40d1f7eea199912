"""How much of what comes from executors and hosts is taken in: one table of lengths, applied to every field.

Texts that are only shown are cut. A name, an id, a path or a list that is too long would mean something else when cut:
then the message breaks the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_SHOWN: Final[Mapping[str, int]] = {
    "HostError.id": 300,
    "HostError.message": 2_000,
    "NoAnswer.detail": 2_000,
    "HostFacts.name": 200,
    "HostFacts.os_version": 200,
    "HostFacts.powershell": 200,
    "VmReport.host_state": 100,
    "Hello.version": 100,
}
"""Characters that are kept of a text."""
_PATH: Final = 32_767
"""Characters of the longest path of Windows."""
_LONGEST: Final[Mapping[str, int]] = {
    "DiskReport.path": _PATH,
    "FileReport.path": _PATH,
    "FileReport.parent_path": _PATH,
    "VmReport.existing_files": _PATH,
    "VmReport.unknown_files": _PATH,
    "Value.string_value": _PATH,
}
"""Characters that an element may have, other than by `_TEXT`."""
_TEXT: Final = 1_000
"""Characters that any other text may have: names, ids, words."""
_MOST: Final[Mapping[str, int]] = {
    "VmReport.activities": 100,
    "VmReport.snapshot_blockers": 100,
    "VmReport.checkpoints": 1_000,
    "VmReport.disks": 1_000,
    "CheckpointReport.disks": 1_000,
    "Hello.hosts": 1_000,
}
"""Elements that a list may have, other than by `_LIST`."""
_LIST: Final = 10_000
"""Elements that any other list may have."""
_LARGEST: Final = 2**53
"""The largest number that is taken: exact in JSON, and beyond any size, token or count. Sums of them fit an int64."""
_LARGEST_32: Final = 2**31 - 1
_NUMBERS: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
_IN_32_BITS: Final = frozenset({FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32})


class TooLong(ValueError):
    """A field that is longer, or a number that is larger, than it may be."""


class _Rule(NamedTuple):
    """What goes for one field. Looked up once: a descriptor is slow to ask, and a report has hundreds of fields."""

    name: str
    repeated: bool
    elements: int
    """That a list may have."""
    text: bool
    characters: int
    """That a text may have."""
    shown: int | None
    """Characters that are kept of a text that is only shown; None: it is not."""
    largest: int | None
    """The largest number that is taken; None: it is no number of ours."""
    message: bool
    """It holds messages."""


@cache
def _rule(field: FieldDescriptor) -> _Rule:
    name = _name(field)
    number = field.cpp_type in _NUMBERS and field.full_name.startswith("snapshotd.")
    return _Rule(
        name=name,
        repeated=field.is_repeated,
        elements=_MOST.get(name, _LIST),
        text=field.type == FieldDescriptor.TYPE_STRING,
        characters=_LONGEST.get(name, _TEXT),
        shown=_SHOWN.get(name),
        largest=(_LARGEST_32 if field.cpp_type in _IN_32_BITS else _LARGEST) if number else None,
        message=field.message_type is not None,
    )


def bound(message: Message, later: str = "") -> None:
    """Cut the texts of a message that are only shown. Raises TooLong if anything else in it is too long.

    `later`: a field of the message that holds messages, each of which is bounded when it is read.
    """
    for field, value in message.ListFields():
        rule = _rule(field)
        if rule.repeated:
            _check(rule, len(value), rule.elements, "elements")
        if rule.text:
            _bound_text(message, field, rule, value)
        elif rule.largest is not None:
            if not 0 <= value <= rule.largest:
                raise TooLong(f"{rule.name} is {value}; 0 to {rule.largest} are taken")
        elif rule.message and field.name != later:
            for inner in _inner(rule, value):
                bound(inner)


def _inner(rule: _Rule, value: Message | Sequence[Message] | Mapping[str, Message]) -> Iterable[Message]:
    """Return the messages that a field holds; those of a map, such as a Struct's, without their names."""
    if isinstance(value, Message):  # a Struct is a Mapping, too, of what is in its fields
        return (value,)
    if isinstance(value, Mapping):
        _check(rule, max(map(len, value)), _TEXT, "characters")
        return value.values()
    return value


def _bound_text(message: Message, field: FieldDescriptor, rule: _Rule, value: str | Sequence[str]) -> None:
    """Bound a text, or all of a list, which is never only shown."""
    if rule.repeated:
        _check(rule, max(map(len, value)), rule.characters, "characters")
    elif rule.shown is None:
        _check(rule, len(value), rule.characters, "characters")
    elif len(value) > rule.shown:
        setattr(message, field.name, f"{value[: rule.shown - 1]}…")


def _check(rule: _Rule, length: int, most: int, what: str) -> None:
    if length > most:
        raise TooLong(f"{rule.name} has {length} {what}; at most {most} are taken")


def _name(field: FieldDescriptor) -> str:
    owner = field.containing_type
    assert owner is not None, field.full_name
    return f"{owner.name}.{field.name}"
