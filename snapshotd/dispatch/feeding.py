"""Which executor is fed for which host. This serves liveness only: tokens keep two executors from doing harm.

It is always the first attached that reaches the host, so whoever asks changes nothing, and an executor that comes later
takes nothing away. It is kept in memory only. Times are seconds of a monotonic clock, passed in.
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
    turn: int


class Feeding:
    """The attached executors, in the order in which they attached."""

    def __init__(self, lease_ttl_s: float) -> None:
        """Take an executor for dead if nothing is heard of it for `lease_ttl_s`."""
        self._ttl_s = lease_ttl_s
        self._attached: dict[str, _Attached] = {}
        self._reaching: dict[str, dict[str, _Attached]] = {}
        """By the host that they name, in the order in which they attached."""
        self._turns = 0

    def __len__(self) -> int:
        return len(self._attached)

    def attach(self, executor: str, hosts: frozenset[str], now_s: float) -> None:
        """Record an executor and the hosts that it reaches."""
        self.detach(executor)  # one that attaches again comes last
        self._turns += 1
        attached = self._attached[executor] = _Attached(hosts, now_s, self._turns)
        for host in hosts:
            self._reaching.setdefault(host, {})[executor] = attached

    def heard(self, executor: str, now_s: float) -> None:
        """Record that an executor is alive."""
        if executor in self._attached:
            self._attached[executor].heard_s = now_s

    def knows(self, executor: str) -> bool:
        """Return whether an executor counts as attached."""
        return executor in self._attached

    def detach(self, executor: str) -> None:
        """Forget an executor; the next that reaches its hosts is fed for them."""
        attached = self._attached.pop(executor, None)
        for host in attached.hosts if attached is not None else ():
            del self._reaching[host][executor]
            if not self._reaching[host]:
                del self._reaching[host]

    def silent(self, now_s: float) -> tuple[str, ...]:
        """Return the executors that have not been heard of for too long."""
        return tuple(name for name, a in self._attached.items() if now_s - a.heard_s > self._ttl_s)

    def fed(self, host_id: HostId) -> str | None:
        """Return the executor that is fed for a host; None if no attached one reaches it."""
        by_name, by_all = (next(iter(self._reaching.get(name, {}).items()), None) for name in (host_id, EVERY_HOST))
        if by_name is None or by_all is None:
            found = by_name or by_all
        else:
            found = min(by_name, by_all, key=lambda entry: entry[1].turn)
        return found[0] if found is not None else None
