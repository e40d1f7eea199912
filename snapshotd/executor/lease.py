"""Whether this executor may still start work: it fences itself before the server takes it for dead.

Serves liveness only; that two executors do no harm is the tokens' business (docs/adr/0002). Renewed by heartbeats,
never by what comes in: after a pause (SIGSTOP, a suspended machine) old dispatches are still in the buffers.
"""

from __future__ import annotations

_MARGIN = 0.2
"""Part of the time to live that is given up, for what a message takes."""


class Lease:
    """The lease of one connection.

    Args:
        ttl_s: the server's time to live, seconds; 0 means that it never runs out.
        now: by the monotonic clock, seconds.
    """

    def __init__(self, ttl_s: float, now: float) -> None:
        self._valid_s = ttl_s * (1 - _MARGIN) if ttl_s else float("inf")
        self._renewed_at = now

    def holds(self, now: float) -> bool:
        """Return whether work may be started."""
        return now - self._renewed_at < self._valid_s

    def renew(self, sent_at: float) -> None:
        """Note a heartbeat that was written; it counts from before the write began."""
        assert self.holds(sent_at), "a lease that ran out is not renewed: the server may have given the hosts away"
        self._renewed_at = sent_at
