"""Messages as what programs read: documents, and resource names.

The names of fields are those of the protos, as in filters and in the data of events. Every field is written: an empty
list, a zero and a false too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from snapshotd.client.failure import ExitCode, Failed

_NAMED_BY: Final = ("name", "id", "subject")
"""The fields that hold a message's resource name. Elsewhere they hold other texts, without a slash."""


def as_dict(message: Message) -> dict[str, Any]:
    """Return a message in protobuf's JSON mapping, with the fields named as in the protos."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def names_of(message: Message) -> Iterator[str]:
    """Yield the resource name of a message; if it has none, those of what it holds: of one message, or of its lists."""
    own = next((name for field in _NAMED_BY if "/" in (name := str(getattr(message, field, "")))), "")
    if own:
        yield own
        return
    held = [value for field, value in message.ListFields() if field.message_type]
    one = [name for value in held if isinstance(value, Message) for name in names_of(value)]
    yield from one
    for value in held if not one else ():
        if not isinstance(value, Message | Mapping):
            for entry in value:
                yield from names_of(entry)


def no_names(_: Message) -> Iterator[str]:
    """Raise Failed, for an answer that is about no resource."""
    raise Failed("Cannot print names: this answer is about no resource of its own. Use -o json.", ExitCode.USAGE)
