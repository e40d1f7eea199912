"""As of when each host last reported each VM: 24 bytes a VM, since it is kept of every VM that a host reports.

Kept in memory only: "not since the start" is an answer too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Final

from snapshotd.domain.ids import HostId, VmId

_KEY: Final = 16
"""Bytes of a VM's id, which is a GUID."""


class _OfHost:
    """The VMs of one host, in the order of their ids."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._times = array("d")
        """When each was reported: seconds since 1970, exact to the microsecond until the year 2100."""
        self._next = 0
        """The place after the one that was noted last: a report of all VMs comes in their order."""

    def get(self, vm_id: VmId) -> datetime | None:
        key = _key(vm_id)
        place = self._place(key)
        return datetime.fromtimestamp(self._times[place], UTC) if self._is_at(place, key) else None

    def note(self, vm_id: VmId, at_s: float) -> None:
        key = _key(vm_id)
        place = self._place(key)
        if self._is_at(place, key):
            self._times[place] = max(self._times[place], at_s)
        else:
            self._ids[_KEY * place : _KEY * place] = key
            self._times.insert(place, at_s)
        self._next = place + 1

    def _place(self, key: bytes) -> int:
        if self._is_at(self._next, key):
            return self._next
        return bisect_left(range(len(self._times)), key, key=self._id)

    def _is_at(self, place: int, key: bytes) -> bool:
        return self._id(place) == key

    def _id(self, place: int) -> bytes:
        return bytes(self._ids[_KEY * place : _KEY * (place + 1)])


class Observed:
    """As of when each host last reported each VM."""

    def __init__(self) -> None:
        """Begin without a report."""
        self._hosts: dict[HostId, _OfHost] = {}

    def get(self, host_id: HostId, vm_id: VmId) -> datetime | None:
        """Return as of when a host last reported a VM; None: not since the start."""
        of_host = self._hosts.get(host_id)
        return of_host.get(vm_id) if of_host is not None else None

    def note(self, host_id: HostId, vm_id: VmId, at: datetime) -> None:
        """Note that a host reported a VM as of then. A later report stands."""
        of_host = self._hosts.get(host_id)
        if of_host is None:
            of_host = self._hosts[host_id] = _OfHost()
        of_host.note(vm_id, at.timestamp())

    def forget(self, host_id: HostId) -> None:
        """Forget a host."""
        self._hosts.pop(host_id, None)


def _key(vm_id: VmId) -> bytes:
    return bytes.fromhex(vm_id.replace("-", ""))
