"""The details of an event in one line, made from its data, so that those of every type of event are shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.json_format import MessageToDict

from snapshotd.api.v1.audit_pb2 import Event
from snapshotd.client.render import cut, size

_LONGEST: Final = 500
"""The most columns of a line; JSON has everything."""
_ITEMS: Final = 5
"""The most entries of a list that are shown."""
_ELSEWHERE: Final = frozenset(
    {"from_state", "to_state", "snapshot_id", "number", "step", "request_digest", "version", "token"}
)
"""What other columns show, or what only programs need."""
_ENDS: Final = {
    "CurrentMoved": ("from_snapshot_id", "to_snapshot_id"),
    "SnapshotReparented": ("from_parent_id", "to_parent_id"),
    "VmPowerChanged": ("from_power", "to_power"),
}
"""Events that lead from one value to another, with the names of both."""


def detail(event: Event) -> str:
    """Return what an event holds besides its subject and its states."""
    if event.omitted_data_bytes:
        return f"({size(event.omitted_data_bytes)} of data are left out)"
    data = MessageToDict(event.data)
    if event.type in _ENDS:
        before, after = (data.pop(name, None) for name in _ENDS[event.type])
        return cut(f"{before or 'none'} -> {after or 'none'} ({data.get('cause')})", _LONGEST)
    if event.type == "DriftDetected":
        return cut(f"{data.get('kind')}: {data.get('detail')}", _LONGEST)
    if event.type == "MemoryLost":
        return "of the snapshot" if data.get("snapshot_id") else "of the guest"
    return cut("; ".join(_facts(data)), _LONGEST)


def _facts(data: dict[str, object]) -> Iterator[str]:
    """Yield what values say, a failure first: it is what people look for."""
    for name in sorted(data, key=lambda name: (name != "failure", name)):
        value = data[name]
        if name in _ELSEWHERE:
            continue
        if name == "failure" and isinstance(value, dict):
            error_id = f" [{value['error_id']}]" if value.get("error_id") else ""
            yield f"{value.get('reason')}: {value.get('message')}{error_id}"
        elif isinstance(value, dict):
            yield from _facts(value)
        elif (text := _text(value)) != "":
            yield f"{name.replace('_', ' ')} {text}"


def _text(value: object) -> str:
    """Return a value as text; empty if it says nothing."""
    if isinstance(value, list):
        plain = [_text(one) for one in value[:_ITEMS] if not isinstance(one, dict | list)]
        more = [] if len(plain) == len(value) else [f"{len(value) - len(plain)} more" if plain else f"{len(value)}"]
        return ", ".join([*plain, *more]) if value else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
