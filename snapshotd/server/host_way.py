"""Reads from requests how a host is reached: the fields that UpdateHost changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from snapshotd.api.v1 import host_pb2 as pb
from snapshotd.domain.errors import InvalidArgument

_FIELDS: Final[Mapping[str, Callable[[pb.Host], str | int]]] = {
    "address": lambda host: host.address,
    "port": lambda host: host.port,
    "transport": lambda host: transport_name(host.transport or pb.Host.NTLM_HTTP),
    "credential": lambda host: host.credential,
    "ca_file": lambda host: host.ca_file,
}
"""The fields that can be changed, by their names in the API and in the record."""
_FIXED: Final = ("journal_directory", "labels")
"""What a caller may set, and an update does not change."""


def transport_name(value: pb.Host.Transport.ValueType) -> str:
    """Return the name of a transport. An unknown number stays a number, so that the refusal shows it."""
    return pb.Host.Transport.Name(value) if value in pb.Host.Transport.values() else str(value)


def way_of(request: pb.UpdateHostRequest) -> dict[str, str | int]:
    """Return the values to change. Raises InvalidArgument for a mask that names something else, or nothing."""
    host = request.host
    paths = list(request.update_mask.paths)
    if not paths:
        paths = [name for name in (*_FIELDS, *_FIXED) if getattr(host, name)]
    for path in paths:
        if path not in _FIELDS:
            raise InvalidArgument("update_mask", path[:100], f"must be of: {', '.join(_FIELDS)}.")
    if not paths:
        raise InvalidArgument("update_mask", "", f"it is empty, and so is each of: {', '.join(_FIELDS)}.")
    return {path: _FIELDS[path](host) for path in paths}
