"""The lease: whether this executor may still start work. It stops before the server takes it for dead.

The lease serves liveness only; the tokens keep two executors from doing harm (docs/adr/0002). Heartbeats renew it.
Incoming messages never do: after a pause (SIGSTOP, a suspended machine) old dispatches are still in the buffers.
"""

from __future__ import annotations

_MARGIN = 0.2
"""The part of the time to live that is given up, for the travel time of messages."""


class Lease:
    """The lease of one connection.

    Args:
        ttl_s: the server's time to live in seconds; 0 if the lease never runs out.
        now: seconds of the monotonic clock.
    """

    def __init__(self, ttl_s: float, now: float) -> None:
        self._valid_s = ttl_s * (1 - _MARGIN) if ttl_s else float("inf")
        self._renewed_at = now

    def holds(self, now: float) -> bool:
        """Return whether work may be started."""
        return now - self._renewed_at < self._valid_s

    def renew(self, sent_at: float) -> None:
        """Renew the lease after a heartbeat. `sent_at` is the time before the write began."""
        assert self.holds(sent_at), "a lease that has run out is not renewed: another executor may serve the hosts"
        self._renewed_at = sent_at
