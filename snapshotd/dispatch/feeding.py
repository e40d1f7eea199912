"""Which executor is fed for which host. This serves liveness only: tokens keep two executors from doing harm.

It is kept in memory only. Times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.ids import HostId

EVERY_HOST = "*"
"""The host that an executor names if it reaches all."""


@dataclass(slots=True)
class _Attached:
    hosts: frozenset[str]
    heard_s: float


class Feeding:
    """The attached executors, and for each host the one that is fed."""

    def __init__(self, lease_ttl_s: float) -> None:
        """Take an executor for dead if nothing is heard of it for `lease_ttl_s`."""
        self._ttl_s = lease_ttl_s
        self._attached: dict[str, _Attached] = {}
        self._fed: dict[HostId, str] = {}

    def attach(self, executor: str, hosts: frozenset[str], now_s: float) -> None:
        """Record an executor and the hosts that it reaches."""
        self._attached[executor] = _Attached(hosts, now_s)

    def heard(self, executor: str, now_s: float) -> None:
        """Record that an executor is alive."""
        if executor in self._attached:
            self._attached[executor].heard_s = now_s

    def knows(self, executor: str) -> bool:
        """Return whether an executor counts as attached."""
        return executor in self._attached

    def serving(self, executor: str) -> tuple[HostId, ...]:
        """Return the hosts that an executor is fed for, by id."""
        return tuple(sorted(host for host, fed in self._fed.items() if fed == executor))

    def detach(self, executor: str) -> None:
        """Forget an executor; nobody is fed for its hosts now."""
        self._attached.pop(executor, None)
        for host in self.serving(executor):
            del self._fed[host]

    def forget(self, host_id: HostId) -> None:
        """Note that nobody is fed for a host any more."""
        self._fed.pop(host_id, None)

    def silent(self, now_s: float) -> tuple[str, ...]:
        """Return the executors that have not been heard of for too long."""
        return tuple(name for name, a in self._attached.items() if now_s - a.heard_s > self._ttl_s)

    def fed(self, host_id: HostId) -> str | None:
        """Return the executor that is fed for a host. If none is, choose the first attached that reaches it."""
        if host_id not in self._fed:
            for name, attached in self._attached.items():
                if host_id in attached.hosts or EVERY_HOST in attached.hosts:
                    self._fed[host_id] = name
                    break
        return self._fed.get(host_id)
